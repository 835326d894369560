"""The local cache of blocks: a sparse mirror of each pack, as it would be without compression (`mirror`).

Several processes share a cache and wait for nobody, and an evicted mirror can be deleted at any moment. A block that
finds no place on disk, or its place taken, stays in memory; so does one on its way to a reader who goes through it.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

from cachetools import Cache, LRUCache, TTLCache

from flyteplugins_vol.errors import IndexDamagedError
from flyteplugins_vol.portable import allocated, free_bytes, pread, private_directory
from flyteplugins_vol.store.base import Data
from flyteplugins_vol.store.container import Entry, block_hash
from flyteplugins_vol.store.mirror import Mirror, open_mirror

_OPEN_MIRRORS = 256
_OVERFLOW = 32 << 20  # bytes kept in memory when the disk refuses a block
_PASSING = 80 << 20  # bytes in memory for readers who go through them: the farthest read-ahead, and some more
_PASSING_SECONDS = 30.0  # for which a block waits for its reader
_RUN = 1 << 20  # bytes from which on small blocks are written together
_TRIM_EVERY = 64 << 20  # bytes written between two looks at the size of the cache
_RESERVE = 256 << 20  # bytes of the disk that the cache leaves free
_WILL_NEED: int | None = getattr(os, "POSIX_FADV_WILLNEED", None) if hasattr(os, "posix_fadvise") else None
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


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
        self._mirrors: LRUCache[str, Mirror] = LRUCache(_OPEN_MIRRORS)
        self._overflow: LRUCache[tuple[str, int], bytes] = LRUCache(_OVERFLOW, getsizeof=len)
        self._passing: TTLCache[tuple[str, int], Data] = TTLCache(_PASSING, _PASSING_SECONDS, getsizeof=_memory_of)
        self._passes = False  # a TTLCache may be asked nothing without the lock: it forgets what is old
        self._written = 0
        self.hits = 0  # both are counted by whoever reads files: a miss is read again, and then a hit as well
        self.misses = 0
        private_directory(self._root)

    @property
    def disk(self) -> int | None:
        """The number of the disk that it is on, see `ObjectStore.disk`."""
        try:
            return os.stat(self._root).st_dev
        except OSError:  # somebody has cleared it away: the next write makes it again
            return None

    def read(self, pack: str, at: int, size: int, skip: int, count: int) -> Data | None:
        """``count`` bytes from ``skip`` of the block at ``at``, if it has been verified; else None.

        Raises `IndexDamagedError` for bytes that are not the block's: its neighbours are none of the reader's business.
        """
        if skip < 0 or skip + count > size:
            raise IndexDamagedError(
                f"the index is damaged: bytes {skip} to {skip + count} of a block of {size}",
                hint="use another version, or verify the volume",
            )
        if self._passes and (passed := self._passed(pack, at, size, skip, count)) is not None:
            return passed
        with self._lock:
            mirror = self._mirrors.get(pack)
        if mirror is None or not mirror.has(at, size):
            return self._from_overflow(pack, at, skip, count)
        data = pread(mirror.fd, count, at + skip)
        return data if len(data) == count else None

    def expect(self, pack: str, at: int, size: int, *, soon: bool = False) -> bool:
        """Whether `read` serves the block; if it is wanted ``soon``, the disk begins to read it. Does not wait."""
        with self._lock:
            mirror = self._mirrors.get(pack)
        if mirror is None or not mirror.has(at, size):
            return bool(self._overflow) and self._from_overflow(pack, at, 0, 1) is not None
        if soon and _WILL_NEED is not None:
            os.posix_fadvise(mirror.fd, at, size, _WILL_NEED)
        return True

    def admit(self, ref: BlockRef) -> bool:
        """Whether the block is in its mirror, unharmed; from now on `read` serves it."""
        mirror = self._mirror(ref.pack, create=False)
        if mirror is None:
            return False
        if mirror.has(ref.at, ref.entry.size):
            return True
        return mirror.adopt(ref.at, ref.entry.size, ref.entry.hash)

    def absent(self, refs: Sequence[BlockRef]) -> list[BlockRef]:
        """Those of these blocks of one pack that are not in its mirror; from now on `read` serves the others.

        As `admit` for each, but a hole over thousands of small blocks is looked at once.
        """
        mirror = self._mirror(refs[0].pack, create=False) if refs else None
        if mirror is None:
            return list(refs)
        missing: list[BlockRef] = []
        hole, data = 0, -1  # a hole that was found: nothing is between them
        for ref in refs:
            at, size = ref.at, ref.entry.size
            if mirror.has(at, size):
                continue
            if not hole <= at <= at + size <= data:
                hole, data = at, mirror.next_data(at)
                if data < at + size and mirror.adopt(at, size, ref.entry.hash):
                    continue
            missing.append(ref)
        return missing

    @contextmanager
    def claim(self, pack: str, start: int, end: int) -> Generator[None]:
        """Be the only process to fetch blocks between two places of a mirror; waits while another one is.

        Look at what is there when it is granted. One claim at a time in a thread, or two could wait for each other.
        """
        try:
            mirror = self._mirror(pack, create=True)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            mirror = None
        claimed = mirror is not None and mirror.claim(start, end)
        try:
            yield
        finally:
            if mirror is not None and claimed:
                mirror.unclaim(start, end)

    def put(self, pack: str, at: int, blocks: Sequence[Data], *, past_cache: bool = False) -> None:
        """Keep verified blocks that follow one another in the mirror from ``at``.

        ``past_cache``: nobody is expected to read them from the disk soon, so they need not be in the page cache.
        """
        try:
            kept = self._write_runs(pack, at, blocks, past_cache)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            self.trim(max(0, self.used() - sum(map(len, blocks)) - _TRIM_EVERY))
            kept = False
        if not kept:  # whoever waits for these blocks must be able to read them, or would fetch them for ever
            self._keep_in_memory(pack, at, blocks)

    def _write_runs(self, pack: str, at: int, blocks: Sequence[Data], past_cache: bool) -> bool:
        for run in _runs(blocks):
            data = run[0] if len(run) == 1 else b"".join(run)
            if not self._write(pack, at, data, past_cache):
                return False
            at += len(data)
        return True

    def pass_on(self, pack: str, at: int, block: Data) -> bool:
        """Have a verified block in memory for a reader who goes through it now, until its end was read.

        False if there is no room for it: more readers are on their way than memory is for. What nobody comes for is
        forgotten after some time.
        """
        with self._lock:
            self._passing.expire()
            room = self._passing.currsize + _memory_of(block) <= _PASSING
            if room:
                self._passing[pack, at] = block
                self._passes = True
            return room

    def let_go(self) -> None:
        """Forget what `pass_on` was told: nobody came for it."""
        with self._lock:
            self._passing.clear()

    def close_evicted(self) -> None:
        """Let go of mirrors that another process has deleted: open, they take space that nobody counts."""
        with self._lock:
            opened = [(pack, _peek(self._mirrors, pack)) for pack in list(self._mirrors)]
        evicted = [(pack, mirror) for pack, mirror in opened if mirror.deleted()]
        with self._lock:
            for pack, mirror in evicted:
                if pack in self._mirrors and _peek(self._mirrors, pack) is mirror:
                    del self._mirrors[pack]
        # here, without the lock, their last references go, and with them their space

    def used(self) -> int:
        """Bytes on disk of all mirrors, also those of other processes."""
        return sum(size for _, size, _ in self._scan())

    def trim(self, limit: int | None = None) -> int:
        """Delete the mirrors used longest ago until ``limit`` bytes are left; returns bytes freed."""
        self.close_evicted()
        mirrors = sorted(self._scan())
        used = sum(size for _, size, _ in mirrors)
        limit = self._bound(used) if limit is None else limit
        freed = 0
        for _, size, path in mirrors:
            if used - freed <= limit:
                break
            with self._lock:
                self._mirrors.pop(os.path.basename(path), None)
            if _unlink(path):
                freed += size
        return freed

    def close(self) -> None:
        with self._lock:
            self._mirrors.clear()
            self._overflow.clear()
            self._passing.clear()

    def _write(self, pack: str, at: int, data: Data, past_cache: bool) -> bool:
        """Whether the mirror has it in the end: its place may be taken; a limit below its size makes it go at once."""
        mirror = self._mirror(pack, create=True)
        assert mirror is not None
        if not mirror.write(at, data, past_cache):
            return mirror.adopt(at, len(data), block_hash(data))  # another process was as quick
        with self._lock:
            self._written += len(data)
            due = self._written >= min(_TRIM_EVERY, (_TRIM_EVERY if self._limit is None else self._limit) // 4)
            if due:
                self._written = 0
        if due:
            self.trim()
        with self._lock:
            return self._mirrors.get(pack) is mirror

    def _mirror(self, pack: str, *, create: bool) -> Mirror | None:
        with self._lock:
            mirror = self._mirrors.get(pack)
            if mirror is None or (create and mirror.deleted()):
                mirror = open_mirror(os.path.join(self._root, pack[:2], pack), create=create)
                if mirror is not None:
                    self._mirrors[pack] = mirror
            return mirror

    def _passed(self, pack: str, at: int, size: int, skip: int, count: int) -> Data | None:
        with self._lock:
            self._passes = bool(self._passing)
            plain = self._passing.get((pack, at))
            if plain is None or len(plain) != size:  # an index may lie about a block's size
                return None
            if skip + count == size:
                self._passing.pop((pack, at), None)
        return memoryview(plain)[skip : skip + count]

    def _from_overflow(self, pack: str, at: int, skip: int, count: int) -> bytes | None:
        if not self._overflow:
            return None
        with self._lock:
            plain = self._overflow.get((pack, at))
        return None if plain is None else plain[skip : skip + count]

    def _keep_in_memory(self, pack: str, at: int, blocks: Sequence[Data]) -> None:
        with self._lock:
            for plain in blocks:
                self._overflow[pack, at] = bytes(plain)  # which may be a part of something larger
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


# An LRU cache's own look-up makes what it finds the most recent; a look at all of them must not.
_peek = cast("Callable[[LRUCache[str, Mirror], str], Mirror]", Cache.__getitem__)  # pyright: ignore[reportUnknownMemberType]


def _memory_of(block: Data) -> int:
    """Bytes that stay in memory as long as the block does, which may be a part of an answer."""
    return memoryview(block.obj).nbytes if isinstance(block, memoryview) else len(block)


def _runs(blocks: Sequence[Data]) -> Iterator[Sequence[Data]]:
    """Blocks that are written together: small ones, until they are a large one."""
    run: list[Data] = []
    size = 0
    for block in blocks:
        if run and size + len(block) > _RUN:
            yield run
            run, size = [], 0
        run.append(block)
        size += len(block)
    if run:
        yield run


def _entries(path: str) -> list[os.DirEntry[Any]]:
    try:
        with os.scandir(path) as found:
            return list(found)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _unlink(path: str) -> bool:
    """Whether its space is free now, or will be when it is closed."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    except PermissionError:  # Windows, while another process has it open
        return False
    return True
