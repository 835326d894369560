"""The tree of a volume's files, however it is reached: through a mount, or through a session in this process.

Two classes are a `FileTree`: `io/session_tree.py` and `io/mount_tree.py`. What is here holds for both: paths, and how
they are followed. Nothing leads out of a volume: ``..`` stops at its root, and an absolute symlink names a path of the
machine that made it, so it is not followed.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

from flyteplugins_vol.errors import UsageError
from flyteplugins_vol.portable import memory_bytes

PathLike: TypeAlias = "str | bytes | os.PathLike[str] | os.PathLike[bytes]"
"""A path in a volume, from its root. Bytes that are not UTF-8 are surrogates in text, as `os.fsdecode` makes them."""

_LINKS = 40  # as Linux


class Node(NamedTuple):
    """One file of any type, as it was when it was looked up. ``key`` means something to its own tree."""

    key: Any
    ino: int
    mode: int
    nlink: int
    uid: int
    gid: int
    size: int
    atime: int
    mtime: int
    ctime: int

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)

    @property
    def is_symlink(self) -> bool:
        return stat.S_ISLNK(self.mode)


class NameTree(Protocol):
    """What it takes to follow a path."""

    def root(self) -> Node: ...
    def lookup(self, directory: Node, name: bytes) -> Node | None: ...
    def readlink(self, node: Node) -> bytes: ...


class FileTree(NameTree, Protocol):
    """What one can do with files. Blocking and thread-safe; names are bytes; raises OSError, and `VolumeError`."""

    def scan(self, directory: Node) -> Iterator[tuple[bytes, Node]]: ...
    def make(self, directory: Node, name: bytes, mode: int) -> Node: ...

    # A new file, or a symlink to ``target``; it is gone after the block unless `give_name` gave it one: in the place of
    # another file with ``replace``, else FileExistsError where there is one by then. Without a mount no version has it
    # before that; in a mount it is called .flytevol-… meanwhile.
    def unnamed(self, directory: Node, mode: int, target: bytes | None = None) -> AbstractContextManager[Node]: ...
    def give_name(self, node: Node, directory: Node, name: bytes, *, replace: bool) -> None: ...

    def mkdir(self, directory: Node, name: bytes, mode: int) -> Node: ...
    def unlink(self, directory: Node, name: bytes) -> None: ...
    def rmdir(self, directory: Node, name: bytes) -> None: ...
    def rename(self, directory: Node, name: bytes, new_directory: Node, new_name: bytes) -> None: ...
    def set_attributes(self, node: Node, *, mode: int | None = None, mtime: int | None = None) -> None: ...
    def open(self, node: Node, flags: int) -> io.RawIOBase: ...
    def read(self, node: Node, offset: int, size: int) -> bytes: ...
    def next_data(self, node: Node, offset: int) -> int | None: ...  # where a file has content; None: no more
    def clone(self, source: Node, target: Node) -> None: ...  # an empty file gets another's content, which is not read


@dataclass(frozen=True)
class Found:
    """Where a path leads: the directory, the name in it, and what is there. The root has the name ''."""

    directory: Node
    name: bytes
    node: Node | None
    path: str

    def existing(self) -> Node:
        if self.node is None:
            raise error_at(errno.ENOENT, self.path)
        return self.node

    def file(self) -> Node:
        """What is there, if it has content."""
        node = self.existing()
        if node.is_dir:
            raise error_at(errno.EISDIR, self.path)
        if not node.is_file:
            raise OSError(errno.EINVAL, "has no content", self.path)
        return node


def as_text(path: PathLike) -> str:
    """A path as text; bytes that are not UTF-8 become surrogates."""
    path = os.fspath(path)
    return path.decode("utf-8", "surrogateescape") if isinstance(path, bytes) else path


def as_bytes(text: str) -> bytes:
    """The bytes of a name or path. UnicodeEncodeError is an OSError here: no file has such a name."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise error_at(errno.EILSEQ, text) from None


def text_of(name: bytes) -> str:
    """A name as text; bytes that are not UTF-8 become surrogates."""
    return name.decode("utf-8", "surrogateescape")


def normal(path: PathLike) -> str:
    """``/a/b``: the path from the root, without double slashes and dots. ``..`` is not resolved here."""
    parts = [part for part in as_text(path).split("/") if part not in ("", ".")]
    return "/" + "/".join(parts)


def join(directory: str, name: bytes) -> str:
    return f"{directory.rstrip('/')}/{text_of(name)}"


def find(tree: NameTree, path: PathLike, *, follow: bool = True) -> Found:
    """Follow a path. ``follow``: also a symlink at its end. Raises OSError unless all but the last name are there."""
    text = as_text(path)
    todo = [part for part in reversed(as_bytes(text).split(b"/")) if part not in (b"", b".")]
    root = tree.root()
    above: list[tuple[Node, bytes]] = []  # (directory, name in it) of each step down
    here, links = root, 0
    while todo:
        if not here.is_dir:
            raise error_at(errno.ENOTDIR, text)
        name = todo.pop()
        if name == b"..":
            here = above.pop()[0] if above else root
            continue
        node = lookup(tree, here, name, text)
        if node is None:
            if todo:
                raise error_at(errno.ENOENT, text)
            return Found(here, name, None, text)
        if node.is_symlink and (follow or todo):
            links += 1
            if links > _LINKS:
                raise error_at(errno.ELOOP, text)
            todo.extend(_steps(tree.readlink(node), text))
            continue
        above.append((here, name))
        here = node
    directory, name = above[-1] if above else (root, b"")
    return Found(directory, name, here, text)


def lookup(tree: NameTree, directory: Node, name: bytes, path: str) -> Node | None:
    """What a directory has of that name. Raises OSError with the path for one that is too long."""
    try:
        return tree.lookup(directory, name)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG and error.filename is None:
            raise error_at(errno.ENAMETOOLONG, path) from None
        raise


def below(tree: FileTree, path: str, directory: Node) -> Iterator[tuple[str, Node]]:
    """All that is below a directory, in byte order, each directory before what is in it. However deep: no recursion."""
    levels = [(path, tree.scan(directory))]
    while levels:
        path, entries = levels[-1]
        for name, node in entries:
            there = join(path, name)
            yield there, node
            if node.is_dir:
                levels.append((there, tree.scan(node)))
                break
        else:
            levels.pop()


def check_memory(size: int, what: str) -> None:
    """Raise `UsageError` for a content that no object in memory can hold here: sparse files can have exabytes."""
    if size > memory_bytes():
        raise UsageError(
            f"{what} has {size:,} bytes, which is more than this machine's memory",
            hint="read a part of it, with offset= and size=, or piece by piece from open()",
        )


def make_directories(tree: FileTree, path: PathLike, mode: int = 0o755) -> Node:
    """The directory at a path, made with all above it where it is missing."""
    here = tree.root()
    done = ""
    for part in normal(path).split("/")[1:]:
        if not part:
            continue
        done = f"{done}/{part}"
        node = lookup(tree, here, as_bytes(part), done) if part != ".." else None
        if node is None or not node.is_dir:
            node = _made(tree, Found(here, as_bytes(part), node, done), mode)
        here = node
    return here


def _made(tree: FileTree, place: Found, mode: int) -> Node:
    if place.name == b".." or place.node is not None:  # it leads elsewhere
        place = find(tree, place.path)
    node = place.node
    if node is None:
        try:
            node = tree.mkdir(place.directory, place.name, mode)
        except FileExistsError:  # somebody else just made it
            node = find(tree, place.path).existing()
    if not node.is_dir:
        raise error_at(errno.ENOTDIR, place.path)
    return node


def error_at(number: int, path: str) -> OSError:
    """The OSError subclass of an errno, with the path in the volume."""
    return OSError(number, os.strerror(number), path)


def _steps(target: bytes, path: str) -> list[bytes]:
    if target.startswith(b"/"):
        raise OSError(errno.ENOENT, "a symbolic link leads out of the volume", path)
    return [part for part in reversed(target.split(b"/")) if part not in (b"", b".")]
