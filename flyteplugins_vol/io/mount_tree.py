"""Files through a mount of this handle: plain calls of the operating system below its path."""

from __future__ import annotations

import errno
import io
import os
import uuid
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress

from flyteplugins_vol.io.tree import Node

_MOST_CLONED = 1 << 30  # bytes that one call is asked for


class MountTree:
    """See `FileTree`. ``key`` of a node is its path on this machine."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._root = os.fsencode(path)

    def root(self) -> Node:
        return _node(self._root, os.lstat(self._root))

    def lookup(self, directory: Node, name: bytes) -> Node | None:
        path = os.path.join(directory.key, name)
        try:
            return _node(path, os.lstat(path))
        except FileNotFoundError:
            return None
        except ValueError:  # a zero byte
            return None

    def readlink(self, node: Node) -> bytes:
        return os.readlink(node.key)

    def scan(self, directory: Node) -> Iterator[tuple[bytes, Node]]:
        path: bytes = directory.key
        for name in sorted(os.listdir(path)):
            node = self.lookup(directory, name)
            if node is not None:
                yield name, node

    def make(self, directory: Node, name: bytes, mode: int) -> Node:
        path = os.path.join(directory.key, name)
        _make(path, mode)
        return _node(path, os.lstat(path))

    @contextmanager
    def unnamed(self, directory: Node, mode: int, target: bytes | None = None) -> Generator[Node]:
        path = os.path.join(directory.key, b".flytevol-" + uuid.uuid4().hex[:12].encode())
        if target is None:
            _make(path, mode)
        else:
            os.symlink(target, path)
        try:
            yield _node(path, os.lstat(path))
        finally:
            with suppress(FileNotFoundError):  # it was renamed
                os.unlink(path)

    def give_name(self, node: Node, directory: Node, name: bytes, *, replace: bool) -> None:
        path = os.path.join(directory.key, name)
        if replace:
            os.rename(node.key, path)
        else:  # rename(2) would replace what somebody made meanwhile
            os.link(node.key, path, follow_symlinks=False)

    def mkdir(self, directory: Node, name: bytes, mode: int) -> Node:
        path = os.path.join(directory.key, name)
        os.mkdir(path, mode)
        return _node(path, os.lstat(path))

    def unlink(self, directory: Node, name: bytes) -> None:
        os.unlink(os.path.join(directory.key, name))

    def rmdir(self, directory: Node, name: bytes) -> None:
        os.rmdir(os.path.join(directory.key, name))

    def rename(self, directory: Node, name: bytes, new_directory: Node, new_name: bytes) -> None:
        os.rename(os.path.join(directory.key, name), os.path.join(new_directory.key, new_name))

    def set_attributes(self, node: Node, *, mode: int | None = None, mtime: int | None = None) -> None:
        if mode is not None and not node.is_symlink:
            os.chmod(node.key, mode & 0o7777)
        if mtime is not None:
            os.utime(node.key, ns=(os.lstat(node.key).st_atime_ns, mtime), follow_symlinks=False)

    def open(self, node: Node, flags: int) -> io.RawIOBase:
        mode = {os.O_RDONLY: "rb", os.O_WRONLY: "wb", os.O_RDWR: "r+b"}[flags & (os.O_WRONLY | os.O_RDWR)]
        return io.FileIO(os.open(node.key, flags | os.O_CLOEXEC | os.O_NOFOLLOW), mode)

    def next_data(self, node: Node, offset: int) -> int | None:
        with self.open(node, os.O_RDONLY) as file:
            return _next_data(file.fileno(), offset)

    def clone(self, source: Node, target: Node) -> None:
        with self.open(source, os.O_RDONLY) as a, self.open(target, os.O_WRONLY) as b:
            at: int | None = 0
            while (at := _next_data(a.fileno(), at)) is not None:
                done = os.copy_file_range(a.fileno(), b.fileno(), _MOST_CLONED, at, at)
                if not done:  # somebody has cut it meanwhile
                    break
                at += done
            os.ftruncate(b.fileno(), source.size)

    def read(self, node: Node, offset: int, size: int) -> bytes:
        fd = os.open(node.key, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            return os.pread(fd, size, offset)
        finally:
            os.close(fd)


def _make(path: bytes, mode: int) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, mode))


def _next_data(fd: int, offset: int) -> int | None:
    try:
        return os.lseek(fd, offset, os.SEEK_DATA)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return None


def _node(path: bytes, s: os.stat_result) -> Node:
    return Node(
        path, s.st_ino, s.st_mode, s.st_nlink, s.st_uid, s.st_gid, s.st_size,
        s.st_atime_ns, s.st_mtime_ns, s.st_ctime_ns,
    )  # fmt: skip
