"""Files: the tree, and beside or below it what is known of the one under the cursor."""

from __future__ import annotations

from functools import partial

from textual import on
from textual.app import ComposeResult
from textual.containers import Container, Vertical
from textual.message import Message

from flyteplugins_vol.errors import StoreError, VolumeError
from flyteplugins_vol.explore.connection import InterruptedQueryError
from flyteplugins_vol.explore.opened import OpenVersion
from flyteplugins_vol.explore.queries import Sort
from flyteplugins_vol.explore.widgets.columns import ColumnLine
from flyteplugins_vol.explore.widgets.guard import guarded
from flyteplugins_vol.explore.widgets.preview import PreviewPane
from flyteplugins_vol.explore.widgets.rows import Rows
from flyteplugins_vol.explore.widgets.tree import FileTree
from flyteplugins_vol.explore.widgets.versions import VersionRows

_PAUSE = 0.06  # seconds that the cursor rests before the index is asked about a file


class FilesView(Container):
    class Read(Message):
        """The store was asked for bytes: it answered, or it did not."""

        def __init__(self, error: StoreError | None) -> None:
            super().__init__()
            self.error = error

    def compose(self) -> ComposeResult:
        yield VersionRows(id="rail")
        with Vertical(id="tree-side"):
            yield ColumnLine()
            yield FileTree(id="tree")
        yield PreviewPane(id="preview")

    def on_mount(self) -> None:
        self._version: OpenVersion | None = None

    @property
    def file_tree(self) -> FileTree:
        return self.query_one(FileTree)

    @property
    def preview(self) -> PreviewPane:
        return self.query_one(PreviewPane)

    async def show(self, version: OpenVersion) -> None:
        """Show a version; what was open and under the cursor in the one before still is."""
        self._version = version
        self.preview.show(None)
        await self.file_tree.show(version.reader, self.file_tree.sort)

    async def sort_by(self, sort: Sort) -> None:
        """Sort every directory; a great one takes a moment the first time."""
        if self._version is None:
            return
        self.query_one(ColumnLine).sort = sort
        await self.file_tree.show(self._version.reader, sort)

    def next_sort(self) -> Sort:
        orders = list(Sort)
        return orders[(orders.index(self.file_tree.sort) + 1) % len(orders)]

    def toggle_preview(self) -> None:
        """In a wide terminal the pane is there unless it was hidden, in a narrow one only when asked for."""
        shown = self.preview.display
        self.set_class(shown, "-no-preview")
        self.set_class(not shown, "-preview")
        if shown and self.preview.has_focus_within:
            self.file_tree.focus()

    # -- what happens ----------------------------------------------------------------------------------------------

    @on(ColumnLine.Sorted)
    def _sorted(self, event: ColumnLine.Sorted) -> None:
        event.stop()
        self.run_worker(guarded(self, partial(self.sort_by, event.sort)), exclusive=True, group="sort")

    @on(Rows.Moved, "#tree")
    def _moved(self) -> None:
        entry = self.file_tree.entry
        self.preview.show(entry, usage=self.file_tree.usage(entry.ino) if entry is not None else None)
        if entry is not None:
            self.set_timer(_PAUSE, lambda: self._ask_facts(entry.ino))

    @on(Rows.Chosen, "#tree")
    def _chosen(self, event: Rows.Chosen) -> None:
        event.stop()
        self.remove_class("-no-preview")
        self.add_class("-preview")
        self.run_worker(guarded(self, self._load), exclusive=True, group="preview")

    def _ask_facts(self, ino: int) -> None:
        entry = self.file_tree.entry
        if entry is not None and entry.ino == ino:
            self.run_worker(guarded(self, partial(self._facts, ino)), exclusive=True, group="facts")

    async def _facts(self, ino: int) -> None:
        if self._version is None:
            return
        try:
            facts = await self._version.reader.facts(ino)
        except (VolumeError, InterruptedQueryError):
            return  # the tree says it
        entry = self.file_tree.entry
        if entry is not None and entry.ino == ino:
            self.preview.show(entry, facts, self.file_tree.usage(ino))

    async def _load(self) -> None:
        if self._version is None:
            return
        try:
            await self.preview.load(await self._version.contents())
            self.post_message(self.Read(None))
        except StoreError as error:
            self.post_message(self.Read(error))
        except VolumeError as error:
            self.preview.say(f"{error.message}\n{error.hint}", bad=True)
