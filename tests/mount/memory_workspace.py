"""A workspace in dicts: what every verb does, with nothing about bytes on disk. A double for the mount's tests.

Simple on purpose, so that it can serve as the reference that the real one is compared with.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from concurrent.futures import Future
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from flyteplugins_vol.model import ROOT_INO, AttrChange, Caller, Inode, StatFs
from flyteplugins_vol.workspace.piped import Bytes

RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
XATTR_CREATE, XATTR_REPLACE = 1, 2
NAME_MAX = 255


@dataclass(frozen=True)
class Missing:
    """What `read` returns for an inode whose content is said to be elsewhere."""

    ino: int


class MemoryWorkspace:
    """All state in dicts; `absent` holds inodes whose reads miss, `limit` the bytes that staging has room for."""

    def __init__(self, *, read_only: bool = False) -> None:
        self.read_only = read_only
        self.dirty = False
        self.passthrough = SimpleNamespace(live={}, freeze=bool, thaw=bool)
        self.inodes: dict[int, Inode] = {}
        self.entries: dict[int, dict[bytes, int]] = {}
        self.content: dict[int, bytearray] = {}
        self.xattrs: dict[int, dict[bytes, bytes]] = {}
        self.known: dict[int, int] = {}
        self.opened: dict[int, int] = {}
        self.writing: dict[int, int] = {}
        self.absent: set[int] = set()
        self.limit: int | None = None
        self.staged = 0
        self.housekept = 0
        self.syncs = 0
        self.sync_fds: list[int] = []
        self.lost: OSError | None = None
        self._next = ROOT_INO
        self._new(stat.S_IFDIR | 0o755, Caller(os.getuid(), os.getgid()), parent=ROOT_INO)

    # ------------------------------------------------------------------------------ names and attributes

    def lookup(self, parent: int, name: bytes) -> Inode | None:
        entries = self._directory(parent)
        if name == b".":
            return self.inodes[parent]
        if name == b"..":
            return self.inodes[self.inodes[parent].parent]
        self._check_name(name)
        ino = entries.get(name)
        return None if ino is None else self.inodes[ino]

    def getattr(self, ino: int) -> Inode:
        return self._inode(ino)

    def setattr(self, ino: int, changes: AttrChange, caller: Caller) -> Inode:
        self._check_writable()
        inode = self._inode(ino)
        if changes.size is not None:
            self._resize(inode, changes.size)
        if changes.mode is not None:
            inode.mode = stat.S_IFMT(inode.mode) | stat.S_IMODE(changes.mode)
        inode.uid = inode.uid if changes.uid is None else changes.uid
        inode.gid = inode.gid if changes.gid is None else changes.gid
        inode.atime = inode.atime if changes.atime is None else changes.atime
        inode.mtime = inode.mtime if changes.mtime is None else changes.mtime
        inode.ctime = time.time_ns() if changes.ctime is None else changes.ctime
        return inode

    def readlink(self, ino: int) -> bytes:
        target = self._inode(ino).target
        if target is None:
            raise _error(errno.EINVAL)
        return target

    def mknod(self, parent: int, name: bytes, mode: int, rdev: int, caller: Caller) -> Inode:
        self._check_new(parent, name)
        return self._enter(parent, name, self._new(mode, caller, rdev=rdev, within=parent))

    def mkdir(self, parent: int, name: bytes, mode: int, caller: Caller) -> Inode:
        self._check_new(parent, name)
        inode = self._new(stat.S_IFDIR | stat.S_IMODE(mode), caller, parent=parent, within=parent)
        self.inodes[parent].nlink += 1
        return self._enter(parent, name, inode)

    def symlink(self, parent: int, name: bytes, target: bytes, caller: Caller) -> Inode:
        self._check_new(parent, name)
        inode = self._new(stat.S_IFLNK | 0o777, caller, within=parent)
        inode.target = target
        inode.size = len(target)
        return self._enter(parent, name, inode)

    def link(self, ino: int, new_parent: int, new_name: bytes) -> Inode:
        inode = self._inode(ino)
        if inode.is_dir:
            raise _error(errno.EPERM)
        self._check_new(new_parent, new_name)
        inode.nlink += 1
        inode.ctime = time.time_ns()
        return self._enter(new_parent, new_name, inode)

    def unlink(self, parent: int, name: bytes) -> None:
        self._check_writable()
        inode = self._named(parent, name)
        if inode.is_dir:
            raise _error(errno.EISDIR)
        self._leave(parent, name)
        self._drop(inode, 1)

    def rmdir(self, parent: int, name: bytes) -> None:
        self._check_writable()
        inode = self._named(parent, name)
        if not inode.is_dir:
            raise _error(errno.ENOTDIR)
        if self.entries[inode.ino]:
            raise _error(errno.ENOTEMPTY)
        self._leave(parent, name)
        self.inodes[parent].nlink -= 1
        self._drop(inode, 2)

    def rename(self, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int) -> None:
        self._check_writable()
        self._check_name(new_name)
        moved = self._named(parent, name)
        target = self.lookup(new_parent, new_name)
        self._check_rename(moved, target, new_parent, flags)
        if target is moved:
            return
        self._leave(parent, name)
        if target is not None:
            self._leave(new_parent, new_name)
        self._enter(new_parent, new_name, moved)
        self._reparent(moved, parent, new_parent)
        if target is not None and flags & RENAME_EXCHANGE:
            self._enter(parent, name, target)
            self._reparent(target, new_parent, parent)
        elif target is not None:
            if target.is_dir:
                self.inodes[new_parent].nlink -= 1
            self._drop(target, 2 if target.is_dir else 1)

    def readdir(self, ino: int, after: bytes | None, limit: int) -> list[tuple[bytes, Inode]]:
        names = sorted(name for name in self._directory(ino) if after is None or name > after)
        return [(name, self.inodes[self.entries[ino][name]]) for name in names[:limit]]

    def remember(self, ino: int, n: int = 1) -> None:
        self.known[ino] = self.known.get(ino, 0) + n

    def forget(self, ino: int, n: int) -> None:
        left = self.known[ino] = self.known[ino] - n
        assert left >= 0, f"inode {ino} was forgotten more often than it was told"
        if not left:
            del self.known[ino]
        self._purge(ino)

    # -------------------------------------------------------------------------------------------- files

    def open(self, ino: int, flags: int) -> None:
        self._inode(ino)
        if flags & os.O_ACCMODE:
            self._check_writable()
            self.writing[ino] = self.writing.get(ino, 0) + 1
        self.opened[ino] = self.opened.get(ino, 0) + 1

    def release(self, ino: int, flags: int) -> None:
        if flags & os.O_ACCMODE:
            self.writing[ino] -= 1
        self.opened[ino] -= 1
        self._purge(ino)

    def writers(self) -> list[int]:
        return [ino for ino, count in self.writing.items() if count]

    def read(self, ino: int, offset: int, size: int) -> bytes | Missing:
        if ino in self.absent:
            return Missing(ino)
        self._inode(ino)
        return bytes(self.content[ino][offset : offset + size])

    def write(self, ino: int, offset: int, data: Bytes) -> int:
        self._check_writable()
        inode = self._inode(ino)
        content = self.content[ino]
        data = bytes(data)
        if len(content) < offset:
            content.extend(bytes(offset - len(content)))
        content[offset : offset + len(data)] = data
        inode.size = inode.allocated = len(content)
        inode.mtime = inode.ctime = time.time_ns()
        self.staged += len(data)
        self.dirty = True
        return len(data)

    def room(self) -> bool:
        return self.limit is None or self.staged < self.limit

    def sync_failed(self, error: OSError) -> None:
        self.lost = error

    def begin_sync(self, frozen: bool = False) -> list[int]:
        self.syncs += 1
        return self.sync_fds

    def statfs(self) -> StatFs:
        return StatFs(4096, 1 << 28, 1 << 27, 1 << 20, 1 << 19)

    def housekeep(self) -> None:
        self.housekept += 1
        self.dirty = False

    # ------------------------------------------------------------------------------ extended attributes

    def getxattr(self, ino: int, name: bytes) -> bytes:
        try:
            return self.xattrs.get(ino, {})[name]
        except KeyError:
            raise _error(errno.ENODATA) from None

    def setxattr(self, ino: int, name: bytes, value: bytes, flags: int) -> None:
        values = self.xattrs.setdefault(ino, {})
        if flags & XATTR_CREATE and name in values:
            raise _error(errno.EEXIST)
        if flags & XATTR_REPLACE and name not in values:
            raise _error(errno.ENODATA)
        values[name] = value

    def listxattr(self, ino: int) -> list[bytes]:
        return sorted(self.xattrs.get(ino, {}))

    def removexattr(self, ino: int, name: bytes) -> None:
        self.getxattr(ino, name)
        del self.xattrs[ino][name]

    # ---------------------------------------------------------------------------------------- for tests

    def path_of(self, ino: int) -> bytes | None:
        return b"/inode-%d" % ino

    def tree(self) -> dict[bytes, bytes | None]:
        """Path → content of every file, None for everything else, from the root down."""
        found: dict[bytes, bytes | None] = {}

        def walk(ino: int, path: bytes) -> None:
            for name, child in self.entries[ino].items():
                inode = self.inodes[child]
                found[path + name] = bytes(self.content[child]) if inode.is_file else None
                if inode.is_dir:
                    walk(child, path + name + b"/")

        walk(ROOT_INO, b"")
        return found

    # ------------------------------------------------------------------------------------------- inside

    def _new(self, mode: int, caller: Caller, *, parent: int = 0, rdev: int = 0, within: int = 0) -> Inode:
        ino, self._next = self._next, self._next + 1
        now = time.time_ns()
        gid = caller.gid
        is_dir = stat.S_ISDIR(mode)
        if within and self.inodes[within].mode & stat.S_ISGID:
            gid = self.inodes[within].gid
            mode |= stat.S_ISGID if is_dir else 0
        inode = Inode(ino, mode, 2 if is_dir else 0, caller.uid, gid, rdev, 0, 0, now, now, now, parent, None)
        self.inodes[ino] = inode
        if is_dir:
            self.entries[ino] = {}
        else:
            inode.nlink = 1
            self.content[ino] = bytearray()
        return inode

    def _enter(self, parent: int, name: bytes, inode: Inode) -> Inode:
        self.entries[parent][name] = inode.ino
        self._touch(parent)
        return inode

    def _leave(self, parent: int, name: bytes) -> None:
        del self.entries[parent][name]
        self._touch(parent)

    def _touch(self, parent: int) -> None:
        directory = self.inodes[parent]
        directory.mtime = directory.ctime = time.time_ns()
        self.dirty = True

    def _drop(self, inode: Inode, links: int) -> None:
        inode.nlink -= links
        inode.ctime = time.time_ns()
        self._purge(inode.ino)

    def _purge(self, ino: int) -> None:
        inode = self.inodes.get(ino)
        if inode is None or inode.nlink > 0 or self.known.get(ino) or self.opened.get(ino):
            return
        for table in (self.inodes, self.entries, self.content, self.xattrs, self.opened, self.writing):
            table.pop(ino, None)

    def _reparent(self, inode: Inode, old: int, new: int) -> None:
        inode.ctime = time.time_ns()
        if inode.is_dir and old != new:
            inode.parent = new
            self.inodes[old].nlink -= 1
            self.inodes[new].nlink += 1

    def _resize(self, inode: Inode, size: int) -> None:
        content = self.content[inode.ino]
        del content[size:]
        content.extend(bytes(size - len(content)))
        inode.size = inode.allocated = size
        inode.mtime = time.time_ns()
        self.dirty = True

    def _inode(self, ino: int) -> Inode:
        try:
            return self.inodes[ino]
        except KeyError:
            raise _error(errno.ENOENT) from None

    def _directory(self, ino: int) -> dict[bytes, int]:
        if not self._inode(ino).is_dir:
            raise _error(errno.ENOTDIR)
        return self.entries[ino]

    def _named(self, parent: int, name: bytes) -> Inode:
        inode = self.lookup(parent, name)
        if inode is None:
            raise _error(errno.ENOENT)
        return inode

    def _check_new(self, parent: int, name: bytes) -> None:
        self._check_writable()
        self._check_name(name)
        if self._inode(parent).nlink == 0:
            raise _error(errno.ENOENT)
        if name in self._directory(parent):
            raise _error(errno.EEXIST)

    def _check_name(self, name: bytes) -> None:
        if len(name) > NAME_MAX:
            raise _error(errno.ENAMETOOLONG)

    def _check_writable(self) -> None:
        if self.read_only:
            raise _error(errno.EROFS)

    def _check_rename(self, moved: Inode, target: Inode | None, new_parent: int, flags: int) -> None:
        if flags & RENAME_EXCHANGE:
            if target is None:
                raise _error(errno.ENOENT)
            return
        if moved.is_dir:
            self._check_not_below(moved.ino, new_parent)
        if target is None:
            return
        if flags & RENAME_NOREPLACE:
            raise _error(errno.EEXIST)
        if target.is_dir and not moved.is_dir:
            raise _error(errno.EISDIR)
        if moved.is_dir and not target.is_dir:
            raise _error(errno.ENOTDIR)
        if target.is_dir and self.entries[target.ino]:
            raise _error(errno.ENOTEMPTY)

    def _check_not_below(self, ino: int, directory: int) -> None:
        while directory != ROOT_INO:
            if directory == ino:
                raise _error(errno.EINVAL)
            directory = self.inodes[directory].parent


class MemoryFetcher:
    """Fetches nothing by itself: a test settles ``futures``, or sets ``error`` to have every fetch fail."""

    def __init__(self, workspace: MemoryWorkspace) -> None:
        self._workspace = workspace
        self.futures: list[Future[None]] = []
        self.error: Exception | None = None

    def fetch(self, miss: Any) -> Future[None]:
        future: Future[None] = Future()
        if self.error is not None:
            future.set_exception(self.error)
        self.futures.append(future)
        return future


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
