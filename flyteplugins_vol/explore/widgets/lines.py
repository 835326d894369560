"""Ready-made lines, scrolled both ways: only those in sight are rendered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from flyteplugins_vol.explore.widgets.application import app_of


class Lines(ScrollView, can_focus=True):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "scroll_down", show=False),
        Binding("k", "scroll_up", show=False),
        Binding("g", "scroll_home", show=False),
        Binding("G", "scroll_end", show=False),
    ]
    ALLOW_SELECT = False

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._lines: Sequence[Text] = ()

    def show(self, lines: Sequence[Text]) -> None:
        self._lines = lines
        widest = max((line.cell_len for line in lines), default=0)
        self.virtual_size = Size(widest + 2, len(lines))
        self.scroll_to(0, 0, animate=False)
        self.refresh()

    @property
    def text(self) -> str:
        return "\n".join(line.plain for line in self._lines)

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        x, top = round(self.scroll_offset.x), round(self.scroll_offset.y)
        if top + y >= len(self._lines):
            return Strip.blank(width, self.rich_style)
        line = self._lines[top + y].copy()
        line.no_wrap, line.end = True, ""
        strip = Strip(line.render(app_of(self).console)).apply_style(self.rich_style)
        return strip.crop(x, x + width).adjust_cell_length(width, self.rich_style)
