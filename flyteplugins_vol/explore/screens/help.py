"""All keys on one page."""

from __future__ import annotations

from typing import ClassVar

from rich.console import Group
from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

_KEYS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    (
        "Move",
        (
            ("↑ ↓  j k", "up, down"),
            ("→ ←  l h", "open, close a directory"),
            ("PgUp PgDn", "a page"),
            ("g G", "first, last"),
            ("Tab", "next pane"),
        ),
    ),
    (
        "Files",
        (
            ("Enter", "open, or preview"),
            ("/", "search by name, * ? [ ]"),
            ("s", "sort by name, size, time"),
            ("p", "show or hide the preview"),
            ("e", "export the file"),
            ("c", "copy the path"),
        ),
    ),
    (
        "Versions",
        (
            ("[ ]", "one commit back, forward"),
            ("2 Enter", "history; open a version"),
            ("m", "mark one to compare with"),
            ("d", "changes since parent, mark"),
            ("o", "the run that made it"),
            ("y", "copy the locator"),
        ),
    ),
    (
        "Explorer",
        (
            ("1 2 3", "files, history, changes"),
            ("r", "ask the store again"),
            ("t", "dark, light"),
            ("Ctrl+P", "all commands"),
            ("q", "quit"),
        ),
    ),
)


class HelpScreen(ModalScreen[None]):
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,question_mark,enter", "dismiss", "Close")]

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="help", classes="dialog") as dialog:
            dialog.border_title = "Keys"
            dialog.border_subtitle = "Esc closes"
            yield Static(_page(), id="help-keys")

    def on_click(self) -> None:
        self.dismiss()


def _page() -> Table:
    """Two columns, so that it fits into 80 by 24."""
    page = Table.grid(padding=(0, 3))
    page.add_row(*(Group(*(_section(*_KEYS[number]) for number in column)) for column in ((0, 1), (2, 3))))
    return page


def _section(title: str, keys: tuple[tuple[str, str], ...]) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(justify="right", no_wrap=True, min_width=7)
    table.add_column(no_wrap=True)
    table.add_row("", Text(title, "bold italic"))
    for key, meaning in keys:
        table.add_row(Text(key, "bold"), Text(meaning))
    table.add_row()
    return table
