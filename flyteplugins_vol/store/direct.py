"""Large writes past the kernel's page cache, where the disk is quick.

Blocks and packs are written once and seldom read again soon, and who reads a file has it in the page cache already, as
pages of the mount. A second copy there costs more than all else that is done to the bytes (on a virtual machine 2 s of
CPU for a GiB, and 0.08 s past it), takes memory from programs, counts against a container's, and waits for the disk
all the same when it is synced.

A slow disk is better written to through the page cache, which takes a burst at the speed of memory. So the writes are
timed, and while they are found to be slow, or another one is under way for long, bytes go the usual way.
"""

from __future__ import annotations

import errno
import mmap
import os
import threading
import time
from collections.abc import Callable

from flyteplugins_vol.portable import OPEN_FLAGS, pwrite
from flyteplugins_vol.store.base import Data

PAGE = 4096
"""Offset, size and memory of such a write are multiples of this: enough for the usual file systems and disks."""

LEAST = 1 << 20
"""Bytes from which on it pays."""

_BUFFER = 2 << 20
_TIMED = 32 << 20  # bytes that are timed together: one write may meet anything
_SECONDS = _TIMED / 200e6  # that they may take; the page cache is the better place for what takes longer
_REST = 64  # writes that go the usual way then
_PATIENCE = 0.05  # seconds to wait for another write on the same disk
_DIRECT: int = getattr(os, "O_DIRECT", 0) if hasattr(os, "pwrite") else 0  # macOS and Windows have none


def write_all(fd: int, data: Data, offset: int, *, past_cache: bool = False) -> None:
    """Write all of ``data`` at ``offset``. Any thread. Raises OSError; nobody knows how much is written then.

    ``past_cache``: whole pages of large data go past the page cache, where that can be done and pays. They are on the
    disk then, but the file's size and where they lie are not before it is synced.
    """
    rest = memoryview(data).cast("B")
    if past_cache and len(rest) >= LEAST and _DIRECT:
        head = -offset % PAGE
        _write(fd, rest[:head], offset)
        whole = (len(rest) - head) // PAGE * PAGE
        done = head + _writer_of(fd).write(fd, rest[head : head + whole], offset + head)
        rest = rest[done:]
        offset += done
    _write(fd, rest, offset)


def _write(fd: int, data: memoryview, offset: int) -> None:
    while data:
        done = pwrite(fd, data, offset)
        data = data[done:]
        offset += done


class DirectWriter:
    """Writes to one disk. One at a time, through one buffer: it does not become quicker by more, and they are timed."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._buffer: mmap.mmap | None = None  # whose memory begins at a page
        self._rest = 0
        self._bytes = 0  # of those that are timed together
        self._seconds = 0.0

    def write(self, fd: int, data: memoryview, offset: int) -> int:
        """Write whole pages, or the first of them; returns how many bytes. The others are the caller's to write.

        Raises OSError EIO; every other failure is met again by who writes the rest.
        """
        if not self._lock.acquire(timeout=_PATIENCE):
            return 0
        try:
            if self._rest:
                self._rest -= 1
                return 0
            try:
                own = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | OPEN_FLAGS | _DIRECT)
            except OSError:  # this file system does not have it, or there is no /proc
                self._rest = _REST
                return 0
            try:
                return self._write(own, data, offset)
            finally:
                os.close(own)
        finally:
            self._lock.release()

    def _write(self, fd: int, data: memoryview, offset: int) -> int:
        if self._buffer is None:
            # private: a process that was forked would write into the other's bytes
            self._buffer = mmap.mmap(-1, _BUFFER, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        done = 0
        with memoryview(self._buffer) as buffer:
            while done < len(data) and not self._rest:
                size = min(len(data) - done, _BUFFER)
                buffer[:size] = data[done : done + size]
                begin = self._clock()
                try:
                    written = os.pwrite(fd, buffer[:size], offset + done)
                except OSError as error:
                    if error.errno == errno.EIO:  # the page cache would take the bytes, and tell of it later
                        raise
                    written = 0
                done += written
                self._rest = self._judged(written, self._clock() - begin, whole=written == size)
        return done

    def _judged(self, written: int, seconds: float, *, whole: bool) -> int:
        """How many of the next writes are better done the usual way. What ended early may have ended within a page."""
        self._bytes += written
        self._seconds += seconds
        slow = self._seconds > _SECONDS
        if slow or self._bytes >= _TIMED:
            self._bytes, self._seconds = 0, 0.0
        return _REST if slow or not whole else 0


_writers: dict[int, DirectWriter] = {}  # by the number of the disk

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_writers.clear)  # a thread that is not there any more may hold their locks


def _writer_of(fd: int) -> DirectWriter:
    return _writers.setdefault(os.fstat(fd).st_dev, DirectWriter())
