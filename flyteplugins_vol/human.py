r"""What people read: names as a terminal may show them, sizes, counts, times and modes. The one place for all of it.

Names are any bytes; shown are no control characters, and no two names alike: what is printable UTF-8 stays as it is,
everything else, and the backslash, becomes an escape (``\n``, ``\x1b``, ``\u202e``). `hidden` is the way back, so that
what was shown can be given as a path.
"""

from __future__ import annotations

import re
import stat
import unicodedata
from datetime import datetime, timezone

_SHORT = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_LONG = {short: letter for letter, short in _SHORT.items()}
# Control, format (bidi overrides, zero-width), surrogate (a byte that is no UTF-8), private, unassigned; separators of
# lines and paragraphs. A plain blank is category Zs and stays.
_HIDDEN = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))
_ESCAPE = re.compile(r"\\(?:\\|n|r|t|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_STEPS = ((60, "s"), (60, "min"), (24, "h"), (7, "d"), (4.35, "wk"), (12, "mo"))
_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symbolic link",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFBLK: "block device",
    stat.S_IFCHR: "character device",
}

# ------------------------------------------------------------------------------------------------------------ names


def shown(name: str | bytes) -> str:
    """A name or a path as printable text. In text, bytes that are not UTF-8 are surrogates."""
    text = name if isinstance(name, str) else name.decode("utf-8", "surrogateescape")
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(_one(letter) for letter in text)


def shown_text(text: str) -> str:
    """Text of a stranger (a message, an author, a line of a file) as printable text on one line; backslashes stay."""
    if text.isprintable():
        return text
    return "".join(letter if letter == "\\" else _one(letter) for letter in text)


def hidden(text: str) -> str:
    """The name that `shown` made this of."""
    return _ESCAPE.sub(lambda found: _letter(found[0]), text)


def escapes(text: str) -> list[tuple[int, int]]:
    """Where in what `shown` returned the escapes are, to colour them."""
    return [found.span() for found in _ESCAPE.finditer(text)] if "\\" in text else []


def _one(letter: str) -> str:
    if letter in _SHORT:
        return _SHORT[letter]
    if unicodedata.category(letter) not in _HIDDEN:
        return letter
    point = ord(letter)
    if 0xDC80 <= point <= 0xDCFF:
        return f"\\x{point - 0xDC00:02x}"
    if point < 0x80:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point <= 0xFFFF else f"\\U{point:08x}"


def _letter(escape: str) -> str:
    if escape in _LONG:
        return _LONG[escape]
    point = int(escape[2:], base=16)  # noqa: FURB166 - it is no literal of Python
    return chr(point + 0xDC00 if escape[1] == "x" and point >= 0x80 else point)


# ---------------------------------------------------------------------------------------------------------- numbers


def size(count: int) -> str:
    """Bytes in at most nine cells: ``812 B``, ``3.4 KiB``, ``512 MiB``."""
    value = float(count)
    for unit in _UNITS:
        # 1023.95 would be rounded to 1024.0
        if abs(value) < (1000 if unit == "B" else 999.5) or unit == _UNITS[-1]:
            digits = 0 if unit == "B" or abs(value) >= 99.95 else 1
            return f"{value:.{digits}f} {unit}"
        value /= 1024
    raise AssertionError


def count(number: int, one: str, many: str | None = None) -> str:
    """``1 file``, ``2,000 files``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


# ------------------------------------------------------------------------------------------------ times, kinds, modes


def when(ns: int) -> str:
    """A time of a file, in this machine's zone, to the minute."""
    try:
        return datetime.fromtimestamp(ns // 10**9, timezone.utc).astimezone().strftime("%Y-%m-%d %H:%M")
    except (OverflowError, OSError, ValueError):  # an index may say anything
        return "?"


def parse_time(text: str) -> datetime | None:
    """A time of a version record (RFC 3339, UTC)."""
    try:
        return datetime.strptime(text[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
    except ValueError:
        return None


def local(text: str) -> str:
    """A record's time in this machine's zone, to the second."""
    found = parse_time(text)
    return found.astimezone().strftime("%Y-%m-%d %H:%M:%S") if found else shown_text(text)


def ago(text: str, now: datetime) -> str:
    """How long ago a record was made: ``5 min``, ``3 d``."""
    found = parse_time(text)
    if found is None:
        return "?"
    value = max(0.0, (now - found).total_seconds())
    for step, unit in _STEPS:
        if value < step:
            return f"{value:.0f} {unit}"
        value /= step
    return f"{value:.0f} y"


def kind(mode: int) -> str:
    """What a mode says it is: ``file``, ``symbolic link``, …, or ``unknown kind``."""
    return _KINDS.get(stat.S_IFMT(mode), "unknown kind")


def mode(bits: int) -> str:
    """``-rw-r--r--``."""
    return stat.filemode(bits)
