"""The mirror of one pack in the local cache: a sparse file, and what of it was verified since it is open.

A mirror keeps no book of what it holds. Before a block is first used through an open mirror, all of it is read and
hashed; if the hash is right it is there, else it is fetched again. So a crash, a flipped bit, a hole and a block
that another process wrote a moment ago are all one case.

An index says where in the mirror a block is, and a stranger's index may lie: its bytes are right, its place is
another block's. So whoever has verified a range holds a shared lock on it (`F_OFD_SETLK`, which ends with the open
file), and nobody writes without an exclusive one.

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
from collections.abc import Generator
from contextlib import contextmanager, suppress

from blake3 import blake3

from flyteplugins_vol.portable import OPEN_FLAGS, fcntl, pread
from flyteplugins_vol.store.base import Data
from flyteplugins_vol.store.direct import write_all

_FLOCK = struct.Struct("@hhqqi4x")  # struct flock of 64-bit Linux: type, whence, start, length, pid
_OFD_SETLK: int | None = getattr(fcntl, "F_OFD_SETLK", None)  # Linux since 3.15; macOS has none
_SEEK_DATA: int | None = getattr(os, "SEEK_DATA", None)
_PIECE = 1 << 20  # bytes read at a time to hash them: memory that the allocator has at hand, unlike 4 MiB
_CLAIMS = 1 << 62  # where the locks of claims begin; a mirror ends long before
_CLAIM_SECONDS = 10.0  # a process that holds a claim for longer is stopped, or its store hangs
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)  # as some network file systems answer
_CLAIM_PAUSES = (0.001, 0.02)  # seconds between two looks at a claim: at first, and at most


def open_mirror(path: str, *, create: bool) -> Mirror | None:
    """The mirror in this file, which then counts as used now; None if there is none and none is to be made."""
    flags = os.O_RDWR | OPEN_FLAGS | (os.O_CREAT if create else 0)
    try:
        fd = os.open(path, flags, 0o600)
    except FileNotFoundError:
        if not create:
            return None
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        fd = os.open(path, flags, 0o600)
    mirror = Mirror(fd)
    with suppress(FileNotFoundError):  # another process evicts it in this moment: `deleted` will say so
        os.utime(path)
    return mirror


class Mirror:
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
            if error.errno not in _NO_LOCKS:
                raise
        return True

    def __del__(self) -> None:
        # By reference count: a thread in the middle of a pread keeps the descriptor alive, so no number is reused
        # under its feet.
        os.close(self.fd)
