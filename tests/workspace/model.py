"""What every verb means, in dicts: the reference that the real workspace is driven in step with.

Content is one bytearray per file, names are one dict per directory, nothing is shared, cached or written behind.
Inode numbers are the real ones, told by the test. Errors are OSError with the errno of POSIX.
"""

from __future__ import annotations

import copy
import errno
import os
import stat
from dataclasses import dataclass, field
from typing import Any

ROOT = 1
NOREPLACE, EXCHANGE = 1, 2


@dataclass
class Node:
    ino: int
    mode: int
    uid: int
    gid: int
    rdev: int = 0
    names: dict[bytes, int] = field(default_factory=dict)  # of a directory
    parent: int = 0  # of a directory
    data: bytearray = field(default_factory=bytearray)
    target: bytes | None = None
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    times: dict[str, int] = field(default_factory=dict)  # those that were set and not changed since

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)


class Model:
    def __init__(self, root: Node) -> None:
        self.nodes: dict[int, Node] = {ROOT: root}
        self.opens: dict[int, int] = {}
        self.known: dict[int, int] = {}

    def snapshot(self) -> Model:
        return copy.deepcopy(self)

    # -- names -----------------------------------------------------------------------------------------------------

    def check_new(self, parent: int, name: bytes) -> None:
        """Raise what a verb that makes this name would raise."""
        self._check_place(parent, name)
        if name in self.nodes[parent].names:
            raise _error(errno.EEXIST)

    def add(self, parent: int, name: bytes, node: Node) -> None:
        directory = self.nodes[parent]
        if directory.mode & stat.S_ISGID:
            node.gid = directory.gid
            node.mode |= stat.S_ISGID if node.is_dir else 0
        if node.is_dir:
            node.parent = parent
        self.nodes[node.ino] = node
        self._put(parent, name, node.ino)

    def check_living(self, parent: int) -> None:
        """Raise what a verb that makes something nameless there would raise."""
        if not self._living(parent):
            raise _error(errno.ENOENT)

    def add_unnamed(self, parent: int, node: Node) -> None:
        if self.nodes[parent].mode & stat.S_ISGID:
            node.gid = self.nodes[parent].gid
        self.nodes[node.ino] = node
        self.open(node.ino)

    def give_name(self, ino: int, parent: int, name: bytes, replace: bool) -> None:
        if self.nodes[ino].is_dir or self.nlink(ino):
            raise _error(errno.EINVAL)
        self._check_place(parent, name)
        there = self.nodes[parent].names.get(name)
        if there is not None:
            if not replace:
                raise _error(errno.EEXIST)
            if self.nodes[there].is_dir:
                raise _error(errno.EISDIR)
            self._remove(parent, name)
        self._put(parent, name, ino)
        self.nodes[ino].times.pop("ctime", None)

    def link(self, ino: int, parent: int, name: bytes) -> None:
        self._check_place(parent, name)
        if self.nodes[ino].is_dir:
            raise _error(errno.EPERM)
        if self.nlink(ino) == 0:
            raise _error(errno.ENOENT)
        self.check_new(parent, name)
        self._put(parent, name, ino)
        self.nodes[ino].times.pop("ctime", None)

    def unlink(self, parent: int, name: bytes) -> None:
        node = self._existing(parent, name)
        if node.is_dir:
            raise _error(errno.EISDIR)
        self._remove(parent, name)

    def rmdir(self, parent: int, name: bytes) -> None:
        node = self._existing(parent, name)
        if not node.is_dir:
            raise _error(errno.ENOTDIR)
        if node.names:
            raise _error(errno.ENOTEMPTY)
        self._remove(parent, name)

    def rename(self, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int) -> None:
        if flags not in (0, NOREPLACE, EXCHANGE):
            raise _error(errno.EINVAL)
        moved = self._existing(parent, name)
        self._check_place(new_parent, new_name)
        there_ino = self.nodes[new_parent].names.get(new_name)
        there = None if there_ino is None else self.nodes[there_ino]
        if moved.is_dir and moved.ino in self._above(new_parent):
            raise _error(errno.EINVAL)
        if flags == EXCHANGE:
            if there is None:
                raise _error(errno.ENOENT)
            if there.is_dir and there.ino in self._above(parent):
                raise _error(errno.EINVAL)
            self._put(parent, name, there.ino)
            self._put(new_parent, new_name, moved.ino)
            self._moved(there, parent)
            self._moved(moved, new_parent)
            return
        if there is not None:
            if flags == NOREPLACE:
                raise _error(errno.EEXIST)
            if there is moved:
                return
            if there.is_dir and not moved.is_dir:
                raise _error(errno.EISDIR)
            if moved.is_dir and not there.is_dir:
                raise _error(errno.ENOTDIR)
            if there.is_dir and there.names:
                raise _error(errno.ENOTEMPTY)
            self._remove(new_parent, new_name)
        self._put(new_parent, new_name, moved.ino)
        self._remove(parent, name)
        self._moved(moved, new_parent)

    def lookup(self, parent: int, name: bytes) -> int | None:
        directory = self._directory(parent)
        if len(name) > 255:
            raise _error(errno.ENAMETOOLONG)
        return {b".": parent, b"..": directory.parent}.get(name, directory.names.get(name))

    def readdir(self, ino: int, after: bytes, limit: int) -> list[tuple[bytes, int]]:
        return sorted((name, child) for name, child in self._directory(ino).names.items() if name > after)[:limit]

    # -- content and attributes ------------------------------------------------------------------------------------

    def read(self, ino: int, offset: int, size: int) -> bytes:
        return bytes(self.nodes[ino].data[offset : offset + size])

    def write(self, ino: int, offset: int, data: bytes) -> None:
        content = self.nodes[ino].data
        if data:
            content.extend(bytes(max(0, offset - len(content))))
            content[offset : offset + len(data)] = data
        self._touched(ino)

    def truncate(self, ino: int, size: int) -> None:
        content = self.nodes[ino].data
        del content[size:]
        content.extend(bytes(size - len(content)))
        self._touched(ino)

    def lose_privileges(self, ino: int) -> None:
        """What a file loses when anybody but root changes it: set-uid, and set-gid where the group may execute it."""
        node = self.nodes[ino]
        node.mode &= ~(stat.S_ISUID | (stat.S_ISGID if node.mode & stat.S_IXGRP else 0))

    def set_attributes(self, ino: int, changes: dict[str, int]) -> None:
        node = self.nodes[ino]
        if "mode" in changes:
            node.mode = stat.S_IFMT(node.mode) | changes["mode"] & 0o7777
        node.uid = changes.get("uid", node.uid)
        node.gid = changes.get("gid", node.gid)
        node.times.pop("ctime", None)
        node.times.update({name: value for name, value in changes.items() if name.endswith("time")})

    def set_xattr(self, ino: int, name: bytes, value: bytes, flags: int) -> None:
        xattrs = self.nodes[ino].xattrs
        if flags & 1 and name in xattrs:
            raise _error(errno.EEXIST)
        if flags & 2 and name not in xattrs:
            raise _error(errno.ENODATA)
        xattrs[name] = value

    def remove_xattr(self, ino: int, name: bytes) -> None:
        if name not in self.nodes[ino].xattrs:
            raise _error(errno.ENODATA)
        del self.nodes[ino].xattrs[name]

    # -- use -------------------------------------------------------------------------------------------------------

    def open(self, ino: int) -> None:
        self.opens[ino] = self.opens.get(ino, 0) + 1

    def release(self, ino: int) -> None:
        self.opens[ino] -= 1
        self._drop_unused()

    def remember(self, ino: int) -> None:
        self.known[ino] = self.known.get(ino, 0) + 1

    def forget(self, ino: int, n: int) -> None:
        self.known[ino] -= n
        self._drop_unused()

    def restarted(self) -> None:
        """Nothing is open any more."""
        self.opens.clear()
        self.known.clear()
        self._drop_unused()

    # -- views -----------------------------------------------------------------------------------------------------

    def nlink(self, ino: int) -> int:
        node = self.nodes[ino]
        if node.is_dir:
            return 2 + sum(self.nodes[i].is_dir for i in node.names.values()) if self._living(ino) else 0
        return sum(list(other.names.values()).count(ino) for other in self.nodes.values())

    def size(self, ino: int) -> int:
        node = self.nodes[ino]
        return len(node.target) if node.target is not None else len(node.data)

    def describe(self, ino: int) -> tuple[Any, ...]:
        node = self.nodes[ino]
        return (
            ino, stat.S_IFMT(node.mode), node.mode & 0o7777, self.nlink(ino), node.uid, node.gid, node.rdev,
            self.size(ino), bytes(node.data) if node.is_file else node.target, node.xattrs,
        )  # fmt: skip

    def tree(self, ino: int = ROOT) -> dict[bytes, tuple[Any, ...]]:
        found: dict[bytes, tuple[Any, ...]] = {}
        for name, child in self.nodes[ino].names.items():
            found[name] = self.describe(child)
            if self.nodes[child].is_dir:
                found.update({name + b"/" + path: value for path, value in self.tree(child).items()})
        return found

    # -- inside ----------------------------------------------------------------------------------------------------

    def _directory(self, ino: int) -> Node:
        if not self.nodes[ino].is_dir:
            raise _error(errno.ENOTDIR)
        return self.nodes[ino]

    def _check_place(self, parent: int, name: bytes) -> None:
        if len(name) > 255:
            raise _error(errno.ENAMETOOLONG)
        self._directory(parent)
        if not self._living(parent):
            raise _error(errno.ENOENT)

    def _existing(self, parent: int, name: bytes) -> Node:
        ino = self.lookup(parent, name)
        if ino is None:
            raise _error(errno.ENOENT)
        return self.nodes[ino]

    def _living(self, ino: int) -> bool:
        return ino == ROOT or any(ino in node.names.values() for node in self.nodes.values() if node.is_dir)

    def _above(self, ino: int) -> set[int]:
        found = {ino}
        while ino != ROOT:
            ino = self.nodes[ino].parent
            found.add(ino)
        return found

    def _put(self, parent: int, name: bytes, ino: int) -> None:
        self.nodes[parent].names[name] = ino
        self._touched(parent)

    def _remove(self, parent: int, name: bytes) -> None:
        self.nodes[self.nodes[parent].names.pop(name)].times.pop("ctime", None)
        self._touched(parent)
        self._drop_unused()

    def _moved(self, node: Node, parent: int) -> None:
        node.times.pop("ctime", None)
        if node.is_dir:
            node.parent = parent

    def _touched(self, ino: int) -> None:
        self.nodes[ino].times.pop("mtime", None)
        self.nodes[ino].times.pop("ctime", None)

    def _drop_unused(self) -> None:
        named = {ino for node in self.nodes.values() for ino in node.names.values()}
        for ino in list(self.nodes):
            if ino != ROOT and ino not in named and not self.opens.get(ino) and not self.known.get(ino):
                del self.nodes[ino]


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
