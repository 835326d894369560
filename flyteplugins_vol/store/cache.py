"""The local cache of blocks: a sparse mirror of each pack, as it would be without compression.

A mirror keeps no book of what it holds. Before a block is first used through an open mirror, all of it is read and
hashed; if the hash is right it is there, else it is fetched again. So a crash, a flipped bit, a hole and a block
that another process wrote a moment ago are all one case, several processes share a cache and wait for nobody, and an
evicted mirror can be deleted at any moment. What was verified is remembered as long as the mirror stays open.

An index says where in the mirror a block is, and a stranger's index may lie: its bytes are right, its place is
another block's. So whoever has verified a range holds a shared lock on it (`F_OFD_SETLK`, which ends with the open
file), and nobody writes without an exclusive one. A block that finds its place taken stays in memory.

Who fetches a range claims it first, by a lock as well, on bytes far behind all blocks: so of the processes that share a
cache one makes the request, and the others find what it brought. Such a lock ends with its process, and nobody waits
for it longer than `_CLAIM_SECONDS`: a claim saves requests, and nothing relies on it.
"""

from __future__ import annotations

import errno
import os
import struct
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

from blake3 import blake3
from cachetools import Cache, LRUCache, TTLCache

from flyteplugins_vol.errors import IndexDamagedError
from flyteplugins_vol.portable import OPEN_FLAGS, allocated, fcntl, free_bytes, pread, private_directory
from flyteplugins_vol.store.base import Data
from flyteplugins_vol.store.container import Entry, block_hash
from flyteplugins_vol.store.direct import write_all

_OPEN_MIRRORS = 256
_OVERFLOW = 32 << 20  # bytes kept in memory when the disk refuses a block
_PASSING = 80 << 20  # bytes in memory for readers who go through them: the farthest read-ahead, and some more
_PASSING_SECONDS = 30.0  # for which a block waits for its reader
_RUN = 1 << 20  # bytes from which on small blocks are written together
_TRIM_EVERY = 64 << 20  # bytes written between two looks at the size of the cache
_RESERVE = 256 << 20  # bytes of the disk that the cache leaves free
_FLOCK = struct.Struct("@hhqqi4x")  # struct flock of 64-bit Linux: type, whence, start, length, pid
_OFD_SETLK: int | None = getattr(fcntl, "F_OFD_SETLK", None)  # Linux since 3.15; macOS has none
_SEEK_DATA: int | None = getattr(os, "SEEK_DATA", None)
_WILL_NEED: int | None = getattr(os, "POSIX_FADV_WILLNEED", None) if hasattr(os, "posix_fadvise") else None
_PIECE = 1 << 20  # bytes read at a time to hash them: memory that the allocator has at hand, unlike 4 MiB
_CLAIMS = 1 << 62  # where the locks of claims begin; a mirror ends long before
_CLAIM_SECONDS = 10.0  # a process that holds a claim for longer is stopped, or its store hangs
_CLAIM_PAUSES = (0.001, 0.02)  # seconds between two looks at a claim: at first, and at most
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
        self._mirrors: LRUCache[str, _Mirror] = LRUCache(_OPEN_MIRRORS)
        self._overflow: LRUCache[tuple[str, int], bytes] = LRUCache(_OVERFLOW, getsizeof=len)
        self._passing: TTLCache[tuple[str, int], Data] = TTLCache(_PASSING, _PASSING_SECONDS, getsizeof=_memory_of)
        self._written = 0
        self.hits = 0  # both are counted by whoever reads files: a miss is read again, and then a hit as well
        self.misses = 0
        private_directory(self._root)

    def read(self, pack: str, at: int, size: int, skip: int, count: int) -> Data | None:
        """``count`` bytes from ``skip`` of the block at ``at``, if it has been verified; else None.

        Raises `IndexDamagedError` for bytes that are not the block's: its neighbours are none of the reader's business.
        """
        if skip < 0 or skip + count > size:
            raise IndexDamagedError(
                f"the index is damaged: bytes {skip} to {skip + count} of a block of {size}",
                hint="use another version, or verify the volume",
            )
        if self._passing and (passed := self._passed(pack, at, size, skip, count)) is not None:
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
            _unlink(path)
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

    def _mirror(self, pack: str, *, create: bool) -> _Mirror | None:
        with self._lock:
            mirror = self._mirrors.get(pack)
            if mirror is None or (create and mirror.deleted()):
                mirror = _open_mirror(os.path.join(self._root, pack[:2], pack), create=create)
                if mirror is not None:
                    self._mirrors[pack] = mirror
            return mirror

    def _passed(self, pack: str, at: int, size: int, skip: int, count: int) -> Data | None:
        with self._lock:
            plain = self._passing.get((pack, at))
            if plain is None or len(plain) != size:  # an index may lie about a block's size
                return None
            if skip + count == size:
                del self._passing[pack, at]
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
        try:
            return os.fstat(self.fd).st_nlink == 0
        except OSError:  # ESTALE, of a network file system
            return True

    def write(self, at: int, data: Data, past_cache: bool) -> bool:
        """Write verified bytes and hold them; False if somebody else holds some of their place, or is busy there."""
        size = len(data)
        with self._alone(at, size) as alone:
            if not alone or not self._locked(fcntl.F_WRLCK, at, size):
                return False
            try:
                write_all(self.fd, data, at, past_cache=past_cache)
            except BaseException:
                self._let_go(at, size)
                raise
            self._locked(fcntl.F_RDLCK, at, size)  # in one step: nobody gets in between
            self.add(at, size)
            return True

    def adopt(self, at: int, size: int, digest: bytes) -> bool:
        """Hold what is there if it has this hash: nobody changes it from then on."""
        with self._alone(at, size) as alone:
            if not alone or self._touches(at, size):
                return self.has(at, size)
            if self.next_data(at) >= at + size or not self._locked(fcntl.F_RDLCK, at, size):
                return False
            if self._hash(at, size) != digest:
                self._let_go(at, size)
                return False
            self.add(at, size)
            return True

    def claim(self, start: int, end: int) -> bool:
        """Whether the claim is granted in time. Not to other threads of this process: it is one holder."""
        pause, longest = _CLAIM_PAUSES
        deadline = time.monotonic() + _CLAIM_SECONDS
        while not self._locked(fcntl.F_WRLCK, _CLAIMS + start, end - start):
            if time.monotonic() > deadline:
                return False
            time.sleep(pause)
            pause = min(pause * 2, longest)
        return True

    def unclaim(self, start: int, end: int) -> None:
        self._locked(fcntl.F_UNLCK, _CLAIMS + start, end - start)

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

    def next_data(self, at: int) -> int:
        """Where the first byte from here on is that was ever written, as far as the file system can tell."""
        if _SEEK_DATA is None:
            return at
        try:
            return os.lseek(self.fd, at, _SEEK_DATA)
        except OSError as error:
            return _CLAIMS if error.errno == errno.ENXIO else at  # nothing follows; or it does not tell

    def _hash(self, at: int, size: int) -> bytes:
        """The hash of what is there; of nothing where the file ends before."""
        hasher = blake3()
        end = at + size
        while at < end:
            piece = pread(self.fd, min(_PIECE, end - at), at)
            if not piece:
                return b""
            hasher.update(piece)
            at += len(piece)
        return hasher.digest()

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


# An LRU cache's own look-up makes what it finds the most recent; a look at all of them must not.
_peek = cast("Callable[[LRUCache[str, _Mirror], str], _Mirror]", Cache.__getitem__)  # pyright: ignore[reportUnknownMemberType]


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


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
