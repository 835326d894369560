"""Large writes past the kernel's page cache, where the disk is quick.

Blocks and packs are written once and seldom read again soon, and who reads a file has it in the page cache already, as
pages of the mount. A second copy there costs more than all else that is done to the bytes (on a virtual machine 2 s of
CPU for a GiB, and 0.08 s past it), takes memory from programs, counts against a container's, and waits for the disk
all the same when it is synced.

A slow disk is better written to through the page cache, which takes a burst at the speed of memory. So the writes are
timed, and where some together took long the next ones are left to the caller.
"""

from __future__ import annotations

import mmap
import os
import threading
import time
from collections.abc import Callable

from flyteplugins_vol.portable import OPEN_FLAGS
from flyteplugins_vol.store.base import Data

PAGE = 4096
"""Offset, size and memory of such a write are multiples of this: enough for the usual file systems and disks."""

LEAST = 1 << 20
"""Bytes from which on it pays."""

_BUFFER = 2 << 20
_QUICK = 200e6  # bytes a second, below which the page cache is the better place
_TIMED = 32 << 20  # bytes that are timed together: one write may meet anything
_REST = 64  # writes that are left to the caller then
_DIRECT: int = getattr(os, "O_DIRECT", 0) if hasattr(os, "pwrite") else 0  # macOS and Windows have none


class DirectWriter:
    """One write at a time, through one buffer: a disk does not become quicker by more, and they can be timed."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._buffer: mmap.mmap | None = None  # whose memory begins at a page
        self._rest = 0 if _DIRECT else -1
        self._bytes = 0  # of those that are timed together
        self._seconds = 0.0

    def write(self, fd: int, data: Data, offset: int) -> int:
        """See `write_past_cache`; whole pages only."""
        with self._lock:
            if self._rest:
                self._rest -= self._rest > 0
                return 0
            try:
                own = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | OPEN_FLAGS | _DIRECT)
            except OSError:  # this file system does not have it, or there is no /proc
                self._rest = _REST
                return 0
            try:
                return self._timed(own, memoryview(data), offset)
            finally:
                os.close(own)

    def _timed(self, fd: int, data: memoryview, offset: int) -> int:
        begin = self._clock()
        done = self._write(fd, data, offset)
        self._seconds += self._clock() - begin
        self._bytes += done
        if done < len(data) or self._bytes >= _TIMED:
            if done < len(data) or self._bytes < _QUICK * self._seconds:
                self._rest = _REST
            self._bytes, self._seconds = 0, 0.0
        return done

    def _write(self, fd: int, data: memoryview, offset: int) -> int:
        if self._buffer is None:
            # private: a process that was forked would write into the other's bytes
            self._buffer = mmap.mmap(-1, _BUFFER, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        done = 0
        with memoryview(self._buffer) as buffer:
            while done < len(data):
                size = min(len(data) - done, _BUFFER)
                buffer[:size] = data[done : done + size]
                try:
                    written = os.pwrite(fd, buffer[:size], offset + done)
                except OSError:  # also for want of room: the caller meets that again, and says so
                    break
                done += written
                if written < size:  # it may have ended within a page
                    break
        return done


_direct = DirectWriter()


def write_past_cache(fd: int, data: Data, offset: int) -> int:
    """Write ``data`` at ``offset``, a multiple of `PAGE`; returns how many bytes were written, often all whole pages.

    0 where it can't be done or does not pay. What is left is the caller's to write, as are all errors. The bytes are on
    the disk then, but the file's size and where they lie are not before it is synced. Any thread.
    """
    size = len(data) // PAGE * PAGE
    if size < LEAST:
        return 0
    assert not offset % PAGE
    return _direct.write(fd, memoryview(data)[:size], offset)
