"""Large writes by way of a pipe: the kernel's pages go to Staging in one copy, and never through this process.

The header of such a request is read on its own, which costs two more system calls. So a request comes this way only
after a large write; the first one that is none ends it.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from contextlib import suppress

from flyteplugins_vol.mount import wire_protocol as wire
from flyteplugins_vol.mount.wire_barrier import FIRST
from flyteplugins_vol.mount.wire_protocol import Op
from flyteplugins_vol.workspace.piped import Piped

LARGE = 128 << 10
"""Bytes of a request from which on the next one may come through the pipe."""

_SIZES = (2 << 20, 1 << 20)  # the second is what /proc/sys/fs/pipe-max-size allows by default
_HEAD = wire.IN_HEADER.size + wire.WRITE_IN.size  # of a write: the bytes before its data


class WritePipe:
    """A pipe that is empty between two requests. Owner thread."""

    def __init__(self, ends: tuple[int, int], size: int) -> None:
        self._out, self._in = ends
        self._size = size

    @classmethod
    def opened(cls) -> WritePipe | None:
        """A new pipe; None where none can be made, or no request of useful size would fit."""
        with suppress(OSError, AttributeError):  # the latter: no `os.splice`
            os.splice  # noqa: B018
            ends = os.pipe2(os.O_CLOEXEC)
            for size in _SIZES:
                with suppress(OSError):
                    return cls(ends, fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, size))
            os.close(ends[0])
            os.close(ends[1])
        return None

    @property
    def pages(self) -> int:
        """Most pages of one request: each takes a place in the pipe, and the header another one."""
        return self._size // mmap.PAGESIZE - 1

    def receive(self, fd: int, view: memoryview) -> tuple[int, Piped | None]:
        """The size of the next request. If it is a large write, its head is in the buffer and its data are piped.

        Raises as a read of the descriptor does.
        """
        size = os.splice(fd, self._in, wire.BUFFER_SIZE)
        got = os.readv(self._out, [view[: min(size, _HEAD)]])
        if size >= LARGE:
            _, op, _, ino, *_ = wire.IN_HEADER.unpack_from(view)
            if op == Op.WRITE and ino < FIRST:
                return size, Piped(self._out, size - _HEAD)
        self.read(view, got, size)
        return size, None

    def read(self, view: memoryview, got: int, size: int) -> None:
        """Bring what is still in the pipe of a request into the buffer."""
        while got < size:
            got += os.readv(self._out, [view[got:size]])

    def renewed(self) -> WritePipe | None:
        """An empty one in its place: a write failed, and left bytes that nobody wants. None: there is none any more."""
        self.close()
        new = self.opened()
        if new is not None and new.pages < self.pages:  # the kernel was told how much there is room for
            new.close()
            return None
        return new

    def close(self) -> None:
        os.close(self._out)
        os.close(self._in)
