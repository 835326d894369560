"""The local cache of blocks: a sparse mirror of each pack, as it would be without compression.

A mirror keeps no book of what it holds. Before a block is first used through an open mirror, all of it is read and
hashed; if the hash is right it is there, else it is fetched again. So a crash, a flipped bit, a hole and a block
that another process wrote a moment ago are all one case, several processes share a cache and wait for nobody, and an
evicted mirror can be deleted at any moment. What was verified is remembered as long as the mirror stays open.

An index says where in the mirror a block is, and a stranger's index may lie: its bytes are right, its place is
another block's. So whoever has verified a range holds a shared lock on it (`F_OFD_SETLK`, which ends with the open
file), and nobody writes without an exclusive one. A block that finds its place taken stays in memory.
"""

from __future__ import annotations

import errno
import os
import struct
import threading
from bisect import bisect_right
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from cachetools import LRUCache

from flyteplugins_vol.errors import IndexDamagedError
from flyteplugins_vol.portable import OPEN_FLAGS, allocated, fcntl, free_bytes, pread, private_directory, pwrite
from flyteplugins_vol.store.container import Entry, block_hash

_OPEN_MIRRORS = 256
_OVERFLOW = 32 << 20  # bytes kept in memory when the disk refuses a block
_TRIM_EVERY = 64 << 20  # bytes written between two looks at the size of the cache
_RESERVE = 256 << 20  # bytes of the disk that the cache leaves free
_FLOCK = struct.Struct("@hhqqi4x")  # struct flock of 64-bit Linux: type, whence, start, length, pid
_OFD_SETLK: int | None = getattr(fcntl, "F_OFD_SETLK", None)  # Linux since 3.15; macOS has none


class BlockRef(NamedTuple):
    """Where a block is: its pack and stored bytes, and ``at``, its place in the pack's mirror."""

    pack: str
    at: int
    entry: Entry


class BlockCache:
    """Verified plain blocks on local disk, bounded by ``limit`` bytes. Thread-safe; shared by processes."""

    def __init__(self, directory: str, limit: int | None = None) -> None:
        self._root = os.path.join(directory, "blocks")
        self._limit = limit
        self._lock = threading.Lock()
        self._mirrors: LRUCache[str, _Mirror] = LRUCache(_OPEN_MIRRORS)
        self._overflow: LRUCache[tuple[str, int], bytes] = LRUCache(_OVERFLOW, getsizeof=len)
        self._written = 0
        self.hits = 0  # both are counted by whoever reads files: a miss is read again, and then a hit as well
        self.misses = 0
        private_directory(self._root)

    def read(self, pack: str, at: int, size: int, skip: int, count: int) -> bytes | None:
        """``count`` bytes from ``skip`` of the block at ``at``, if it has been verified; else None.

        Raises `IndexDamagedError` for bytes that are not the block's: its neighbours are none of the reader's business.
        """
        if skip < 0 or skip + count > size:
            raise IndexDamagedError(
                f"the index is damaged: bytes {skip} to {skip + count} of a block of {size}",
                hint="use another version, or verify the volume",
            )
        with self._lock:
            mirror = self._mirrors.get(pack)
        if mirror is None or not mirror.has(at, size):
            return self._from_overflow(pack, at, skip, count)
        data = pread(mirror.fd, count, at + skip)
        return data if len(data) == count else None

    def admit(self, ref: BlockRef) -> bool:
        """Whether the block is in its mirror, unharmed; from now on `read` serves it."""
        mirror = self._mirror(ref.pack, create=False)
        if mirror is None:
            return False
        if mirror.has(ref.at, ref.entry.size):
            return True
        return mirror.adopt(ref.at, ref.entry.size, lambda plain: block_hash(plain) == ref.entry.hash)

    def put(self, pack: str, at: int, blocks: Sequence[bytes]) -> None:
        """Keep verified blocks that follow one another in the mirror from ``at``."""
        data = blocks[0] if len(blocks) == 1 else b"".join(blocks)
        try:
            kept = self._write(pack, at, data)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
                raise
            self.trim(max(0, self.used() - len(data) - _TRIM_EVERY))
            kept = False
        if not kept:  # whoever waits for these blocks must be able to read them, or would fetch them for ever
            self._keep_in_memory(pack, at, blocks)

    def used(self) -> int:
        """Bytes on disk of all mirrors, also those of other processes."""
        return sum(size for _, size, _ in self._scan())

    def trim(self, limit: int | None = None) -> int:
        """Delete the mirrors used longest ago until ``limit`` bytes are left; returns bytes freed."""
        mirrors = sorted(self._scan())
        used = sum(size for _, size, _ in mirrors)
        limit = self._bound(used) if limit is None else limit
        freed = 0
        for _, size, path in mirrors:
            if used - freed <= limit:
                break
            with self._lock:
                self._mirrors.pop(os.path.basename(path), None)
            _unlink(path)
            freed += size
        return freed

    def close(self) -> None:
        with self._lock:
            self._mirrors.clear()
            self._overflow.clear()

    def _write(self, pack: str, at: int, data: bytes) -> bool:
        """Whether the mirror has it in the end: its place may be taken; a limit below its size makes it go at once."""
        mirror = self._mirror(pack, create=True)
        assert mirror is not None
        if not mirror.write(at, data):
            return mirror.adopt(at, len(data), lambda there: there == data)  # another process was as quick
        with self._lock:
            self._written += len(data)
            due = self._written >= min(_TRIM_EVERY, (_TRIM_EVERY if self._limit is None else self._limit) // 4)
            if due:
                self._written = 0
        if due:
            self.trim()
        with self._lock:
            return self._mirrors.get(pack) is mirror

    def _mirror(self, pack: str, *, create: bool) -> _Mirror | None:
        with self._lock:
            mirror = self._mirrors.get(pack)
            if mirror is None or (create and mirror.deleted()):
                mirror = _open_mirror(os.path.join(self._root, pack[:2], pack), create=create)
                if mirror is not None:
                    self._mirrors[pack] = mirror
            return mirror

    def _from_overflow(self, pack: str, at: int, skip: int, count: int) -> bytes | None:
        if not self._overflow:
            return None
        with self._lock:
            plain = self._overflow.get((pack, at))
        return None if plain is None else plain[skip : skip + count]

    def _keep_in_memory(self, pack: str, at: int, blocks: Sequence[bytes]) -> None:
        with self._lock:
            for plain in blocks:
                self._overflow[pack, at] = plain
                at += len(plain)

    def _bound(self, used: int) -> int:
        room = used + free_bytes(self._root) - _RESERVE
        return max(0, min(room, self._limit if self._limit is not None else room // 2))

    def _scan(self) -> list[tuple[float, int, str]]:
        found: list[tuple[float, int, str]] = []
        for shard in _entries(self._root):
            for file in _entries(shard.path):
                try:
                    info = file.stat()
                except FileNotFoundError:
                    continue
                found.append((info.st_mtime, allocated(info), file.path))
        return found


class _Mirror:
    """An open mirror and the ranges of it that were verified. Closed when nobody refers to it any more."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._busy: list[tuple[int, int]] = []  # ranges that a thread writes, or looks at to hold them
        self._lock = threading.Lock()

    def deleted(self) -> bool:
        """Whether another process has evicted it: what it takes now would be space that nobody counts."""
        return os.fstat(self.fd).st_nlink == 0

    def write(self, at: int, data: bytes) -> bool:
        """Write verified bytes and hold them; False if somebody else holds some of their place, or is busy there."""
        size = len(data)
        with self._alone(at, size) as alone:
            if not alone or not self._locked(fcntl.F_WRLCK, at, size):
                return False
            try:
                view = memoryview(data)
                while view:
                    done = pwrite(self.fd, view, at + size - len(view))
                    view = view[done:]
            except BaseException:
                self._let_go(at, size)
                raise
            self._locked(fcntl.F_RDLCK, at, size)  # in one step: nobody gets in between
            self.add(at, size)
            return True

    def adopt(self, at: int, size: int, right: Callable[[bytes], bool]) -> bool:
        """Hold what is there if it is ``right``: nobody changes it from then on."""
        with self._alone(at, size) as alone:
            if not alone or self._touches(at, size) or not self._locked(fcntl.F_RDLCK, at, size):
                return self.has(at, size)
            plain = pread(self.fd, size, at)
            if len(plain) != size or not right(plain):
                self._let_go(at, size)
                return False
            self.add(at, size)
            return True

    def has(self, at: int, size: int) -> bool:
        with self._lock:
            i = bisect_right(self._starts, at) - 1
            return i >= 0 and self._ends[i] >= at + size

    def add(self, at: int, size: int) -> None:
        """Remember a verified range, joined with its neighbours: a whole pack is one range in the end."""
        end = at + size
        with self._lock:
            first = bisect_right(self._starts, at)
            if first and self._ends[first - 1] >= at:
                first -= 1
                at = self._starts[first]
            last = first
            while last < len(self._starts) and self._starts[last] <= end:
                end = max(end, self._ends[last])
                last += 1
            self._starts[first:last] = [at]
            self._ends[first:last] = [end]

    @contextmanager
    def _alone(self, at: int, size: int) -> Generator[bool]:
        """Whether no other thread is at work there. To the kernel all threads of an open file are one holder."""
        mine = (at, at + size)
        with self._lock:
            alone = all(end <= at or start >= at + size for start, end in self._busy)
            if alone:
                self._busy.append(mine)
        try:
            yield alone
        finally:
            if alone:
                with self._lock:
                    self._busy.remove(mine)

    def _touches(self, at: int, size: int) -> bool:
        """Whether some of this range is held: an index that knows another block there contradicts itself."""
        with self._lock:
            i = bisect_right(self._starts, at + size - 1) - 1
            return i >= 0 and self._ends[i] > at

    def _let_go(self, at: int, size: int) -> None:
        self._locked(fcntl.F_RDLCK if self._touches(at, size) else fcntl.F_UNLCK, at, size)

    def _locked(self, kind: int, at: int, size: int) -> bool:
        """Whether this open file has the lock now. Without such locks a mirror is one process's honour."""
        if _OFD_SETLK is None:
            return True
        try:
            fcntl.fcntl(self.fd, _OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, at, size, 0))
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP):  # some network file systems have no locks
                raise
        return True

    def __del__(self) -> None:
        # By reference count: a thread in the middle of a pread keeps the descriptor alive, so no number is reused
        # under its feet.
        os.close(self.fd)


def _open_mirror(path: str, *, create: bool) -> _Mirror | None:
    flags = os.O_RDWR | OPEN_FLAGS | (os.O_CREAT if create else 0)
    try:
        fd = os.open(path, flags, 0o600)
    except FileNotFoundError:
        if not create:
            return None
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        fd = os.open(path, flags, 0o600)
    os.utime(path)
    return _Mirror(fd)


def _entries(path: str) -> list[os.DirEntry[Any]]:
    try:
        with os.scandir(path) as found:
            return list(found)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
