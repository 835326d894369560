"""A reserve on the local disk, so that SQLite never meets a full one.

A COMMIT without space rolls back everything since the last, also what was answered with success long ago. So verbs
that need space are refused with ENOSPC while there is still enough left to commit all that was accepted.
"""

from __future__ import annotations

import errno

from flyteplugins_vol.portable import disk_bytes, free_bytes

_RESERVE = 64 << 20
_SHARE = 4  # of a small disk, a quarter
_LOOKS = 16  # looks while the reserve could be used up: statvfs costs 1 µs
_ROW = 4096  # bytes that a verb without data is reckoned to need: a page


class LocalDisk:
    """The file system of a workspace's directory. One owner thread."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self.reserve = min(_RESERVE, disk_bytes(directory) // _SHARE)
        self._look_every = self.reserve // _LOOKS
        self._promised = self._look_every  # look at the first call

    def take(self, size: int = _ROW) -> None:
        """Raise OSError ENOSPC unless there is room for ``size`` more bytes beside the reserve."""
        self._promised += size
        if self._promised < self._look_every:
            return
        if free_bytes(self._directory) - size < self.reserve:
            self._promised = self._look_every  # look again at every call, so that it recovers as soon as there is space
            raise OSError(errno.ENOSPC, f"the local disk of {self._directory} is full")  # no file name: a verb's answer
        self._promised = 0
