"""The local cache of blocks: a sparse mirror of each pack, as it would be without compression.

A mirror keeps no book of what it holds. Before a block is first used through an open mirror, all of it is read and
hashed; if the hash is right it is there, else it is fetched again. So a crash, a flipped bit, a hole and a block
that another process wrote a moment ago are all one case, several processes share a cache with no lock, and an
evicted mirror can be deleted at any moment. What was verified is remembered as long as the mirror stays open.
"""

from __future__ import annotations

import errno
import os
import threading
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, NamedTuple

from cachetools import LRUCache

from flyteplugins_vol.store.container import Entry, block_hash

_OPEN_MIRRORS = 256
_OVERFLOW = 32 << 20  # bytes kept in memory when the disk refuses a block
_TRIM_EVERY = 64 << 20  # bytes written between two looks at the size of the cache
_RESERVE = 256 << 20  # bytes of the disk that the cache leaves free


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
        self.hits = 0
        self.misses = 0
        os.makedirs(self._root, mode=0o700, exist_ok=True)

    def read(self, pack: str, at: int, size: int, skip: int, count: int) -> bytes | None:
        """``count`` bytes from ``skip`` of the block at ``at``, if it has been verified; else None."""
        with self._lock:
            mirror = self._mirrors.get(pack)
        if mirror is None or not mirror.has(at, size):
            return self._from_overflow(pack, at, skip, count)
        data = os.pread(mirror.fd, count, at + skip)
        return data if len(data) == count else None

    def admit(self, ref: BlockRef) -> bool:
        """Whether the block is in its mirror, unharmed; from now on `read` serves it."""
        mirror = self._mirror(ref.pack, create=False)
        if mirror is None:
            return False
        if mirror.has(ref.at, ref.entry.size):
            return True
        plain = os.pread(mirror.fd, ref.entry.size, ref.at)
        if len(plain) != ref.entry.size or block_hash(plain) != ref.entry.hash:
            return False
        mirror.add(ref.at, ref.entry.size)
        return True

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
        """Whether the mirror is still there in the end: a limit below its size makes it go at once."""
        mirror = self._mirror(pack, create=True)
        assert mirror is not None
        view = memoryview(data)
        while view:
            done = os.pwrite(mirror.fd, view, at + len(data) - len(view))
            view = view[done:]
        mirror.add(at, len(data))
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
        stats = os.statvfs(self._root)
        room = used + stats.f_bavail * stats.f_frsize - _RESERVE
        return max(0, min(room, self._limit if self._limit is not None else room // 2))

    def _scan(self) -> list[tuple[float, int, str]]:
        found: list[tuple[float, int, str]] = []
        for shard in _entries(self._root):
            for file in _entries(shard.path):
                try:
                    info = file.stat()
                except FileNotFoundError:
                    continue
                found.append((info.st_mtime, info.st_blocks * 512, file.path))
        return found


class _Mirror:
    """An open mirror and the ranges of it that were verified. Closed when nobody refers to it any more."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._lock = threading.Lock()

    def deleted(self) -> bool:
        """Whether another process has evicted it: what it takes now would be space that nobody counts."""
        return os.fstat(self.fd).st_nlink == 0

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

    def __del__(self) -> None:
        # By reference count: a thread in the middle of a pread keeps the descriptor alive, so no number is reused
        # under its feet.
        os.close(self.fd)


def _open_mirror(path: str, *, create: bool) -> _Mirror | None:
    flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
    try:
        fd = os.open(path, flags, 0o600)
    except FileNotFoundError:
        if not create:
            return None
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        fd = os.open(path, flags, 0o600)
    os.utime(fd)
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
