"""Names of files, which are bytes, as paths and as the local disk takes them."""

from __future__ import annotations

import re

from flyteplugins_vol.human import shown


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
