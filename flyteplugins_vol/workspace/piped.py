"""Bytes of a write that wait in a pipe, as references to the kernel's own pages."""

from __future__ import annotations

import errno
import os

from flyteplugins_vol.portable import pwrite


class Piped:
    """Bytes that can be taken once, in their order: all of them at once, or one slice after the other."""

    __slots__ = ("_fd", "_left")

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self._left = size

    def __len__(self) -> int:
        return self._left

    def __getitem__(self, part: slice) -> Piped:
        """The next bytes, as many as the slice has."""
        return Piped(self._fd, part.stop - part.start)

    def __bytes__(self) -> bytes:
        parts: list[bytes] = []
        while self._left:
            parts.append(os.read(self._fd, self._left))
            self._left -= len(parts[-1])
        return b"".join(parts)

    def move_to(self, fd: int, at: int) -> None:
        """Write them into a file: one copy, inside the kernel. After an OSError some of them are lost."""
        try:
            while self._left:
                done = os.splice(self._fd, fd, self._left, offset_dst=at)
                self._left -= done
                at += done
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            data = memoryview(bytes(self))  # a file system that takes no pages
            while data:
                done = pwrite(fd, data, at)
                data = data[done:]
                at += done


Bytes = bytes | memoryview | Piped
"""What a write brings."""
