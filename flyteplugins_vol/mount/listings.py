"""Listings of directories: what the kernel's cookies mean. No open directory is needed for it.

A cookie is the number of a listing and a place in it, which is the number of entries before: 0 the start, 1 after
``.``, 2 after ``..``, 2 + n after n names. Names come in byte order and a listing continues after a *name*, so entries
that appear or vanish never make another one come twice or not at all. To go back (seekdir) a listing remembers the last
`WINDOW` names exactly, and every `STEP`-th before them; from there it counts. Whoever asks for place 0 begins a new
listing; the last `KEPT` are remembered, and in one that was forgotten places are counted from the start.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence

from flyteplugins_vol.model import Inode

WINDOW = 8192
STEP = 1024
DOTS = 2
KEPT = 1024
PLACES = 1 << 32
"""More than a directory has names."""
FIRST_BATCH = 26  # what fits in one page, the smallest reply that kernels ask for

ReadNames = Callable[[bytes | None, int], Sequence[tuple[bytes, Inode]]]
"""Entries after a name, at most so many: `Workspace.readdir` of one directory."""


class Listings:
    """The listings that are under way, and the last that were."""

    def __init__(self) -> None:
        self._known: OrderedDict[int, Listing] = OrderedDict()
        self._last = 0

    def at(self, cookie: int, ino: int) -> tuple[Listing, int]:
        """The listing of a cookie and the place in it; a new listing of the directory for cookie 0."""
        number, place = divmod(cookie, PLACES)
        if not cookie:
            self._last = number = self._last % (PLACES >> 1) + 1
        listing = self._known.get(number)
        if listing is None or listing.ino != ino:
            listing = self._known[number] = Listing(ino, number * PLACES)
            if len(self._known) > KEPT:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(number)
        return listing, place


class Listing:
    """One listing of a directory. Cookies of its places are ``base`` plus the place."""

    __slots__ = ("_checkpoints", "_first", "_names", "base", "batch", "ino")

    def __init__(self, ino: int, base: int = 0) -> None:
        self.ino = ino
        self.base = base
        self.batch = FIRST_BATCH  # entries worth reading at once: as many as the last reply held, and one
        self._first = 0  # ordinal of the window's first name
        self._names: deque[bytes] = deque(maxlen=WINDOW)
        self._checkpoints: list[bytes] = []  # names with ordinals STEP - 1, 2 * STEP - 1, …

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
