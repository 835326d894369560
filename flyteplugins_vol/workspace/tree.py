"""Names and inodes: lookup, create, link, unlink, rename. Every rule of POSIX about names is here.

Permission to do these things is the kernel's business (``default_permissions``); what they mean is ours.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable

from flyteplugins_vol.index.index import Index
from flyteplugins_vol.index.rows import check_place
from flyteplugins_vol.model import Caller, Inode

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2

NAME_MAX = 255
_DOTS = (b".", b"..")
TARGET_MAX = 4095
_PLACES = 1000  # files whose names are remembered for messages
_DEEPEST = 4096  # levels of a path in a message
_PAGE = 1000  # names that are moved at a time


class Tree:
    """The namespace of one index. ``discard`` is told of inodes that lost their last name."""

    def __init__(self, index: Index, discard: Callable[[Inode], None]) -> None:
        self._index = index
        self._inodes = index.inodes
        self._entries = index.entries
        self._discard = discard
        self._places: dict[int, tuple[int, bytes]] = {}  # inode → a directory and its name there, see `path_of`

    def inode(self, ino: int) -> Inode:
        found = self._inodes.get(ino)
        if found is None:
            raise _error(errno.ENOENT)
        return found

    def lookup(self, parent: int, name: bytes) -> Inode | None:
        ino = self._entries.get(parent, name)
        if ino is not None:
            inode = self.inode(ino)
            if inode.parent or not inode.nlink or name in _DOTS:  # seldom: a call for each would be a tenth of a lookup
                check_place(parent, name, inode)
            return inode
        directory = self._directory(parent)
        if name == b".":
            return directory
        if name == b"..":
            return self.inode(directory.parent)
        if len(name) > NAME_MAX:
            raise _error(errno.ENAMETOOLONG)
        return None

    def add(
        self, parent: int, name: bytes, mode: int, caller: Caller, *, rdev: int = 0, target: bytes | None = None
    ) -> Inode:
        """Make a new file of any type with one name. ``mode`` has type and permissions, the umask already applied."""
        directory = self.place(parent, name)
        ino = self._index.new_ino()
        if not self._entries.add(parent, name, ino):
            raise _error(errno.EEXIST)
        is_dir = stat.S_ISDIR(mode)
        inode = self._new(directory, ino, mode, 2 if is_dir else 1, caller, rdev, target)
        self._index.files += 1
        directory.nlink += is_dir
        self._touched(directory, inode.mtime)
        return inode

    def add_unnamed(self, parent: int, mode: int, caller: Caller, target: bytes | None = None) -> Inode:
        """Make a file or a symlink that has no name, and so is an orphan: as O_TMPFILE of open(2) in that directory."""
        directory = self._directory(parent)
        if directory.nlink == 0:
            raise _error(errno.ENOENT)
        inode = self._new(directory, self._index.new_ino(), mode, 0, caller, 0, target)
        self._inodes.orphan(inode.ino)
        return inode

    def give_name(self, ino: int, parent: int, name: bytes, replace: bool) -> None:
        """Give its first name to what has none; with ``replace`` one that another file has, which loses it. Atomic."""
        inode = self.inode(ino)
        if inode.nlink or inode.is_dir:
            raise _error(errno.EINVAL)
        directory = self.place(parent, name)
        other = self._entries.get(parent, name)
        there = None if other is None else self.inode(other)
        if there is not None:
            if not replace:
                raise _error(errno.EEXIST)
            self._check_replaceable(inode, there)
        now = time.time_ns()
        self._entries.put(parent, name, ino)
        inode.nlink = 1
        inode.ctime = now
        self._inodes.adopt(ino)
        self._inodes.changed(inode)
        self._index.files += 1
        if inode.is_file:
            self._index.bytes += inode.size
        if there is not None:
            self._lose_name(there, now)
        self._touched(directory, now)

    def link(self, ino: int, parent: int, name: bytes) -> Inode:
        inode = self.inode(ino)
        directory = self.place(parent, name)
        if inode.is_dir:
            raise _error(errno.EPERM)
        if inode.nlink == 0:
            raise _error(errno.ENOENT)
        if self._entries.get(parent, name) is not None:
            raise _error(errno.EEXIST)
        now = time.time_ns()
        self._entries.put(parent, name, ino)
        inode.nlink += 1
        inode.ctime = now
        self._inodes.changed(inode)
        self._touched(directory, now)
        return inode

    def adopt(self, parent: int, name: bytes, ino: int) -> Inode:
        """Give one of its names to a file that was entered without them; of what is no directory ``nlink`` has it."""
        directory = self.place(parent, name)
        inode = self.inode(ino)
        if not self._entries.add(parent, name, ino):
            raise _error(errno.EEXIST)
        if inode.is_dir:
            inode.parent = parent
            directory.nlink += 1
            self._inodes.changed(inode)
        self._touched(directory, time.time_ns())
        return inode

    def become(self, ino: int, other: int) -> None:
        """Let an empty directory be all that another is, attributes and content; that one has no name, and goes."""
        directory, source = self.inode(ino), self.inode(other)
        while page := self._inodes.in_order(other, b"", _PAGE):
            for name, child in page:
                self._entries.remove(other, name)
                self._entries.put(ino, name, child.ino)
                if child.is_dir:
                    child.parent = ino
                    self._inodes.changed(child)
        directory.nlink = source.nlink
        self.take_attributes(ino, other, times=True)

    def take_attributes(self, ino: int, other: int, *, times: bool) -> None:
        """Let a file have mode, owner, ctime, extended attributes, and with ``times`` the others of another one.

        That one has no name, and goes.
        """
        inode, source = self.inode(ino), self.inode(other)
        for field in ("mode", "uid", "gid", "ctime", *(("atime", "mtime") if times else ())):
            setattr(inode, field, getattr(source, field))
        self._inodes.changed(inode)
        xattrs = self._index.xattrs
        xattrs.remove_all(ino)
        for name in xattrs.names(other):
            xattrs.put(ino, name, xattrs.get(other, name) or b"")
        self.drop(other)

    def set_times(self, ino: int, atime: int, mtime: int) -> None:
        """Set both times of a file, in nanoseconds since 1970, if it is there."""
        inode = self._inodes.get(ino)
        if inode is not None:
            inode.atime, inode.mtime = atime, mtime
            self._inodes.changed(inode)

    def drop(self, ino: int) -> None:
        """Forget an inode that has no name, and never had any or anything in it."""
        self._index.xattrs.remove_all(ino)
        self._inodes.remove(ino)
        self._index.files -= 1

    def pin(self, ino: int) -> None:
        """Count one name more of a file than it has, until `unpin`: so it outlives all that it has."""
        inode = self.inode(ino)
        inode.nlink += 1
        self._inodes.changed(inode)

    def unpin(self, ino: int) -> None:
        self._lose_name(self.inode(ino), time.time_ns())

    def unlink(self, parent: int, name: bytes) -> Inode:
        inode = self._existing(parent, name)
        if inode.is_dir:
            raise _error(errno.EISDIR)
        now = time.time_ns()
        self._entries.remove(parent, name)
        self._touched(self.inode(parent), now)
        self._lose_name(inode, now)
        return inode

    def rmdir(self, parent: int, name: bytes) -> Inode:
        if name == b".":
            raise _error(errno.EINVAL)
        if name == b"..":
            raise _error(errno.ENOTEMPTY)
        inode = self._existing(parent, name)
        self._check_removable(inode)
        now = time.time_ns()
        directory = self.inode(parent)
        self._entries.remove(parent, name)
        directory.nlink -= 1
        self._touched(directory, now)
        self._lose_name(inode, now)
        return inode

    def rename(self, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int) -> None:
        """As renameat2(2), atomic: both names are one transaction."""
        if flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE) or flags == RENAME_NOREPLACE | RENAME_EXCHANGE:
            raise _error(errno.EINVAL)
        moved = self._existing(parent, name)
        self.place(new_parent, new_name)
        self._check_no_cycle(moved, new_parent)
        ino = self._entries.get(new_parent, new_name)
        there = None if ino is None else self.inode(ino)
        if flags & RENAME_EXCHANGE:
            if there is None:
                raise _error(errno.ENOENT)
            self._check_no_cycle(there, parent)
            self._exchange(parent, name, moved, new_parent, new_name, there)
            return
        if there is not None:
            if flags & RENAME_NOREPLACE:
                raise _error(errno.EEXIST)
            if there is moved:  # two names of one file: POSIX keeps both
                return
            self._check_replaceable(moved, there)
        self._move(parent, name, moved, new_parent, new_name, there)

    def path_of(self, ino: int) -> bytes | None:
        """A path from the root, for messages: the only one of a directory, one of those of anything else."""
        parts: list[bytes] = []
        inode = self._inodes.get(ino)
        if inode is not None and not inode.is_dir:
            place = self._place_of(ino)
            if place is None:
                return None
            parts.append(place[1])
            inode = self._inodes.get(place[0])
        while inode is not None and inode.is_dir and inode.parent != inode.ino:
            name = self._entries.name_of(inode.parent, inode.ino)
            if name is None or len(parts) > _DEEPEST:  # directories that nobody comes to may lie in a circle
                return None
            parts.append(name)
            inode = self._inodes.get(inode.parent)
        return b"/" + b"/".join(reversed(parts)) if inode is not None and inode.is_dir else None

    def _place_of(self, ino: int) -> tuple[int, bytes] | None:
        """Remembered, since whoever meets an error tries again: each look is a scan."""
        place = self._places.get(ino)
        if place is None or self._entries.get(*place) != ino:
            place = self._entries.place_of(ino)
            if len(self._places) >= _PLACES:
                self._places.clear()
            if place is not None:
                self._places[ino] = place
        return place

    def _new(
        self, directory: Inode, ino: int, mode: int, nlink: int, caller: Caller, rdev: int, target: bytes | None
    ) -> Inode:
        is_dir = stat.S_ISDIR(mode)
        gid = caller.gid
        if directory.mode & stat.S_ISGID:
            gid = directory.gid
            mode |= stat.S_ISGID if is_dir else 0
        now = time.time_ns()
        inode = Inode(
            ino, mode, nlink, caller.uid, gid, rdev, len(target or b""), 0,
            now, now, now, directory.ino if is_dir else 0, target,
        )  # fmt: skip
        self._inodes.add(inode)
        return inode

    def _move(
        self, parent: int, name: bytes, moved: Inode, new_parent: int, new_name: bytes, there: Inode | None
    ) -> None:
        now = time.time_ns()
        source, target = self.inode(parent), self.inode(new_parent)
        self._entries.remove(parent, name)
        self._entries.put(new_parent, new_name, moved.ino)
        if there is not None:
            target.nlink -= there.is_dir
            self._lose_name(there, now)
        if moved.is_dir:
            source.nlink -= 1
            target.nlink += 1
            moved.parent = new_parent
        moved.ctime = now
        self._inodes.changed(moved)
        self._touched(source, now)
        self._touched(target, now)

    def _exchange(self, parent: int, name: bytes, a: Inode, new_parent: int, new_name: bytes, b: Inode) -> None:
        now = time.time_ns()
        source, target = self.inode(parent), self.inode(new_parent)
        self._entries.put(parent, name, b.ino)
        self._entries.put(new_parent, new_name, a.ino)
        source.nlink += b.is_dir - a.is_dir
        target.nlink += a.is_dir - b.is_dir
        for inode, new_home in ((a, new_parent), (b, parent)):
            inode.parent = new_home if inode.is_dir else 0
            inode.ctime = now
            self._inodes.changed(inode)
        self._touched(source, now)
        self._touched(target, now)

    def _lose_name(self, inode: Inode, now: int) -> None:
        inode.nlink = 0 if inode.is_dir else inode.nlink - 1
        inode.ctime = now
        self._inodes.changed(inode)
        if inode.nlink == 0:
            self._index.files -= 1
            if inode.is_file:
                self._index.bytes -= inode.size
            self._discard(inode)

    def _check_removable(self, inode: Inode) -> None:
        if not inode.is_dir:
            raise _error(errno.ENOTDIR)
        if not self._entries.empty(inode.ino):
            raise _error(errno.ENOTEMPTY)

    def _check_replaceable(self, moved: Inode, there: Inode) -> None:
        if there.is_dir:
            if not moved.is_dir:
                raise _error(errno.EISDIR)
            self._check_removable(there)
        elif moved.is_dir:
            raise _error(errno.ENOTDIR)

    def _check_no_cycle(self, moved: Inode, new_parent: int) -> None:
        """A directory cannot move below itself."""
        if not moved.is_dir:
            return
        while True:
            if new_parent == moved.ino:
                raise _error(errno.EINVAL)
            above = self.inode(new_parent).parent
            if above == new_parent:
                return
            new_parent = above

    def _existing(self, parent: int, name: bytes) -> Inode:
        if name in (b".", b".."):
            raise _error(errno.EINVAL)
        found = self.lookup(parent, name)
        if found is None:
            raise _error(errno.ENOENT)
        return found

    def place(self, parent: int, name: bytes) -> Inode:
        """The directory in which this name may be made."""
        if len(name) > NAME_MAX:
            raise _error(errno.ENAMETOOLONG)
        if not name:
            raise _error(errno.ENOENT)
        if b"/" in name or b"\0" in name:
            raise _error(errno.EINVAL)
        if name in (b".", b".."):
            raise _error(errno.EEXIST)
        directory = self._directory(parent)
        if directory.nlink == 0:
            raise _error(errno.ENOENT)
        return directory

    def _directory(self, ino: int) -> Inode:
        inode = self.inode(ino)
        if not inode.is_dir:
            raise _error(errno.ENOTDIR)
        return inode

    def _touched(self, directory: Inode, now: int) -> None:
        directory.mtime = directory.ctime = now
        self._inodes.changed(directory)


def check_target(target: bytes) -> None:
    """Raise the OSError of symlink(2) for a target that no symlink can have."""
    if not target:
        raise OSError(errno.ENOENT, "empty target")
    if len(target) > TARGET_MAX:
        raise OSError(errno.ENAMETOOLONG, "target too long")


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
