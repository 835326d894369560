"""Cells of a row: text cut or filled to a width, names with their escapes coloured, bars."""

from __future__ import annotations

from rich.cells import cell_len, set_cell_size
from rich.style import Style
from rich.text import Text

from flyteplugins_vol.human import escapes


def name_text(shown: str, style: Style | str, special: Style) -> Text:
    """What `human.shown` returned, with its escapes in another colour."""
    text = Text(shown, style)
    for start, end in escapes(shown):
        text.stylize(special, start, end)
    return text


def left(text: Text, width: int) -> Text:
    """Cut with an ellipsis, or filled with blanks."""
    text.truncate(max(1, width), overflow="ellipsis")
    text.append(" " * max(0, width - text.cell_len))
    return text


def middle(text: Text, width: int) -> Text:
    """As `left`, but what is cut out is before the last part: the end of a path says most."""
    if text.cell_len > width > 8:
        tail = text[-(width - 1) :]
        while tail.cell_len > width - 1:
            tail = tail[1:]
        text = Text.assemble(("…", "dim"), tail)
    return left(text, width)


def right(text: str, width: int) -> str:
    return text.rjust(width) if cell_len(text) <= width else set_cell_size(text, width)


def bar(share: float, width: int) -> str:
    """A line that fills ``share`` of a width, to half a cell."""
    halves = round(max(0.0, min(1.0, share)) * width * 2)
    return ("━" * (halves // 2) + ("╸" if halves % 2 else "")).ljust(width)
