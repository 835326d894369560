"""Files through a session in this process: no mount, no daemon, any platform."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from flyteplugins_vol.errors import HandleClosedError
from flyteplugins_vol.history.unmounted import Unmounted, later
from flyteplugins_vol.io.tree import Node, check_memory
from flyteplugins_vol.model import ROOT_INO, AttrChange, Caller, Inode
from flyteplugins_vol.workspace.ranges import SEEK_DATA
from flyteplugins_vol.workspace.workspace import Workspace

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

T = TypeVar("T")

_PAGE = 1000  # entries listed at a time
_MOST = 4 << 20  # bytes of one write, so that the owner is never held for long
_MOST_CLONED = 4 << 30  # bytes of one step, for the same reason: a row for each 4 MiB
_UMASK = 0o022  # a process's own can only be read by setting it, which other threads would feel


class SessionTree:
    """See `FileTree`. ``key`` of a node is its inode number."""

    def __init__(self, session: Unmounted, owner: object) -> None:
        self._session = session
        self._owner = owner  # closes the session when it goes: so it stays as long as a tree or a file is used
        session.used_by(self)
        self._caller = Caller(getattr(os, "getuid", int)(), getattr(os, "getgid", int)(), _UMASK)

    @property
    def _workspace(self) -> Workspace:
        return self._session.workspace  # asked each time: in a forked child it is another one

    def root(self) -> Node:
        return self._look(self._workspace.getattr, ROOT_INO)

    def lookup(self, directory: Node, name: bytes) -> Node | None:
        def look() -> Node | None:
            inode = self._workspace.lookup(directory.key, name)
            return None if inode is None else node_of(inode)

        return self._session.call(look)

    def readlink(self, node: Node) -> bytes:
        return self._session.call(self._workspace.readlink, node.key)

    def scan(self, directory: Node) -> Iterator[tuple[bytes, Node]]:
        def page(after: bytes | None) -> list[tuple[bytes, Node]]:
            entries = self._workspace.readdir(directory.key, after, _PAGE)
            return [(name, node_of(inode)) for name, inode in entries]

        entries = self._session.call(page, None)
        while entries:
            yield from entries
            entries = self._session.call(page, entries[-1][0]) if len(entries) == _PAGE else []

    def make(self, directory: Node, name: bytes, mode: int) -> Node:
        return self._change(self._workspace.mknod, directory.key, name, mode, 0, self._caller)

    @contextmanager
    def unnamed(self, directory: Node, mode: int, target: bytes | None = None) -> Generator[Node]:
        workspace = self._workspace
        node = self._change(workspace.make_unnamed, directory.key, mode, self._caller, target)
        try:
            yield node
        finally:
            with suppress(HandleClosedError):  # it is gone with the session
                self._session.call(workspace.release, node.key, os.O_WRONLY)

    def give_name(self, node: Node, directory: Node, name: bytes, *, replace: bool) -> None:
        self._session.change(self._workspace.give_name, node.key, directory.key, name, replace)

    def mkdir(self, directory: Node, name: bytes, mode: int) -> Node:
        return self._change(self._workspace.mkdir, directory.key, name, mode, self._caller)

    def unlink(self, directory: Node, name: bytes) -> None:
        self._session.change(self._workspace.unlink, directory.key, name)

    def rmdir(self, directory: Node, name: bytes) -> None:
        self._session.change(self._workspace.rmdir, directory.key, name)

    def rename(self, directory: Node, name: bytes, new_directory: Node, new_name: bytes) -> None:
        self._session.change(self._workspace.rename, directory.key, name, new_directory.key, new_name, 0)

    def set_attributes(self, node: Node, *, mode: int | None = None, mtime: int | None = None) -> None:
        change = AttrChange(mode=mode, mtime=mtime)
        self._session.change(self._workspace.setattr, node.key, change, self._caller)

    def open(self, node: Node, flags: int) -> io.RawIOBase:
        return _File(self._session, node.key, flags, self._owner)

    def read(self, node: Node, offset: int, size: int) -> bytes:
        return self._session.read(node.key, offset, size)

    def next_data(self, node: Node, offset: int) -> int | None:
        try:
            return self._session.call(self._workspace.lseek, node.key, offset, SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return None

    def clone(self, source: Node, target: Node) -> None:
        at: int | None = 0
        while (at := self.next_data(source, at)) is not None:
            at += self._session.change(self._workspace.copy_range, source.key, at, target.key, at, _MOST_CLONED)
        self._session.change(self._workspace.setattr, target.key, AttrChange(size=source.size), self._caller)

    def _look(self, verb: Callable[..., Inode], *args: Any) -> Node:
        return self._session.call(lambda: node_of(verb(*args)))

    def _change(self, verb: Callable[..., Inode], *args: Any) -> Node:
        return self._session.change(lambda: node_of(verb(*args)))


class _File(io.RawIOBase):
    """An open file. A write is in the workspace when it returns, as far as its answer says."""

    def __init__(self, session: Unmounted, ino: int, flags: int, owner: object) -> None:
        self._session = session
        self._owner = owner
        self._ino = ino
        self._flags = flags
        self._at = 0
        self._open = self._collected = False
        session.used_by(self)
        (session.change if self.writable() else session.call)(session.workspace.open, ino, flags)
        self._open = True

    def readable(self) -> bool:
        return not self._flags & os.O_WRONLY

    def writable(self) -> bool:
        return bool(self._flags & (os.O_WRONLY | os.O_RDWR))

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        data = self._session.read(self._ino, self._at, len(view))
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def readall(self) -> bytes:
        check_memory(self._size() - self._at, "the file")
        parts: list[bytes] = []
        while data := self._session.read(self._ino, self._at, _MOST):
            parts.append(data)
            self._at += len(data)
        return b"".join(parts)

    def write(self, data: ReadableBuffer, /) -> int:
        view = memoryview(data).cast("B")[:_MOST]
        workspace = self._session.workspace

        def write() -> tuple[int, int]:
            # where it ends is asked in the same step: others append as well
            at = workspace.getattr(self._ino).size if self._flags & os.O_APPEND else self._at
            return at, workspace.write(self._ino, at, view)

        at, done = self._session.change(write)
        self._at = at + done
        return done

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size()}[whence]
        if start + offset < 0:
            raise ValueError(f"negative seek value {start + offset}")
        self._at = start + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def truncate(self, size: int | None = None, /) -> int:
        size = self._at if size is None else size
        caller = Caller(0, 0)
        self._session.change(self._session.workspace.setattr, self._ino, AttrChange(size=size), caller)
        return size

    def close(self) -> None:
        if self._open and not self.closed:
            self._open = False
            session = self._session
            release = partial(session.release, self._ino, self._flags)
            if self._collected:  # in any thread, whatever locks that has
                later(release)
            else:
                with suppress(Exception):  # the session is closed: there is nothing left to release
                    release()
        super().close()

    def __del__(self) -> None:
        self._collected = True
        self.close()

    def _dealloc_warn(self, source: object) -> None:
        """Python's buffers call this when they are collected themselves, and then `close`."""
        self._collected = True

    def _size(self) -> int:
        return self._session.call(lambda: self._session.workspace.getattr(self._ino).size)


def node_of(i: Inode) -> Node:
    """An inode of a workspace as a node of its tree."""
    return Node(i.ino, i.ino, i.mode, i.nlink, i.uid, i.gid, i.size, i.atime, i.mtime, i.ctime)
