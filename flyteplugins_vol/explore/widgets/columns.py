"""The columns of the file tree, and the line above it that names them and sorts by them."""

from __future__ import annotations

from typing import NamedTuple

from rich.text import Text
from textual import events
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from flyteplugins_vol.explore.queries import Sort
from flyteplugins_vol.explore.widgets.layout import left, right


class Columns(NamedTuple):
    """Widths in cells; 0: there is no room for it."""

    name: int
    bar: int
    size: int
    time: int
    mode: int

    @classmethod
    def of(cls, width: int, sort: Sort) -> Columns:
        """Bars only where they are in order: sorted by size."""
        size = 10
        time = 18 if width >= 56 else 0
        bar = 12 if sort is Sort.SIZE and width >= 68 else 0
        mode = 12 if width >= 104 else 0
        return cls(max(8, width - size - time - mode - (bar + 2 if bar else 0) - 1), bar, size, time, mode)


class ColumnLine(Widget):
    """A click on a column sorts by it."""

    sort: reactive[Sort] = reactive(Sort.NAME)

    class Sorted(Message):
        def __init__(self, sort: Sort) -> None:
            super().__init__()
            self.sort = sort

    def render(self) -> Text:
        columns = Columns.of(self._width, self.sort)
        text = left(Text(f"   {self._title(Sort.NAME, '▲')}"), columns.name)
        if columns.bar:
            text.append(" " * (columns.bar + 2))
        text.append(right(self._title(Sort.SIZE, "▼"), columns.size))
        if columns.time:
            text.append("  " + self._title(Sort.TIME, "▼").ljust(columns.time - 2))
        if columns.mode:
            text.append("  mode")
        return text

    def on_click(self, event: events.Click) -> None:
        columns = Columns.of(self._width, self.sort)
        end_of_size = columns.name + columns.size + (columns.bar + 2 if columns.bar else 0)
        sort = Sort.NAME if event.x < columns.name else Sort.SIZE if event.x < end_of_size else Sort.TIME
        self.post_message(self.Sorted(sort))

    @property
    def _width(self) -> int:
        return self.size.width - 1  # the tree's scrollbar

    def _title(self, sort: Sort, arrow: str) -> str:
        return f"{sort.value} {arrow}" if self.sort is sort else sort.value
