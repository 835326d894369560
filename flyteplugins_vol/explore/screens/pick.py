"""The volumes of a store, when nothing was named."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Footer, Static

from flyteplugins_vol.explore.widgets.rows import Rows
from flyteplugins_vol.history.volumes import VolumeEntry


class VolumeRows(Rows):
    def __init__(self, volumes: list[VolumeEntry]) -> None:
        super().__init__(id="volumes")
        self.volumes = volumes

    def on_mount(self) -> None:
        self.set_rows(len(self.volumes))

    def row_text(self, row: int, width: int) -> Text:
        volume = self.volumes[row]
        return Text.assemble(" ◆ ", (volume.name, self.style("strong")), (f"  {volume.id}", self.style("dim")))


class PickScreen(Screen[VolumeEntry]):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "none", "Open", key_display="↵"),
        Binding("q,escape", "app.quit", "Quit"),
    ]

    def __init__(self, store: str, volumes: list[VolumeEntry]) -> None:
        super().__init__()
        self._store = store
        self._volumes = volumes

    def compose(self) -> ComposeResult:
        yield Static(f" Volumes of {self._store}", id="pick-title", markup=False)
        yield VolumeRows(self._volumes)
        yield Footer(compact=True)

    def on_rows_chosen(self, event: Rows.Chosen) -> None:
        self.dismiss(self._volumes[event.rows.cursor])
