"""The lines above and below: what is open and whether its store answers, the views, where the cursor is."""

from __future__ import annotations

from typing import NamedTuple

from rich.style import Style
from rich.text import Text
from textual import events
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from flyteplugins_vol.explore.widgets.layout import middle
from flyteplugins_vol.human import shown_text

_WIDE = 110


class Title(NamedTuple):
    name: str
    version: str
    message: str
    note: str  # where it is no version of the store


class TopBar(Widget):
    """Name, version and message; at the right, the store."""

    COMPONENT_CLASSES = {"top--name", "top--dim", "top--online", "top--offline"}  # noqa: RUF012

    title: reactive[Title] = reactive(Title("", "", "", ""))
    store: reactive[str] = reactive("")  # its URL, or nothing
    offline: reactive[bool | None] = reactive[bool | None](None)  # None: it has not answered so far
    busy: reactive[str] = reactive("")

    def render(self) -> Text:
        dim = self._style("dim")
        state = self._state()
        room = self.size.width - state.cell_len - 1
        text = Text.assemble((" ◆ ", self._style("online")), (shown_text(self.title.name), self._style("name")))
        if self.title.version:
            text.append(f"  {self.title.version}", dim)
        if self.title.note:
            text.append(f"  {self.title.note}", self._style("offline"))
        elif self.title.message:
            text.append(f"  {shown_text(self.title.message)}")
        text.truncate(room, overflow="ellipsis")
        text.append(" " * (room - text.cell_len))
        return Text.assemble(text, state, " ")

    def _state(self) -> Text:
        dim = self._style("dim")
        if self.busy:
            return Text(f"  ◌ {self.busy}", dim)
        if not self.store:
            return Text("  ○ no store", dim)
        if self.offline is None:
            return Text("  ◌ asking the store", dim)
        if self.offline:
            return Text("  ○ offline", self._style("offline"))
        # its address where there is room for it besides the message
        where = middle(Text(self.store), min(len(self.store), self.size.width // 2 - 12)).plain
        return Text.assemble(
            f"  {where if self.size.width >= _WIDE else 'online'} ", ("●", self._style("online")), style=dim
        )

    def _style(self, name: str) -> Style:
        return self.get_component_rich_style(f"top--{name}", partial=True)


class ViewLine(Widget):
    """The names of the views; a click opens one."""

    COMPONENT_CLASSES = {"views--active", "views--key"}  # noqa: RUF012

    VIEWS = (("files", "Files"), ("history", "History"), ("changes", "Changes"))

    active: reactive[str] = reactive("files")
    extra: reactive[str] = reactive("")

    class Picked(Message):
        def __init__(self, view: str) -> None:
            super().__init__()
            self.view = view

    def render(self) -> Text:
        text = Text(" ")
        for number, (view, label) in enumerate(self.VIEWS, 1):
            if view == self.active:
                text.append(f" {number} {label} ", self.get_component_rich_style("views--active"))
            else:
                text.append(f" {number} ", self.get_component_rich_style("views--key", partial=True))
                text.append(f"{label} ")
        room = self.size.width - text.cell_len - 1
        extra = Text(self.extra, self.get_component_rich_style("views--key", partial=True))
        extra.truncate(max(0, room - 2), overflow="ellipsis")
        return Text.assemble(text, " " * (room - extra.cell_len), extra)

    def on_click(self, event: events.Click) -> None:
        end = 1
        for number, (view, label) in enumerate(self.VIEWS, 1):
            end += len(f" {number} {label} ")
            if event.x < end:
                self.post_message(self.Picked(view))
                return


class StatusLine(Widget):
    """The path that the cursor is on, and where in the list that is."""

    COMPONENT_CLASSES = {"status--dim"}  # noqa: RUF012

    path: reactive[str] = reactive("")
    position: reactive[str] = reactive("")

    def render(self) -> Text:
        room = self.size.width - len(self.position) - 3
        text = middle(Text(f" {self.path}"), room)
        return Text.assemble(text, "  ", (self.position, self.get_component_rich_style("status--dim", partial=True)))
