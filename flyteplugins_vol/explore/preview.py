"""The head of a file, made ready to be shown: text with escapes, or a hex dump, or what an image's header says."""

from __future__ import annotations

import codecs
import unicodedata
from enum import Enum
from typing import NamedTuple

from flyteplugins_vol.explore.sniff import sniff
from flyteplugins_vol.human import shown_text

HEAD = 64 << 10
"""Bytes that a preview reads: one block for nearly every file."""

_HEX_BYTES = 4 << 10  # bytes of a dump: nobody reads more
_LONGEST_LINE = 1000  # letters
_MOST_LINES = 5000
_TAB = 4
_KEPT = frozenset("\t\n\r")
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class Shape(Enum):
    TEXT = "text"
    HEX = "binary"
    IMAGE = "image"
    EMPTY = "empty"


class Preview(NamedTuple):
    """``lines`` are printable. ``facts`` are labels and values that the head itself tells."""

    shape: Shape
    kind: str
    facts: tuple[tuple[str, str], ...]
    lines: tuple[str, ...]
    shown: int  # bytes that the lines stand for


def make_preview(head: bytes, size: int, *, columns: int = 80) -> Preview:
    """A preview of a file of ``size`` bytes from its first ones; a dump is at most ``columns`` wide."""
    if not head:
        return Preview(Shape.EMPTY, "empty", (), (), 0)
    found = sniff(head)
    if found is None:
        text = _text(head, complete=len(head) >= size)
        if text is not None:
            encoding, content = text
            return Preview(Shape.TEXT, f"text, {encoding}", (), _lines(content), len(head))
    part = head[:_HEX_BYTES]
    shape = Shape.IMAGE if found and found.image else Shape.HEX
    kind, facts = (found.kind, found.facts) if found else ("binary", ())
    return Preview(shape, kind, facts, tuple(hex_lines(part, columns)), len(part))


def hex_lines(data: bytes, columns: int) -> list[str]:
    """``00000010  68 65 6c 6c 6f  hello``, with as many bytes on a line as fit: 4, 8, 16 or 32."""
    width = next((n for n in (32, 16, 8) if 8 + 2 + 3 * n + n // 8 + 1 + n <= columns), 4)
    lines: list[str] = []
    for at in range(0, len(data), width):
        row = data[at : at + width]
        groups = (row[i : i + 8].hex(" ") for i in range(0, len(row), 8))
        digits = "  ".join(groups).ljust(3 * width - 1 + (width - 1) // 8)
        letters = "".join(chr(byte) if 32 <= byte < 127 else "·" for byte in row)
        lines.append(f"{at:08x}  {digits}  {letters}")
    return lines


def _text(head: bytes, *, complete: bool) -> tuple[str, str] | None:
    """Encoding and content, if it is text; its last letter may be cut off."""
    encoding = next((name for mark, name in _MARKS if head.startswith(mark)), "utf-8")
    try:
        content = codecs.getincrementaldecoder(encoding)().decode(head, complete)
    except UnicodeDecodeError:
        return None
    strange = sum(1 for letter in content[:4096] if unicodedata.category(letter) == "Cc" and letter not in _KEPT)
    if "\0" in content[:4096] or strange * 10 > len(content[:4096]):
        return None
    return encoding.upper().replace("-SIG", ""), content


def _lines(content: str) -> tuple[str, ...]:
    lines = content.replace("\r\n", "\n").split("\n")
    if lines and not lines[-1]:
        lines.pop()
    return tuple(_printable(line) for line in lines[:_MOST_LINES])


def _printable(line: str) -> str:
    cut = len(line) > _LONGEST_LINE
    line = shown_text(line[:_LONGEST_LINE].expandtabs(_TAB))
    return line + " …" if cut else line
