"""What changed between two versions, one path a row."""

from __future__ import annotations

import stat

from rich.text import Text

from flyteplugins_vol import human
from flyteplugins_vol.explore.widgets.layout import left, middle, name_text, right
from flyteplugins_vol.explore.widgets.paged import PagedRows
from flyteplugins_vol.human import shown
from flyteplugins_vol.index.difference import Change, Kind, Summary

_STYLES = {Kind.ADDED: "added", Kind.REMOVED: "removed", Kind.CONTENT: "changed", Kind.ATTRIBUTES: "dim"}
_SIZES = 30
_NARROW_SIZES = 12


class ChangeRows(PagedRows[Change]):
    empty: str = ""

    def empty_text(self) -> str:
        return self.empty

    def value_text(self, value: Change, width: int) -> Text:
        style = self.style(_STYLES[value.kind])
        is_dir = stat.S_ISDIR(value.mode)
        path = name_text(shown(value.path) + ("/" if is_dir else ""), style, self.style("special"))
        sizes = _sizes(value) if width >= 70 else _size(value)
        cells = _SIZES if width >= 70 else _NARROW_SIZES
        count = f"  {human.count(value.files, 'file')}" if is_dir and value.kind is not Kind.ATTRIBUTES else ""
        head = Text.assemble((f" {value.kind.value} ", style))
        room = width - head.cell_len - cells - len(count) - 1
        return Text.assemble(
            head, middle(path, room), (count, self.style("dim")), (right(sizes, cells), self.style("dim"))
        )


def summary_text(summary: Summary, colours: dict[Kind, str]) -> Text:
    """``3 added (+12 MiB)  1 removed (−3 KiB)  …``; colours are names of colours, by kind."""
    words = {Kind.ADDED: "added", Kind.REMOVED: "removed", Kind.CONTENT: "changed", Kind.ATTRIBUTES: "attributes only"}
    text = Text()
    for kind, word in words.items():
        if not summary.files[kind] and kind is Kind.ATTRIBUTES:
            continue
        size = {
            Kind.ADDED: f" +{human.size(summary.added_bytes)}",
            Kind.REMOVED: f" −{human.size(summary.removed_bytes)}",
        }
        text.append(f"{kind.value} {summary.files[kind]:,} {word}", colours[kind])
        text.append(size.get(kind, "") if summary.files[kind] else "", "dim")
        text.append("   ")
    return text


def _size(change: Change) -> str:
    if change.kind is Kind.CONTENT:
        return _signed(change.new_size - change.old_size)
    return human.size(change.old_size if change.kind is Kind.REMOVED else change.new_size)


def _sizes(change: Change) -> str:
    if change.kind is Kind.CONTENT and change.old_size != change.new_size:
        return f"{human.size(change.old_size)} → {human.size(change.new_size)}"
    return _size(change) if change.kind is not Kind.CONTENT else human.size(change.new_size)


def _signed(size: int) -> str:
    return f"{'+' if size > 0 else '−' if size < 0 else '±'}{human.size(abs(size))}"


__all__ = ["ChangeRows", "left", "summary_text"]
