"""Which inodes are in use, so that an unlinked file lives as long as somebody has it open or the kernel knows it."""

from __future__ import annotations

import os

_WRITES = os.O_WRONLY | os.O_RDWR


class Usage:
    """Counts of opens, of opens for writing, and of the kernel's lookups, by inode."""

    def __init__(self) -> None:
        self._opens: dict[int, int] = {}
        self._writers: dict[int, int] = {}
        self._lookups: dict[int, int] = {}

    def open(self, ino: int, flags: int) -> None:
        self._opens[ino] = self._opens.get(ino, 0) + 1
        if flags & _WRITES:
            self._writers[ino] = self._writers.get(ino, 0) + 1

    def release(self, ino: int, flags: int) -> None:
        _less(self._opens, ino, 1)
        if flags & _WRITES:
            _less(self._writers, ino, 1)

    def opens(self, ino: int) -> int:
        """How many have it open, where the kernel tells."""
        return self._opens.get(ino, 0)

    def remember(self, ino: int, n: int) -> None:
        self._lookups[ino] = self._lookups.get(ino, 0) + n

    def forget(self, ino: int, n: int) -> None:
        _less(self._lookups, ino, n)

    def writers(self) -> list[int]:
        return list(self._writers)

    def known(self) -> list[int]:
        """Inodes that the kernel knows."""
        return list(self._lookups)

    def __contains__(self, ino: int) -> bool:
        return ino in self._lookups or ino in self._opens


def _less(counts: dict[int, int], ino: int, n: int) -> None:
    left = counts.get(ino, 0) - n
    if left > 0:
        counts[ino] = left
    else:
        counts.pop(ino, None)
