"""Ranges of files: holes, where data begins, and copies that name bytes instead of moving them."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable

from flyteplugins_vol.index.index import Index
from flyteplugins_vol.model import Inode
from flyteplugins_vol.workspace.data import MAX_SIZE, FileData

SEEK_DATA, SEEK_HOLE = 3, 4  # lseek(2) of Linux; other systems have other numbers, or none
_KEEP_SIZE, _PUNCH_HOLE, _ZERO_RANGE = 0x01, 0x02, 0x10  # fallocate(2)


class Ranges:
    """Verbs of the `Workspace` that work on ranges; it says when something may be written. Owner thread."""

    def __init__(
        self,
        index: Index,
        data: FileData,
        inode: Callable[[int], Inode],
        may_write: Callable[[], None],
        may_grow: Callable[..., None],
        accessed: Callable[[Inode], None],
    ) -> None:
        self._inodes = index.inodes
        self._data = data
        self._inode = inode
        self._may_write = may_write
        self._may_grow = may_grow
        self._accessed = accessed

    def fallocate(self, ino: int, offset: int, length: int, mode: int) -> None:
        """Make a range a hole, or zeros, or part of the file.

        The promise of fallocate(2) that there is space cannot be given: what is written anew goes to new places.
        """
        hole = mode & (_PUNCH_HOLE | _ZERO_RANGE)
        if mode & ~(_KEEP_SIZE | _PUNCH_HOLE | _ZERO_RANGE) or (mode & _PUNCH_HOLE and not mode & _KEEP_SIZE):
            raise OSError(errno.EOPNOTSUPP, "this kind of fallocate")
        if length <= 0 or offset < 0:
            raise OSError(errno.EINVAL, "an empty range")
        if offset + length > MAX_SIZE:
            raise OSError(errno.EFBIG, "file too large")
        inode = self._inode(ino)
        if not inode.is_file:
            raise OSError(errno.ENODEV, "not a file")
        if hole:
            self._may_write()
            self._data.punch(inode, offset, min(offset + length, max(inode.size, offset)))
        else:
            self._may_grow(length)
        if not mode & _KEEP_SIZE and offset + length > inode.size:
            self._data.resize(inode, offset + length)
        inode.mtime = inode.ctime = time.time_ns()
        self._inodes.changed(inode)

    def lseek(self, ino: int, offset: int, whence: int) -> int:
        """Where data (SEEK_DATA) or a hole (SEEK_HOLE) begins, from an offset on. OSError ENXIO: beyond the end."""
        inode = self._inode(ino)
        if whence not in (SEEK_DATA, SEEK_HOLE):
            raise OSError(errno.EINVAL, "this kind of seek")
        if not 0 <= offset < inode.size:
            raise OSError(errno.ENXIO, "beyond the end")
        if whence == SEEK_HOLE:
            return self._data.next_hole(inode, offset)
        found = self._data.next_data(inode, offset)
        if found is None:
            raise OSError(errno.ENXIO, "no data follows")
        return found

    def copy(self, ino: int, offset: int, target: int, target_offset: int, size: int) -> int:
        """Copy bytes from file to file (or within one, without overlap) by naming them; returns how many there were."""
        self._may_grow()
        source, inode = self._inode(ino), self._inode(target)
        if not (source.is_file and inode.is_file):
            raise OSError(errno.EISDIR if source.is_dir or inode.is_dir else errno.EINVAL, "not a file")
        size = min(size, source.size - offset)
        if size <= 0:
            return 0
        if target_offset + size > MAX_SIZE:
            raise OSError(errno.EFBIG, "file too large")
        if ino == target and abs(offset - target_offset) < size:
            raise OSError(errno.EINVAL, "the ranges overlap")
        self._data.copy(source, offset, inode, target_offset, size)
        inode.mtime = inode.ctime = time.time_ns()
        self._inodes.changed(inode)
        self._accessed(source)
        return size
