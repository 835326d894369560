"""What is shown until a version is open: one line that says what is being done."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import Screen
from textual.widgets import LoadingIndicator, Static


class LoadingScreen(Screen[None]):
    BINDINGS: ClassVar[list[BindingType]] = [Binding("q,escape", "app.quit", "Quit")]

    def compose(self) -> ComposeResult:
        with Vertical(id="loading"):
            yield Static("◆ flytevol", id="loading-name")
            yield LoadingIndicator()
            yield Static("", id="loading-step", markup=False)

    def say(self, step: str) -> None:
        if self.is_mounted:
            self.query_one("#loading-step", Static).update(step)
