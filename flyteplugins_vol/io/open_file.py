"""Opening one file: what a mode such as ``rb+`` means, and a file object of Python for it."""

from __future__ import annotations

import errno
import io
import os
from typing import IO, Any, NamedTuple

from flyteplugins_vol.io.tree import FileTree, Node, PathLike, as_text, error_at, find

BUFFER = 256 << 10
"""Bytes that an open file reads or gathers at a time, unless told otherwise."""

_MODES = {
    "r": os.O_RDONLY,
    "r+": os.O_RDWR,
    "w": os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
    "w+": os.O_RDWR | os.O_CREAT | os.O_TRUNC,
    "x": os.O_WRONLY | os.O_CREAT | os.O_EXCL,
    "x+": os.O_RDWR | os.O_CREAT | os.O_EXCL,
    "a": os.O_WRONLY | os.O_CREAT | os.O_APPEND,
    "a+": os.O_RDWR | os.O_CREAT | os.O_APPEND,
}


class Mode(NamedTuple):
    """What a mode says: flags of open(2), and whether the content is bytes or text."""

    flags: int
    binary: bool

    @property
    def writes(self) -> bool:
        return bool(self.flags & (os.O_WRONLY | os.O_RDWR))


def mode_of(text: str) -> Mode:
    """A mode such as ``rb+``. Raises ValueError."""
    flags = _MODES.get("".join(sorted(set(text) - {"b", "t"}, reverse=True)))
    if flags is None or len(set(text)) != len(text) or {"b", "t"} <= set(text):
        raise ValueError(f"invalid mode: {text!r}")
    return Mode(flags, "t" not in text)


def open_file(
    tree: FileTree, path: PathLike, mode: Mode, buffering: int, encoding: str | None, errors: str | None,
    newline: str | None,
) -> IO[Any]:  # fmt: skip
    """An open file as the built-in `open` returns it, made if the mode says so. Raises OSError."""
    node = _node_to_open(tree, path, mode.flags)
    raw = tree.open(node, mode.flags & ~(os.O_CREAT | os.O_EXCL))
    file = _buffered(raw, mode.flags, buffering)
    if mode.binary:
        return file
    return io.TextIOWrapper(file, encoding or "utf-8", errors, newline)


def _node_to_open(tree: FileTree, path: PathLike, flags: int) -> Node:
    place = find(tree, path)
    if place.node is None and flags & os.O_CREAT:
        try:
            return tree.make(place.directory, place.name, 0o666)
        except FileExistsError:  # somebody else just made it
            place = find(tree, path)
    node = place.file()
    if flags & os.O_EXCL:
        raise error_at(errno.EEXIST, as_text(path))
    return node


def _buffered(raw: io.RawIOBase, flags: int, buffering: int) -> IO[bytes]:
    size = max(1, buffering)
    if flags & os.O_RDWR:
        return io.BufferedRandom(raw, size)
    if flags & os.O_WRONLY:
        return io.BufferedWriter(raw, size)
    return io.BufferedReader(raw, size)
