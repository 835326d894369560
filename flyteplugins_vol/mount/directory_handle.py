"""An open directory: what its cookies mean.

A cookie is the number of entries before a place in the listing: 0 the start, 1 after ``.``, 2 after ``..``, 2 + n after
n names. Names come in byte order and a listing continues after a *name*, so entries that appear or vanish never make
another one come twice or not at all. To go back (seekdir) the handle remembers the last `WINDOW` names exactly, and
every `STEP`-th before them; from there it counts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from flyteplugins_vol.model import Inode

WINDOW = 8192
STEP = 1024
DOTS = 2
FIRST_BATCH = 26  # what fits in one page, the smallest reply that kernels ask for

ReadNames = Callable[[bytes | None, int], Sequence[tuple[bytes, Inode]]]
"""Entries after a name, at most so many: `Workspace.readdir` of one directory."""


class DirectoryHandle:
    """Cookies of one `opendir`."""

    __slots__ = ("_checkpoints", "_first", "_names", "batch", "ino")

    def __init__(self, ino: int) -> None:
        self.ino = ino
        self.batch = FIRST_BATCH  # entries worth reading at once: as many as the last reply held, and one
        self._first = 0  # ordinal of the window's first name
        self._names: deque[bytes] = deque(maxlen=WINDOW)
        self._checkpoints: list[bytes] = []  # names with ordinals STEP - 1, 2 * STEP - 1, …

    def rewind(self) -> None:
        self._first = 0
        self._names.clear()
        self._checkpoints.clear()

    def name_before(self, count: int, read: ReadNames) -> bytes | None:
        """The name that ``count`` names end with, None for 0. Outside the window it is counted with ``read``."""
        if count == 0:
            return None
        at = count - 1 - self._first
        if at == len(self._names) - 1:
            return self._names[-1]  # what a plain listing asks for
        if 0 <= at < len(self._names):
            return self._names[at]
        return self._counted(count, read)

    def passed(self, ordinal: int, name: bytes) -> None:
        """The name with this ordinal was listed."""
        at = ordinal - self._first
        if at != len(self._names):
            if 0 <= at < len(self._names) and self._names[at] == name:
                return  # listed again, and nothing changed
            self._forget_from(ordinal)
        if len(self._names) == WINDOW:
            self._first += 1
        self._names.append(name)
        if ordinal + 1 == STEP * (len(self._checkpoints) + 1):
            self._checkpoints.append(name)

    def _forget_from(self, ordinal: int) -> None:
        del self._checkpoints[ordinal // STEP :]
        if not self._first <= ordinal < self._first + len(self._names):
            self._names.clear()
            self._first = ordinal
        while len(self._names) > ordinal - self._first:
            self._names.pop()

    def _counted(self, count: int, read: ReadNames) -> bytes | None:
        known = min(count // STEP, len(self._checkpoints))
        name = self._checkpoints[known - 1] if known else None
        left = count - known * STEP
        while left:
            entries = read(name, min(left, STEP))
            if not entries:
                break  # the directory has become shorter: its end
            name = entries[-1][0]
            left -= len(entries)
        return name
