"""The run and action that made a version, and the way to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from flyteplugins_vol.explore.producers import action_name, find_url
from flyteplugins_vol.explore.threads import in_thread
from flyteplugins_vol.explore.widgets.application import app_of
from flyteplugins_vol.explore.widgets.guard import guarded
from flyteplugins_vol.explore.widgets.versions import producer_pairs
from flyteplugins_vol.human import shown_text


class ProducerScreen(ModalScreen[None]):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,o", "dismiss", "Close"),
        Binding("enter,b", "browse", "Open in a browser"),
        Binding("c,y", "copy", "Copy the name"),
        Binding("u", "copy_url", "Copy the address"),
    ]

    def __init__(self, produced_by: Mapping[str, Any]) -> None:
        super().__init__()
        self._produced_by = produced_by
        self._url: str | None = None

    def compose(self) -> ComposeResult:
        with Vertical(id="producer", classes="dialog") as dialog:
            dialog.border_title = "Made by"
            dialog.border_subtitle = "c copy name   u copy address   Enter open in a browser"
            yield Static(self._text(), id="producer-facts")
            yield Static("looking for its address …", id="producer-url", markup=False)

    def on_mount(self) -> None:
        self.run_worker(guarded(self, self._find))

    def action_copy(self) -> None:
        self._copy(action_name(self._produced_by))

    def action_copy_url(self) -> None:
        if self._url:
            self._copy(self._url)

    def action_browse(self) -> None:
        if self._url:
            app_of(self).open_url(self._url)

    async def _find(self) -> None:
        self._url = await in_thread(find_url, self._produced_by)
        text = shown_text(self._url) if self._url else "Its address is not known here: flyte get run NAME shows it."
        self.query_one("#producer-url", Static).update(text)

    def _copy(self, text: str) -> None:
        app_of(self).copy_to_clipboard(text)
        self.notify(shown_text(text), title="Copied")

    def _text(self) -> Text:
        pairs = producer_pairs(self._produced_by)
        width = max((len(label) for label, _ in pairs), default=0)
        return Text("\n").join(Text.assemble((label.rjust(width), "dim"), "  ", value) for label, value in pairs)
