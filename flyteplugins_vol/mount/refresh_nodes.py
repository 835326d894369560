"""Numbers by which the kernel knows inodes, once a mount was refreshed: *nodes*.

What the kernel knows by a number it reads, maps and caches as one file for as long as anybody has that open. So a file
that a refresh changes gets a new number for those who look it up from then on, and the old number goes on to mean the
old file. A node is the inode's number, and above it the number of the refresh that changed the file; 0 for a file that
none has changed, whose node is the inode's number alone. Programs see the inode's number in any case.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator

_BITS = 40
NUMBER = (1 << _BITS) - 1
"""The bits of a node that are the inode's number; those above, below the canaries' (`wire_barrier`), the refresh's."""
GENERATIONS = 1 << 22
"""More refreshes than this a mount does not take: one a second for 48 days."""


class Numbers:
    """Some numbers in order, of 8 bytes each: there may be one for each file of a volume."""

    def __init__(self, numbers: Iterable[int] = ()) -> None:
        self._sorted = numbers if isinstance(numbers, array) else array("Q", sorted(numbers))

    def place(self, number: int) -> int:
        """Where it stands; -1 if it is not among them."""
        at = bisect_left(self._sorted, number)
        return at if at < len(self._sorted) and self._sorted[at] == number else -1

    def __contains__(self, number: int) -> bool:
        return self.place(number) >= 0

    def __iter__(self) -> Iterator[int]:
        return iter(self._sorted)

    def __len__(self) -> int:
        return len(self._sorted)


class Nodes:
    """The nodes of one version's inodes. Never changes: a refresh makes the next ones, see `after`."""

    def __init__(self, nodes: dict[int, int] | None = None) -> None:
        """``nodes``: by inode, those that are not the inode's own number."""
        inos = sorted(nodes or ())
        self._inos = Numbers(array("Q", inos))
        self._nodes = array("Q", [(nodes or {})[ino] for ino in inos])

    def of(self, ino: int) -> int:
        at = self._inos.place(ino)
        return ino if at < 0 else self._nodes[at]

    def after(self, gone: Iterable[int], fresh: Iterable[int], generation: int) -> Nodes:
        """As these, without the inodes that are gone, and with nodes of this generation for the fresh ones."""
        nodes = dict(zip(self._inos, self._nodes, strict=True))
        for ino in gone:
            nodes.pop(ino, None)
        for ino in fresh:
            nodes[ino] = ino | generation << _BITS
        return Nodes(nodes)

    def __bool__(self) -> bool:
        return len(self._inos) > 0
