"""The main screen: one version of a volume, in three views."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import ContentSwitcher, Footer

from flyteplugins_vol import human
from flyteplugins_vol.errors import ObjectMissingError, StoreError, VersionNotFoundError, VolumeError
from flyteplugins_vol.explore.connection import InterruptedQueryError
from flyteplugins_vol.explore.diff import Diff
from flyteplugins_vol.explore.feed import Feed
from flyteplugins_vol.explore.names import joined
from flyteplugins_vol.explore.opened import OpenVersion
from flyteplugins_vol.explore.screens.export import ExportScreen
from flyteplugins_vol.explore.screens.help import HelpScreen
from flyteplugins_vol.explore.screens.producer import ProducerScreen
from flyteplugins_vol.explore.screens.search import SearchScreen
from flyteplugins_vol.explore.sources import Shown
from flyteplugins_vol.explore.threads import in_thread
from flyteplugins_vol.explore.versions import Versions
from flyteplugins_vol.explore.views.changes import ChangesView
from flyteplugins_vol.explore.views.files import FilesView
from flyteplugins_vol.explore.views.history import HistoryView
from flyteplugins_vol.explore.widgets.application import app_of
from flyteplugins_vol.explore.widgets.bars import StatusLine, Title, TopBar, ViewLine
from flyteplugins_vol.explore.widgets.guard import guarded, say_error
from flyteplugins_vol.explore.widgets.rows import Rows
from flyteplugins_vol.explore.widgets.versions import VersionRows, short
from flyteplugins_vol.history.record import Locator, VersionRecord
from flyteplugins_vol.human import shown


class BrowseScreen(Screen[None]):
    """Everything that asks the store runs in a worker; what it answers is shown when it comes."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "search", "Search", key_display="/"),
        Binding("s", "sort", "Sort"),
        Binding("left_square_bracket", "older", "Older", key_display="["),
        Binding("right_square_bracket", "newer", "Newer", key_display="]"),
        Binding("d", "changes", "Diff"),
        Binding("e", "export", "Export"),
        Binding("y", "copy_locator", "Locator"),
        Binding("o", "producer", "Run"),
        Binding("question_mark", "help", "Help", key_display="?"),
        Binding("q", "app.quit", "Quit"),
        Binding("1", "view('files')", show=False),
        Binding("2", "view('history')", show=False),
        Binding("3", "view('changes')", show=False),
        Binding("p", "preview", show=False),
        Binding("m", "mark", show=False),
        Binding("c", "copy_path", show=False),
        Binding("r", "retry", show=False),
        Binding("t", "app.theme", show=False),
        Binding("escape", "back", show=False),
    ]
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-wide"), (170, "-very-wide")]  # noqa: RUF012 - textual says what it is

    def __init__(self, version: OpenVersion) -> None:
        super().__init__()
        self.version = version
        self._feed: Feed | None = None
        self._marked: VersionRecord | None = None
        self._pattern = ""
        self._offline_said = False
        self._deleted: set[Locator] = set()  # of which was said that they are

    def compose(self) -> ComposeResult:
        yield TopBar(id="top")
        yield ViewLine(id="views")
        with ContentSwitcher(initial="files", id="body"):
            yield FilesView(id="files")
            yield HistoryView(id="history")
            yield ChangesView(id="changes")
        yield StatusLine(id="status")
        yield Footer(compact=True, show_command_palette=False)

    async def on_mount(self) -> None:
        shown = self.version.shown
        if shown.versions is not None and shown.record is not None:
            self._feed = Feed(shown.versions, shown.record)
        self.top.store = shown.versions.store_url if shown.versions is not None else ""
        self.files.file_tree.focus()
        await guarded(self, self._show_version)()
        self.action_retry()

    async def on_unmount(self) -> None:
        await self.version.close()
        if self.version.shown.versions is not None:
            self.version.shown.versions.close()

    # -- parts -----------------------------------------------------------------------------------------------------

    @property
    def top(self) -> TopBar:
        return self.query_one(TopBar)

    @property
    def files(self) -> FilesView:
        return self.query_one(FilesView)

    @property
    def history(self) -> HistoryView:
        return self.query_one(HistoryView)

    @property
    def changes(self) -> ChangesView:
        return self.query_one(ChangesView)

    @property
    def view(self) -> str:
        return self.query_one(ViewLine).active

    @property
    def record(self) -> VersionRecord | None:
        """The version that keys are about: in the history the one under the cursor, else the open one."""
        if self.view == "history" and isinstance(self.history.item, VersionRecord):
            return self.history.item
        return self.version.shown.record

    # -- a version -------------------------------------------------------------------------------------------------

    async def _show_version(self) -> None:
        shown, record = self.version.shown, self.version.shown.record
        version = short(str(record.locator)) if record is not None else ""
        self.top.title = Title(shown.title, version, (record.message or "") if record is not None else "", shown.note)
        totals = await self.version.reader.totals()
        self.query_one(ViewLine).extra = f"{human.count(totals.files, 'name')}, {human.size(totals.bytes)}"
        await self.files.show(self.version)
        self._show_history()

    def _open(self, record: VersionRecord) -> None:
        self.run_worker(guarded(self, partial(self._switch, record)), exclusive=True, group="open")

    async def _switch(self, record: VersionRecord) -> None:
        """Bring another version in the place of this one. The old one stays until the new one is there."""
        shown = self.version.shown
        self.top.busy = f"opening {short(str(record.locator))}"
        try:
            other = await OpenVersion.open(
                Shown(record.volume_name, shown.versions, record) if not shown.note
                else replace(shown, record=record, index=None, note="", owned=None)
            )  # fmt: skip
        except VolumeError as error:
            self._complain(error)
            return
        finally:
            self.top.busy = ""
        before, self.version = self.version, other
        await self._show_version()
        await before.close()

    # -- history ---------------------------------------------------------------------------------------------------

    def action_retry(self) -> None:
        """Ask the store again, for the history and whether it is there at all."""
        if self._feed is not None:
            self.run_worker(guarded(self, self._load_history), exclusive=True, group="history")

    async def _load_history(self) -> None:
        shown = self.version.shown
        assert self._feed is not None
        assert shown.versions is not None
        try:
            if shown.record is not None:
                await self._check_reachable(shown.versions, shown.record)
            async for _ in self._feed.load():
                self._answered(None)
                self._show_history()
            self._answered(None)
        except StoreError as error:
            self._answered(error)
        except VolumeError as error:
            self._complain(error)
        self._show_history()

    async def _check_reachable(self, versions: Versions, record: VersionRecord) -> None:
        """Raises `StoreError`. That the version was deleted is no trouble of the store's: it is said once."""
        try:
            await in_thread(versions.check_reachable, record)
        except VersionNotFoundError as error:
            if record.locator not in self._deleted:
                self._deleted.add(record.locator)
                say_error(self, error)

    def _show_history(self) -> None:
        if self._feed is None:
            empty = "An index file has no history: explore a locator or a volume's name for that."
        elif self.top.offline:
            empty = "The store does not answer, and this machine has not seen earlier versions. r asks again."
        else:
            empty = "Reading the history …"
        for rows in self.query(VersionRows):
            rows.show(
                self._feed.items if self._feed is not None else [],
                current=self.version.locator,
                marked=str(self._marked.locator) if self._marked is not None else "",
                head=self._feed.head if self._feed is not None else "",
                tags=self._feed.tags if self._feed is not None else {},
                empty=empty,
            )

    def action_older(self) -> None:
        self._step("parent", "This is the first version, or the one before is not known here.")

    def action_newer(self) -> None:
        self._step("child", "This is the newest version.")

    def _step(self, where: str, otherwise: str) -> None:
        record = self.version.shown.record
        if record is not None and self.version.shown.note and where == "parent":
            self._open(record)  # from a workspace to the version that it builds on
            return
        other = getattr(self._feed, where)(record) if self._feed is not None and record is not None else None
        if other is not None:
            self._open(other)
        elif record is not None and where == "parent" and record.parents:
            self.run_worker(guarded(self, partial(self._open_parent, record)), exclusive=True, group="open")
        else:
            self.notify(otherwise if self._feed is not None else "An index file has no history.")

    async def _open_parent(self, record: VersionRecord) -> None:
        """The parent of a version whose history is not loaded so far."""
        assert self.version.shown.versions is not None
        try:
            parent = await in_thread(self.version.shown.versions.record, record.parents[0])
        except VolumeError as error:
            self._complain(error)
            return
        await self._switch(parent)

    def action_mark(self) -> None:
        record = self.record
        if record is not None:
            self._marked = None if self._marked == record else record
            self._show_history()

    # -- changes ---------------------------------------------------------------------------------------------------

    def action_changes(self) -> None:
        record, versions = self.record, self.version.shown.versions
        if record is None or versions is None:
            self.notify("An index file has nothing to compare with.")
            return
        self.action_view("changes")
        self.run_worker(guarded(self, partial(self._compare, record)), exclusive=True, group="diff")

    async def _compare(self, record: VersionRecord) -> None:
        versions = self.version.shown.versions
        assert versions is not None
        live = self.version.shown.note and record is self.version.shown.record
        mine = self.version.reader.path if live else None
        marked = self._marked if self._marked != record else None
        try:
            if marked is None and not live and not record.parents:
                self.changes.say(short(str(record.locator)), "It is the first version: everything in it is new.")
                return
            known = self._feed.parent(record) if self._feed is not None and not live else None
            base = marked or known or (record if live else await in_thread(versions.record, record.parents[0]))
            older, newer = (base, record) if live or base.created <= record.created else (record, base)
            title = f"{short(str(older.locator))}  →  {'the workspace' if live else short(str(newer.locator))}"
            self.changes.say(title, "comparing …")
            old_index = await in_thread(versions.index, older)
            diff = await Diff.open(old_index, mine or await in_thread(versions.index, newer))
            await self.changes.show(title, diff)
        except VolumeError as error:
            self.changes.say("", error.message)
            self._complain(error)
        except InterruptedQueryError:
            pass

    # -- files -----------------------------------------------------------------------------------------------------

    def action_search(self) -> None:
        screen = SearchScreen(self.version.reader, self._pattern)

        def found(path: tuple[bytes, ...] | None) -> None:
            self._pattern = screen.asked
            if path is not None:
                self.run_worker(guarded(self, partial(self._go_to, path)), exclusive=True, group="search")

        app_of(self).push_screen(screen, found)

    async def _go_to(self, path: tuple[bytes, ...]) -> None:
        self.action_view("files")
        if not await self.files.file_tree.reveal(path):
            self.notify(f"{shown(joined(path))} is not in this version.")

    def action_sort(self) -> None:
        if self.view == "files":
            self.run_worker(
                guarded(self, partial(self.files.sort_by, self.files.next_sort())), exclusive=True, group="sort"
            )

    def action_preview(self) -> None:
        if self.view == "files":
            self.files.toggle_preview()

    def action_export(self) -> None:
        entry = self.files.file_tree.entry
        if self.view != "files" or entry is None or not entry.is_file:
            self.notify("Choose a file first; flytevol get takes whole directories.")
            return
        app_of(self).push_screen(ExportScreen(self.version, entry), self._exported)

    def _exported(self, path: str | None) -> None:
        if path:
            self.notify(shown(path.encode("utf-8", "surrogateescape")), title="Exported")

    # -- copying, and the way to the producer ------------------------------------------------------------------------

    def action_copy_locator(self) -> None:
        record = self.record
        if record is None or (self.version.shown.note and self.view != "history"):
            self.notify("This is no version: it has no locator.")
        else:
            self._copy(str(record.locator))

    def action_copy_path(self) -> None:
        path = self.changes.path if self.view == "changes" else self.files.file_tree.path
        if path is not None:
            self._copy(shown(joined(path)))

    def _copy(self, text: str) -> None:
        app_of(self).copy_to_clipboard(text)
        self.notify(text, title="Copied")

    def action_producer(self) -> None:
        record = self.record
        produced_by: Mapping[str, Any] = (record.produced_by or {}) if record is not None else {}
        if produced_by:
            app_of(self).push_screen(ProducerScreen(produced_by))
        else:
            self.notify("This version does not say which run made it.")

    # -- views -----------------------------------------------------------------------------------------------------

    def action_view(self, view: str) -> None:
        self.query_one(ViewLine).active = view
        self.query_one(ContentSwitcher).current = view
        focus = {"files": self.files.file_tree, "history": self.history.rows, "changes": self.changes.rows}
        focus[view].focus()
        self._show_status()

    def action_back(self) -> None:
        if self.view != "files":
            self.action_view("files")
        elif self.files.has_class("-preview") and self.has_class("-narrow"):
            self.files.toggle_preview()
        self.files.file_tree.focus()

    def action_help(self) -> None:
        app_of(self).push_screen(HelpScreen())

    @on(ViewLine.Picked)
    def _picked(self, event: ViewLine.Picked) -> None:
        self.action_view(event.view)

    @on(Rows.Chosen)
    def _chosen(self, event: Rows.Chosen) -> None:
        rows = event.rows
        if isinstance(rows, VersionRows) and isinstance(rows.item, VersionRecord):
            self.action_view("files")
            self._open(rows.item)
        elif rows is self.changes.rows and (path := self.changes.path) is not None:
            self.run_worker(guarded(self, partial(self._go_to, path)), exclusive=True, group="search")

    @on(FilesView.Read)
    def _read(self, event: FilesView.Read) -> None:
        self._answered(event.error)

    @on(Rows.Moved)
    def _show_status(self) -> None:
        status = self.query_one(StatusLine)
        rows: Rows = {"files": self.files.file_tree, "history": self.history.rows, "changes": self.changes.rows}[
            self.view
        ]
        path = {"files": self.files.file_tree.path, "changes": self.changes.path}.get(self.view)
        status.path = shown(joined(path)) if path else ""
        status.position = f"{rows.cursor + 1:,} of {rows.row_count:,}" if rows.row_count else ""

    # -- the store -------------------------------------------------------------------------------------------------

    def _answered(self, error: StoreError | None) -> None:
        """Note whether the store is there. An object that is missing is the volume's trouble, not the store's."""
        if error is not None and isinstance(error, ObjectMissingError):
            self._complain(error)
            return
        self.top.offline = error is not None
        if error is None and self._offline_said:
            # What they say is over, and they cover what there is.
            self.app.clear_notifications()  # pyright: ignore[reportUnknownMemberType]
        if error is not None and not self._offline_said:
            self.notify(
                f"{error.message}\nWhat is on this machine can be browsed; r asks the store again.",
                title="The store does not answer", severity="warning", timeout=10,
            )  # fmt: skip
        self._offline_said = error is not None

    def _complain(self, error: VolumeError) -> None:
        if isinstance(error, StoreError) and not isinstance(error, ObjectMissingError):
            self.top.offline = True
        say_error(self, error)
