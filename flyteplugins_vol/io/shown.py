r"""Names as a terminal may show them: any bytes, no control characters, no two names alike.

What is printable UTF-8 stays as it is; everything else, and the backslash, becomes an escape (``\n``, ``\x1b``,
``\u202e``). `hidden` is the way back, so that what was shown can be given as a path.
"""

from __future__ import annotations

import re
import unicodedata

_SHORT = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_LONG = {short: letter for letter, short in _SHORT.items()}
# Control, format (bidi overrides, zero-width), surrogate (a byte that is no UTF-8), private, unassigned; separators of
# lines and paragraphs. A plain blank is category Zs and stays.
_HIDDEN = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))
_ESCAPE = re.compile(r"\\(?:\\|n|r|t|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")


def shown(text: str) -> str:
    """A name or path, whose bytes that are not UTF-8 are surrogates, as printable text."""
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(_one(letter) for letter in text)


def shown_text(text: str) -> str:
    """Text of a stranger (a message, an author) as printable text on one line; backslashes stay."""
    return "".join(letter if letter == "\\" else _one(letter) for letter in text)


def hidden(text: str) -> str:
    """The name that `shown` made this of."""
    return _ESCAPE.sub(lambda found: _letter(found[0]), text)


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
    digits = escape[2:]
    point = int(digits, base=16)
    return chr(point + 0xDC00 if escape[1] == "x" and point >= 0x80 else point)
