"""Files that the kernel reads and writes by itself, as long as they are open: *passthrough*.

Such a file is, for that long, a file of its own beside Staging's logs, its *backing*: what programs write is there, and
nobody is told. So it is looked at. `catch_up` takes over its size and its times, and lets the extents of the inode name
its bytes, as parts of Staging (`Staging.attach`): staged bytes like all others, only that they may still change. When
nobody has the file open or mapped any more all of it is taken over (`release`); a small file is copied then. Mappings
are the reason why the backing is open for reading only here: see `kernel_files`.

While a file is open, nobody may take its staged bytes for what they were a moment ago. So they are sealed by a commit
only (`FileData.held`): the version has what was written before it began, and after it the file is looked at again.

A kill leaves what was caught up, at most a second ago; what an fsync answered was caught up and is durable.
"""

from __future__ import annotations

import copy
import ctypes
import errno
import logging
import os
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from flyteplugins_vol.index.extents import STAGED, Extent
from flyteplugins_vol.index.index import Index
from flyteplugins_vol.model import BLOCK_SIZE, Inode
from flyteplugins_vol.portable import OPEN_FLAGS, pread
from flyteplugins_vol.workspace import kernel_files
from flyteplugins_vol.workspace.data import FileData
from flyteplugins_vol.workspace.ranges import SEEK_DATA, SEEK_HOLE
from flyteplugins_vol.workspace.staging import SEGMENT, OpenFile, Staging

log = logging.getLogger(__name__)

_libc = ctypes.CDLL(None, use_errno=True)

_MOST = 256  # files at once: each is a descriptor, and is looked at every second
_SMALL = 1 << 20  # bytes of a file that is copied at its end
_TINY = 128 << 10  # and before: a part wants a name in the directory, which the next fsync has to sync
_SHARE = 2  # of the descriptors that there may be, so much is for these files, until they are sealed
_LEFT = ".left"  # no log's name: nobody but a person takes it up
_GRAIN_NS = 20_000_000  # within which a file system may give two writes the same time


Told = tuple[int, int]
"""A file's size, and the time of its last change in ns."""


@dataclass(slots=True)
class Backing:
    """A file that the kernel has for an inode. ``file``: open for reading, also as long as parts of it are needed."""

    path: str
    file: OpenFile
    parts: dict[int, int] = field(default_factory=lambda: {})  # part of the file → position of its log in Staging
    seen: Told | None = None  # when it was caught up, if it tells of a later change
    exact: bool = False  # whether since then not even a store through a mapping can have gone untold
    synced: Told | None = None  # as `seen`, when it was to be made durable
    writes: bool = False  # somebody has it open who may write
    kernel_id: int = 0  # what the kernel calls it; 0: it was not told yet

    @property
    def fd(self) -> int:
        return self.file.fd

    def status(self) -> Told:
        told = os.fstat(self.fd)
        return told.st_size, told.st_mtime_ns


class Passthrough:
    """The files of one workspace that are open in this way. Owner thread."""

    def __init__(
        self, index: Index, data: FileData, staging: Staging | None,
        check_writable: Callable[[], None], changed: Callable[[], object], keep_room: Callable[[], bool],
    ) -> None:  # fmt: skip
        """``check_writable`` raises OSError where nothing may change; ``changed`` hears that something did.

        ``keep_room`` sees to it that a full disk has room for the index, and says whether it has.
        """
        self._inodes = index.inodes
        self._data = data
        self._staging = staging
        self._check_writable = check_writable
        self._workspace_changed = changed
        self._keep_room = keep_room
        self.on_change: Callable[[], object] = bool  # the same for whoever counts changes
        self._made = 0
        self._counts_dirty_pages: bool | None = None  # whether the local disk does; None: not asked yet
        self.live: dict[int, Backing] = {}
        self.frozen = False  # nothing may be taken over
        self.ended: set[int] = set()  # inodes of which the kernel may have pages from before they were open in this way
        self.on_close: Callable[[Backing], None] | None = None

    def lacks(self) -> str | None:
        """What the local disk lacks for this, for people; None: nothing."""
        assert self._staging is not None
        try:
            return kernel_files.lacks(self._staging.directory)
        except OSError as error:
            return f"cannot be written: {error.strerror}"

    def open(self, inode: Inode) -> Backing | None:
        """A backing for an empty file that nobody has open; None if there can be none."""
        staging = self._staging
        if not inode.is_file or inode.size or staging is None or len(self.live) >= _MOST:
            return None
        if len(self.live) + staging.attached >= kernel_files.descriptors() // _SHARE:
            return None  # the store, and all else that is read, needs some as well
        if not self._keep_room():
            return None
        try:
            backing = self._new(staging)
            os.utime(backing.fd, ns=(inode.atime, inode.mtime))
            backing.seen = backing.status()  # whoever writes to it makes it longer, so this tells
        except OSError as error:  # the disk is full, or there are no more descriptors: it goes the other way
            log.info("no file for the kernel to write to: %s", error)
            return None
        self._data.held.add(inode.ino)
        self.live[inode.ino] = backing
        return backing

    def release(self, inode: Inode) -> None:
        """Nobody has it open any more. If somebody has it mapped it stays as it is, and on an OSError: for another try.

        The kernel sends its word of the last close a moment before that is done, and then it looks the same.
        """
        backing = self.live[inode.ino]
        ends = kernel_files.is_nobodys(backing.fd)
        told = backing.status()
        if backing.writes and (ends or kernel_files.is_only_read(backing.fd)):  # so it changes no more
            if told[0] or told != backing.seen:
                self._map(inode, backing, _SMALL if ends else _TINY)
            backing.writes = False
        if ends:
            self._written(backing)
            self.drop(inode.ino)
            self.ended.add(inode.ino)

    def drop(self, ino: int) -> None:
        """Nobody wants to know any more what is in it."""
        backing = self.live.pop(ino)
        self._data.held.discard(ino)
        self._close(backing)

    def shown(self, inode: Inode) -> Inode:
        """The inode with the size and the time of change that programs see. It is not what a version would have."""
        told = os.fstat(self.live[inode.ino].fd)
        shown = copy.copy(inode)
        shown.size, shown.allocated, shown.mtime = told.st_size, told.st_blocks * 512, told.st_mtime_ns
        shown.ctime = _changed_at(inode, shown.mtime)
        return shown

    def catch_up(self, *, everything: bool = False, syncing: bool = False) -> None:
        """Take over what the kernel has written. Raises OSError, and the next call tries again.

        Times do not tell of a store through a mapping to a page that was dirty before. ``everything``: so look at all
        files that are open for writing. ``syncing``: at those that had dirty pages when they were looked at last.
        """
        for ino, backing in list(self.live.items()):
            now, told = time.time_ns(), backing.status()  # in this order: the thread may have to wait for its turn
            untold = everything or (syncing and not backing.exact)
            if told != backing.seen or (untold and backing.writes and told[0]):
                seen = _telling(told, now)
                exact = seen is not None and not self._has_dirty_pages(backing)
                self._map(self._inode(ino), backing)
                backing.seen, backing.exact = seen, exact

    def freeze(self) -> None:
        """A version is to have what is written by now: its bytes may be sealed until `thaw`. Raises OSError."""
        self.frozen = True
        self.catch_up(everything=True)
        self._data.hold(())

    def thaw(self) -> None:
        self.frozen = False
        self._data.hold(self.live)

    def unsynced(self) -> list[int]:
        """Descriptors of what was written since the last call: whoever asks must fdatasync them.

        After that a store through a mapping is told by the times as well: the first to a page that is clean is.
        """
        fds: list[int] = []
        for backing in self.live.values():
            now, told = time.time_ns(), backing.status()
            if backing.parts and told != backing.synced:
                backing.synced = _telling(told, now)
                fds.append(backing.fd)
        return fds

    def truncate(self, ino: int, size: int) -> None:
        """To be called before the extents are cut."""
        backing = self.live[ino]
        with _nameless():
            os.truncate(backing.path, size)
        backing.seen = backing.synced = None
        for part in [part for part in backing.parts if part * SEGMENT >= size]:
            del backing.parts[part]  # its log goes once nothing of it is needed, and what comes then is another's

    def set_times(self, ino: int, atime: int | None, mtime: int | None) -> None:
        backing = self.live[ino]
        backing.seen = backing.synced = None
        told = os.fstat(backing.fd)
        os.utime(
            backing.fd, ns=(told.st_atime_ns if atime is None else atime, told.st_mtime_ns if mtime is None else mtime)
        )

    def seek(self, ino: int, offset: int, whence: int) -> int:
        """As lseek(2), for SEEK_DATA and SEEK_HOLE."""
        return os.lseek(self.live[ino].fd, offset, whence)

    def allocate(self, ino: int, offset: int, length: int, mode: int) -> None:
        """As fallocate(2)."""
        self._check_writable()
        self._changed()
        backing = self.live[ino]
        backing.seen = backing.synced = None
        with _nameless():
            fd = os.open(backing.path, os.O_RDWR | OPEN_FLAGS)
        try:
            if _libc.fallocate(fd, mode, ctypes.c_int64(offset), ctypes.c_int64(length)):
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
        finally:
            os.close(fd)

    def staged(self) -> int:
        """Bytes of Staging that cannot be sealed as long as they are open, at most."""
        return sum(min(backing.status()[0], len(backing.parts) * SEGMENT) for backing in self.live.values())

    def close(self) -> None:
        """Bring everything over and let go. What cannot be taken over is left as a file that the log names."""
        for ino, backing in list(self.live.items()):
            told = backing.status()
            try:
                if backing.writes and (told[0] or told != backing.seen):
                    self._map(self._inode(ino), backing)
                self._written(backing)
            except OSError as error:
                self._leave(ino, backing, error)
            self._close(backing)
        self.live.clear()

    # -- inside ----------------------------------------------------------------------------------------------------

    def _changed(self) -> None:
        self._workspace_changed()
        self.on_change()

    def _has_dirty_pages(self, backing: Backing) -> bool:
        if self._counts_dirty_pages is None:
            assert self._staging is not None
            try:
                self._counts_dirty_pages = kernel_files.counts_dirty_pages(self._staging.directory)
            except OSError:
                return True
        return not self._counts_dirty_pages or kernel_files.has_dirty_pages(backing.fd)

    def _inode(self, ino: int) -> Inode:
        inode = self._inodes.get(ino)
        assert inode is not None  # whoever has it open keeps it
        return inode

    def _new(self, staging: Staging) -> Backing:
        self._made += 1
        path = staging.open_path(self._made)
        backing = Backing(path, OpenFile(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL))
        kernel_files.prepare(backing.fd)
        return backing

    def _written(self, backing: Backing) -> None:
        """From now on its parts are logs like others, and the next fsync is to sync them."""
        assert self._staging is not None
        for pos in backing.parts.values():
            self._staging.written(pos)

    def _close(self, backing: Backing) -> None:
        if self.on_close is not None:
            self.on_close(backing)
        with suppress(FileNotFoundError):  # it was left
            os.unlink(backing.path)

    def _leave(self, ino: int, backing: Backing, error: OSError) -> None:
        left = os.path.join(os.path.dirname(backing.path), f"inode-{ino}{_LEFT}")
        log.error("what was written to inode %d last could not be taken over (%s): it is in %s", ino, error, left)
        with suppress(OSError):
            os.replace(backing.path, left)

    def _take_attributes(self, inode: Inode, told: Told) -> None:
        size, mtime = told
        if size == inode.size and mtime == inode.mtime:
            return
        self._changed()
        if size < inode.size:
            self._data.truncate(inode, size)
        else:
            self._data.resize(inode, size)
        inode.mtime = mtime
        inode.ctime = _changed_at(inode, mtime)
        self._inodes.changed(inode)

    def _map(self, inode: Inode, backing: Backing, copied: int = _TINY) -> None:
        """Let the extents name what the backing has now, or, of no more than ``copied`` bytes, a copy of it."""
        self._check_writable()
        size, _ = told = backing.status()
        self._take_attributes(inode, told)
        if size <= copied and not backing.parts and self._copied(inode, pread(backing.fd, size, 0)):
            return
        last = -1
        for number, extents in _windows(backing.fd, size):
            named = [self._named(backing, start, end) for start, end in extents]
            self._clear(inode, last + 1, number * BLOCK_SIZE)
            if self._data.lay(inode, number, named):
                self._inodes.changed(inode)
                self._changed()
            last = number
        self._clear(inode, last + 1, size)

    def _clear(self, inode: Inode, first: int, end: int) -> None:
        """Where the backing has holes, from window ``first`` on, the inode is to have none but holes as well."""
        before = inode.allocated
        if end > first * BLOCK_SIZE:
            self._data.punch(inode, first * BLOCK_SIZE, end)
        if inode.allocated != before:
            self._inodes.changed(inode)
            self._changed()

    def _copied(self, inode: Inode, data: bytes) -> bool:
        try:
            if self._data.read(inode, 0, len(data)) == data:  # mostly nothing has changed since an fsync
                return True
            self._inodes.changed(inode)
            self._changed()
            return self._data.write(inode, 0, data) == len(data)
        except OSError:  # the disk is full, but what the backing has is there
            return False

    def _named(self, backing: Backing, start: int, end: int) -> Extent:
        assert self._staging is not None
        part, at = divmod(start, SEGMENT)
        if part not in backing.parts or not self._staging.has(backing.parts[part]):  # all of it was sealed meanwhile
            backing.parts[part] = self._staging.attach(backing.path, backing.file, part)
        return start, end, STAGED, backing.parts[part] + at


@contextmanager
def _nameless() -> Generator[None]:
    """An error is the answer to whoever asked, as it is: one with a file's name would be the local disk's failure."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror) from None


def _changed_at(inode: Inode, mtime: int) -> int:
    """When its attributes changed last. A program may have set a time to come, which is not when that was done."""
    return max(inode.ctime, min(mtime, time.time_ns()))


def _telling(told: Told, now: int) -> Told | None:
    """What was told after ``now``, if the next change will be told apart from it."""
    return told if abs(now - told[1]) > _GRAIN_NS else None


def _windows(fd: int, size: int) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """The windows of a file in which there are data, in order, each with the ranges that are no holes."""
    number, ranges = -1, list[tuple[int, int]]()
    for start, end in _data(fd, size):
        while start < end:
            stop = min(end, (start // BLOCK_SIZE + 1) * BLOCK_SIZE)
            if start // BLOCK_SIZE != number:
                if ranges:
                    yield number, ranges
                number, ranges = start // BLOCK_SIZE, []
            ranges.append((start, stop))
            start = stop
    if ranges:
        yield number, ranges


def _data(fd: int, size: int) -> Iterator[tuple[int, int]]:
    at = 0
    while at < size:
        try:
            start = os.lseek(fd, at, SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        if start >= size:
            return
        at = min(size, os.lseek(fd, start, SEEK_HOLE))
        yield start, at
