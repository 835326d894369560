"""The tree as rows: which row shows which name, though only some pages of some directories are in memory.

Pure: it asks nobody. Rows are counted from 0 from the first name of the root; a directory that is open has the rows of
its names right below its own.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass

from flyteplugins_vol.explore.queries import PAGE, Entry
from flyteplugins_vol.model import ROOT_INO

_PAGES_KEPT = 64  # of one directory: 16,000 names


class Branch:
    """An open directory. ``count`` is None until it is known; ``inside`` has the open ones among its names."""

    def __init__(self, ino: int, path: tuple[bytes, ...], parent: Branch | None, index: int) -> None:
        self.ino = ino
        self.path = path
        self.parent = parent
        self.index = index  # which of its parent's names it is
        self.count: int | None = None
        self.inside: dict[int, Branch] = {}
        self._order: list[int] = []
        self._pages: dict[int, list[Entry]] = {}

    @property
    def depth(self) -> int:
        return len(self.path)

    @property
    def rows(self) -> int:
        """Rows below its own."""
        return (self.count or 0) + sum(branch.rows for branch in self.inside.values())

    def entry(self, index: int) -> Entry | None:
        """None: its page is not in memory, or the name is not there."""
        page = self._pages.get(index // PAGE)
        return page[index % PAGE] if page is not None and index % PAGE < len(page) else None

    def has_page(self, number: int) -> bool:
        return number in self._pages

    def put_page(self, number: int, entries: list[Entry]) -> None:
        self._pages[number] = entries
        if len(self._pages) > _PAGES_KEPT:
            self._pages.pop(next(iter(self._pages)))

    def open(self, index: int, ino: int, name: bytes) -> Branch:
        branch = Branch(ino, (*self.path, name), self, index)
        self.inside[index] = branch
        insort(self._order, index)
        return branch

    def close(self, index: int) -> None:
        del self.inside[index]
        self._order.remove(index)

    def in_order(self) -> Iterator[Branch]:
        return (self.inside[index] for index in self._order)


@dataclass(frozen=True)
class Place:
    """A name: the open directory that has it, and which of its names it is."""

    branch: Branch
    index: int

    @property
    def entry(self) -> Entry | None:
        return self.branch.entry(self.index)

    @property
    def opened(self) -> Branch | None:
        return self.branch.inside.get(self.index)


class Outline:
    def __init__(self) -> None:
        self.root = Branch(ROOT_INO, (), None, 0)

    @property
    def rows(self) -> int:
        return self.root.rows

    def place(self, row: int) -> Place | None:
        """What a row shows; None beyond the last."""
        if not 0 <= row < self.rows:
            return None
        branch = self.root
        while True:
            inner: Branch | None = None
            passed = 0  # rows of open directories above it, at this level
            for child in branch.in_order():
                at = child.index + passed
                if row <= at:
                    break
                if row <= at + child.rows:
                    inner = child
                    row -= at + 1
                    break
                passed += child.rows
            if inner is None:
                return Place(branch, row - passed)
            branch = inner

    def row(self, place: Place) -> int:
        branch, row = place.branch, place.index
        while True:
            row += sum(child.rows for child in branch.in_order() if child.index < (place.index))
            if branch.parent is None:
                return row
            row += branch.index + 1
            place = Place(branch.parent, branch.index)
            branch = branch.parent

    def branches(self) -> Iterator[Branch]:
        """Every open directory, parents first."""
        waiting = [self.root]
        while waiting:
            branch = waiting.pop()
            yield branch
            waiting.extend(branch.in_order())
