"""Names of files, which are bytes, as the screens show them and as the local disk takes them."""

from __future__ import annotations

import re

from flyteplugins_vol.io import shown as text_names

_ESCAPE = re.compile(r"\\(?:\\|n|r|t|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")

shown_text = text_names.shown_text
"""Text of a stranger (a message, an author) as printable text on one line."""


def shown(name: bytes) -> str:
    """A name or a path as printable text, told from every other: see `flyteplugins_vol.io.shown`."""
    return text_names.shown(name.decode("utf-8", "surrogateescape"))


def escapes(text: str) -> list[tuple[int, int]]:
    """Where in what `shown` returned the escapes are, to colour them."""
    return [found.span() for found in _ESCAPE.finditer(text)] if "\\" in text else []


def joined(path: tuple[bytes, ...]) -> bytes:
    """Names from the root on as an absolute path."""
    return b"/" + b"/".join(path)


def split(path: bytes) -> tuple[bytes, ...]:
    """The names of an absolute path, from the root on."""
    return tuple(name for name in path.split(b"/") if name)


def file_name_for(name: bytes) -> str:
    """A name for a local copy: the same where a person can type it, else one that says as much."""
    text = shown(name)
    return text if text.encode() == name else re.sub(r'[\\/:*?"<>|]+', "_", text)
