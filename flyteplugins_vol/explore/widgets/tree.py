"""The file tree: directories open in place, sizes and times beside the names, pages fetched as they come in sight."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from functools import partial
from typing import ClassVar

from rich.style import Style
from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType

from flyteplugins_vol import human
from flyteplugins_vol.explore.outline import Branch, Outline, Place
from flyteplugins_vol.explore.queries import PAGE, Entry, IndexReader, Sort, Usage
from flyteplugins_vol.explore.widgets.columns import Columns
from flyteplugins_vol.explore.widgets.guard import guarded
from flyteplugins_vol.explore.widgets.layout import bar, left, name_text, right
from flyteplugins_vol.explore.widgets.rows import Rows
from flyteplugins_vol.human import shown
from flyteplugins_vol.model import ROOT_INO

_WAITING_PAGES = 6  # those scrolled past are dropped
_INDENT = 2


class FileTree(Rows):
    """Shows one version at a time. `Rows.Chosen` is posted for files only: directories open and close."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right,l", "expand", "Open directory", show=False),
        Binding("left,h", "collapse", "Close directory", show=False),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {"rows--guide", "rows--bar", "rows--great"}

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.outline = Outline()
        self.sort = Sort.NAME
        self._reader: IndexReader | None = None
        self._usage: dict[int, Usage] = {}
        self._wanted: dict[tuple[int, int], Branch] = {}  # (id of the branch, page)
        self._unsummed: dict[int, None] = {}
        self._fetching = self._summing = False

    # -- for whoever uses it ---------------------------------------------------------------------------------------

    async def show(self, reader: IndexReader, sort: Sort, keep: bool = True) -> None:
        """Show a version. With ``keep``, the same directories are open and the cursor is on the same path."""
        paths = [branch.path for branch in self.outline.branches() if branch.path] if keep else []
        at = self.path if keep else None
        outline = Outline()
        outline.root.count = await reader.count(ROOT_INO)
        outline.root.put_page(0, await reader.page(ROOT_INO, 0, sort))
        for path in sorted(paths, key=len):
            await _open_path(outline, reader, sort, path)
        row = await self._row_of(outline, reader, sort, at or ())
        if self._reader is not reader:
            self._usage = {}
        self._reader, self.sort, self.outline = reader, sort, outline
        self._wanted.clear()
        self.set_rows(outline.rows, cursor=row if row is not None else 0)
        self.post_message(self.Moved(self))

    async def reveal(self, path: Sequence[bytes]) -> bool:
        """Open what leads to a path and put the cursor on it. False: this version does not have it."""
        if self._reader is None:
            return False
        row = await self._row_of(self.outline, self._reader, self.sort, tuple(path))
        if row is None:
            return False
        self.set_rows(self.outline.rows, cursor=row)
        self.call_after_refresh(self.show_cursor, center=True)
        self.post_message(self.Moved(self))
        return True

    @property
    def place(self) -> Place | None:
        return self.outline.place(self.cursor)

    @property
    def entry(self) -> Entry | None:
        """What the cursor is on; None while it is not known yet."""
        place = self.place
        return place.entry if place else None

    @property
    def path(self) -> tuple[bytes, ...] | None:
        place = self.place
        entry = place.entry if place else None
        return (*place.branch.path, entry.name) if place and entry else None

    def usage(self, directory: int) -> Usage | None:
        """What lies below a directory, if that is known yet."""
        return self._usage.get(directory)

    def empty_text(self) -> str:
        return "This version has no files." if self._reader is not None else ""

    # -- showing ---------------------------------------------------------------------------------------------------

    def row_text(self, row: int, width: int) -> Text:
        place = self.outline.place(row)
        if place is None:
            return Text()
        columns = Columns.of(width, self.sort)
        dim = self.style("dim")
        indent = Text("│ " * place.branch.depth, self.style("guide"))
        entry = place.entry
        if entry is None:
            self._want(place.branch, place.index // PAGE)
            return Text.assemble(" ", indent, ("  …", dim))
        text = left(Text.assemble(" ", indent, self._label(place, entry)), columns.name)
        size = self._bytes_of(entry)
        if columns.bar:
            text.append("  ")
            text.append(bar(self._share(place, size), columns.bar), self.style("bar"))
        text.append(right(_size_text(entry, size), columns.size), self._size_style(size))
        if columns.time:
            text.append("  " + human.when(entry.mtime).ljust(columns.time - 2), dim)
        if columns.mode:
            text.append("  " + human.mode(entry.mode), dim)
        return text

    def _label(self, place: Place, entry: Entry) -> Text:
        special = self.style("special")
        name = shown(entry.name)
        if entry.is_dir:
            mark = "▾ " if place.opened else "▸ "
            return Text.assemble(
                (mark, self.style("dim")), name_text(name, self.style("strong"), special), ("/", self.style("dim"))
            )
        if entry.target is not None:
            target = name_text(shown(entry.target), self.style("dim"), special)
            return Text.assemble("  ", name_text(name, self.style("link"), special), (" → ", self.style("dim")), target)
        style = self.style("added") if entry.mode & 0o111 and entry.is_file else Style()
        text = Text.assemble("  ", name_text(name, style, special))
        if _is_odd(entry):
            text.append(f"  {human.kind(entry.mode)}", self.style("dim"))
        return text

    def _bytes_of(self, entry: Entry) -> int | None:
        if not entry.is_dir:
            return entry.size
        known = self._usage.get(entry.ino)
        if known is None:
            self._want_sum(entry.ino)
            return None
        return known.bytes

    def _share(self, place: Place, size: int | None) -> float:
        above = self._usage.get(place.branch.ino)
        if above is None:
            self._want_sum(place.branch.ino)
            return 0.0
        return (size or 0) / above.bytes if above.bytes else 0.0

    def _size_style(self, size: int | None) -> Style:
        if size is None:
            return self.style("dim")
        return self.style("great") if size >= 1 << 30 else Style()

    # -- opening and closing ---------------------------------------------------------------------------------------

    def action_choose(self) -> None:
        entry = self.entry
        if entry is not None and entry.is_dir:
            self._toggle()
        elif entry is not None:
            self.post_message(self.Chosen(self))

    def action_expand(self) -> None:
        place, entry = self.place, self.entry
        if place is None or entry is None or not entry.is_dir:
            return
        if place.opened is None:
            self._toggle()
        elif place.opened.rows:
            self.cursor += 1

    def action_collapse(self) -> None:
        place = self.place
        if place is None:
            return
        if place.opened is not None:
            self._toggle()
        elif place.branch.parent is not None:
            self.cursor = self.outline.row(Place(place.branch.parent, place.branch.index))

    def on_click(self, event: events.Click) -> None:
        row = self.row_at(event.y)
        place = self.outline.place(row) if row is not None else None
        super().on_click(event)
        if place is None or place.entry is None or not place.entry.is_dir or event.chain != 1:
            return
        if event.x <= 2 + _INDENT * place.branch.depth:
            self._toggle()

    def _toggle(self) -> None:
        place, entry = self.place, self.entry
        if place is None or entry is None or not entry.is_dir:
            return
        if place.opened is not None:
            place.branch.close(place.index)
            self.set_rows(self.outline.rows)
        else:
            self.run_worker(guarded(self, partial(self._open, place, entry)))

    async def _open(self, place: Place, entry: Entry) -> None:
        reader, outline = self._reader, self.outline
        if reader is None:
            return
        count, first = await reader.count(entry.ino), await reader.page(entry.ino, 0, self.sort)
        if outline is not self.outline or place.opened is not None:
            return  # another version, or opened twice
        at = self.place
        branch = place.branch.open(place.index, entry.ino, entry.name)
        branch.count = count
        branch.put_page(0, first)
        self.set_rows(outline.rows)
        if at is not None:  # what came above must not move the cursor to another name
            self.cursor = outline.row(at)
        self.post_message(self.Moved(self))

    async def _row_of(self, outline: Outline, reader: IndexReader, sort: Sort, path: tuple[bytes, ...]) -> int | None:
        """The row of a path, once everything that leads to it is open."""
        if not path:
            return None
        branch = await _open_path(outline, reader, sort, path[:-1])
        index = await reader.position(branch.ino, path[-1], sort) if branch else None
        if branch is None or index is None:
            return None
        if not branch.has_page(index // PAGE):
            branch.put_page(index // PAGE, await reader.page(branch.ino, index // PAGE, sort))
        return outline.row(Place(branch, index))

    # -- fetching --------------------------------------------------------------------------------------------------

    def _want(self, branch: Branch, page: int) -> None:
        self._wanted.pop((id(branch), page), None)
        self._wanted[id(branch), page] = branch
        if not self._fetching:
            self._fetching = True
            self.run_worker(guarded(self, self._fetch))

    async def _fetch(self) -> None:
        """The page wanted last comes first: it is the one in sight."""
        try:
            while self._wanted and self._reader is not None:
                (_, number), branch = self._wanted.popitem()
                while len(self._wanted) > _WAITING_PAGES:
                    self._wanted.pop(next(iter(self._wanted)))
                page = await self._reader.page(branch.ino, number, self.sort)
                branch.put_page(number, page)
                self.refresh()
                place = self.place
                if place is not None and place.branch is branch and place.index // PAGE == number:
                    self.post_message(self.Moved(self))
        finally:
            self._fetching = False

    def _want_sum(self, directory: int) -> None:
        self._unsummed[directory] = None
        if not self._summing:
            self._summing = True
            self.run_worker(guarded(self, self._sum))

    async def _sum(self) -> None:
        try:
            while self._unsummed and self._reader is not None:
                reader, directories = self._reader, list(self._unsummed)[-PAGE:]
                found = await reader.usage(directories)
                for directory in directories:
                    self._unsummed.pop(directory, None)
                if reader is self._reader:
                    self._usage.update(found)
                    self.refresh()
                    self.post_message(self.Moved(self))
        finally:
            self._summing = False


async def _open_path(outline: Outline, reader: IndexReader, sort: Sort, path: Sequence[bytes]) -> Branch | None:
    """The branch of a directory; opens what is not open yet. None: there is no such directory."""
    branch = outline.root
    for name in path:
        entry = await reader.entry(branch.ino, name)
        index = await reader.position(branch.ino, name, sort) if entry is not None and entry.is_dir else None
        if entry is None or index is None:
            return None
        inner = branch.inside.get(index)
        if inner is None:
            count = await reader.count(entry.ino)
            inner = branch.open(index, entry.ino, name)
            inner.count = count
        branch = inner
    return branch


def _size_text(entry: Entry, size: int | None) -> str:
    if _is_odd(entry):
        return "–"
    return "…" if size is None else human.size(size)


def _is_odd(entry: Entry) -> bool:
    """Neither file, directory nor link: it has no size."""
    return not (entry.is_file or entry.is_dir or stat.S_ISLNK(entry.mode))
