"""A list of any length: only the rows in sight are ever made, so a million cost what twenty cost."""

from __future__ import annotations

from typing import ClassVar

from rich.style import Style
from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from flyteplugins_vol.explore.widgets.application import app_of


class Rows(ScrollView, can_focus=True):
    """Rows of one line each with a cursor. A subclass makes a row's text in `row_text`."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup,ctrl+b", "page(-1)", "Page up", show=False),
        Binding("pagedown,ctrl+f", "page(1)", "Page down", show=False),
        Binding("home,g", "first", "First", show=False),
        Binding("end,G", "last", "Last", show=False),
        Binding("enter", "choose", "Open", show=False),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "rows--cursor", "rows--hover", "rows--dim", "rows--strong", "rows--special", "rows--added", "rows--removed",
        "rows--changed", "rows--link",
    }  # fmt: skip
    ALLOW_SELECT = False

    cursor: reactive[int] = reactive(0, repaint=False)
    _hover: reactive[int | None] = reactive[int | None](None)

    class Moved(Message):
        """The cursor is on another row, or the row has another content."""

        def __init__(self, rows: Rows) -> None:
            super().__init__()
            self.rows = rows

        @property
        def control(self) -> Rows:
            return self.rows

    class Chosen(Moved):
        """Enter, or a double click."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.row_count = 0

    # -- for a subclass --------------------------------------------------------------------------------------------

    def row_text(self, row: int, width: int) -> Text:
        """What a row shows, made to fit the width."""
        raise NotImplementedError

    def empty_text(self) -> str:
        """What to show where there are no rows."""
        return ""

    def style(self, name: str) -> Style:
        """Colour of a part of a row, by its name in the style sheet: ``dim``, ``strong``, ``special``."""
        return self.get_component_rich_style(f"rows--{name}", partial=True)

    # -- for whoever uses it ---------------------------------------------------------------------------------------

    def set_rows(self, count: int, cursor: int | None = None) -> None:
        """There are ``count`` rows now; the cursor stays where it is, or goes to ``cursor``."""
        self.row_count = count
        self.virtual_size = Size(0, count)
        self.cursor = max(0, min(self.cursor if cursor is None else cursor, count - 1))
        if cursor is not None:
            self.call_after_refresh(self.show_cursor)  # the scrollbar's range has to follow first
        self.refresh()

    def show_cursor(self, *, center: bool = False) -> None:
        """Scroll so that the cursor is in sight."""
        height = max(1, self.scrollable_content_region.height)
        top = round(self.scroll_offset.y)
        if top <= self.cursor < top + height:
            return
        nearest = self.cursor if self.cursor < top else self.cursor - height + 1
        target = self.cursor - height // 2 if center else nearest
        self.scroll_to(y=max(0, target), animate=False, force=True)

    def validate_cursor(self, cursor: int) -> int:
        return max(0, min(cursor, self.row_count - 1))

    def watch_cursor(self) -> None:
        self.show_cursor()
        self.refresh()
        self.post_message(self.Moved(self))

    # -- showing ---------------------------------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        row = y + round(self.scroll_offset.y)
        base = self.rich_style
        if not self.row_count and y == 1:
            return self._strip(Text(f"  {self.empty_text()}", self.style("dim")), width, base)
        if row >= self.row_count:
            return Strip.blank(width, base)
        text = self.row_text(row, width)
        if row == self.cursor:
            cursor = self.get_component_rich_style("rows--cursor")
            if self.has_focus:  # one colour on the bar: coloured parts would not be legible on it
                text = Text(text.plain)
            return self._strip(text, width, cursor)
        if row == self._hover:
            base = self.get_component_rich_style("rows--hover")
        return self._strip(text, width, base)

    def _strip(self, text: Text, width: int, style: Style) -> Strip:
        text.truncate(width, overflow="ellipsis")
        text.no_wrap = True
        text.end = ""
        strip = Strip(text.render(app_of(self).console)).apply_style(style)
        return strip.adjust_cell_length(width, style)

    # -- keys and mouse --------------------------------------------------------------------------------------------

    def action_move(self, by: int) -> None:
        self.cursor += by

    def action_page(self, by: int) -> None:
        self.cursor += by * max(1, self.scrollable_content_region.height - 1)

    def action_first(self) -> None:
        self.cursor = 0

    def action_last(self) -> None:
        self.cursor = self.row_count - 1

    def action_choose(self) -> None:
        if self.row_count:
            self.post_message(self.Chosen(self))

    def row_at(self, y: int) -> int | None:
        row = y + round(self.scroll_offset.y)
        return row if 0 <= row < self.row_count else None

    def on_mouse_move(self, event: events.MouseMove) -> None:
        self._hover = self.row_at(event.y)

    def on_leave(self) -> None:
        self._hover = None

    def on_click(self, event: events.Click) -> None:
        row = self.row_at(event.y)
        if row is None:
            return
        self.cursor = row
        if event.chain == 2:
            self.action_choose()

    def on_focus(self) -> None:
        self.refresh(Region(0, 0, *self.size))

    def on_blur(self) -> None:
        self.refresh(Region(0, 0, *self.size))
