"""Search by name, as one types."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.timer import Timer
from textual.widgets import Input, Static

from flyteplugins_vol.errors import VolumeError
from flyteplugins_vol.explore.connection import InterruptedQueryError
from flyteplugins_vol.explore.names import split
from flyteplugins_vol.explore.queries import PAGE, IndexReader
from flyteplugins_vol.explore.search import Found
from flyteplugins_vol.explore.widgets.guard import guarded
from flyteplugins_vol.explore.widgets.results import ResultRows
from flyteplugins_vol.explore.widgets.rows import Rows

_PAUSE = 0.12  # seconds without a key before the index is asked


class SearchScreen(ModalScreen["tuple[bytes, ...] | None"]):
    """Returns the path that was chosen, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Close"),
        Binding("down", "move(1)", show=False),
        Binding("up", "move(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
    ]

    def __init__(self, reader: IndexReader, pattern: str = "") -> None:
        super().__init__()
        self._reader = reader
        self._pattern = pattern
        self._timer: Timer | None = None
        self.asked = pattern
        self._answered: str | None = None  # the pattern that the results are of
        self._chosen = False  # before there were any

    def compose(self) -> ComposeResult:
        with Vertical(id="search", classes="dialog") as dialog:
            dialog.border_title = "Search"
            dialog.border_subtitle = "↑ ↓ choose   Enter go there   Esc close"
            yield Input(self._pattern, placeholder="part of a name, or a pattern: *.png", id="search-pattern")
            yield Static("", id="search-state", markup=False)
            yield ResultRows(id="search-results")

    def on_mount(self) -> None:
        self.results.more = self._more
        self._ask()

    @property
    def results(self) -> ResultRows:
        return self.query_one(ResultRows)

    @property
    def pattern(self) -> str:
        """What is typed now."""
        return self.query_one(Input).value

    def on_key(self, event: events.Key) -> None:
        """What was typed before the input had the focus is not lost."""
        field = self.query_one(Input)
        if event.is_printable and event.character and not field.has_focus:
            field.focus()
            field.insert_text_at_cursor(event.character)
            event.stop()

    def on_input_changed(self) -> None:
        self._chosen = False
        if self._timer is not None:
            self._timer.stop()
        self._timer = self.set_timer(_PAUSE, self._ask)

    def on_input_submitted(self) -> None:
        if self._answered == self.pattern:
            self._choose()
        else:
            self._chosen = True

    def on_rows_chosen(self, event: Rows.Chosen) -> None:
        event.stop()
        self._choose()

    def on_rows_moved(self, event: Rows.Moved) -> None:
        event.stop()

    def action_move(self, by: int) -> None:
        self.results.action_move(by)

    def action_page(self, by: int) -> None:
        self.results.action_page(by)

    def _choose(self) -> None:
        result = self.results.result
        if result is not None:
            self.dismiss(split(result[1]))

    def _ask(self) -> None:
        self.run_worker(guarded(self, partial(self._first, self.pattern)), exclusive=True, group="search")

    async def _first(self, pattern: str) -> None:
        self.results.clear("" if pattern else "Lower case finds both cases; a capital letter only itself.")
        self.asked = pattern
        self._say("searching …" if pattern else "")
        await self._page(pattern, None)
        if pattern and not self.results.results:
            self.results.clear("Nothing has such a name.")
        if pattern == self.pattern:
            self._answered = pattern
            if self._chosen:
                self._choose()

    async def _more(self) -> None:
        last = self.results.result and self.results.results[-1][0]
        if last is not None:
            await self._page(self.pattern, last)

    async def _page(self, pattern: str, after: Found | None) -> None:
        try:
            found = await self._reader.search(pattern, after)
            paths = await self._reader.paths({item.parent for item in found})
        except InterruptedQueryError:
            return
        except VolumeError as error:
            self._say(error.message)
            return
        if pattern != self.pattern or not self.is_attached:
            return
        results = [(item, paths[item.parent].rstrip(b"/") + b"/" + item.name) for item in found if item.parent in paths]
        complete = len(found) < PAGE
        self.results.add(results, complete=complete)
        number = len(self.results.results)
        self._say(f"{number:,}{'' if complete else ' and more'} found" if pattern else "")

    def _say(self, text: str) -> None:
        self.query_one("#search-state", Static).update(text)
