"""What the kernel took from programs, and the workspace then refused: a commit must not pass over it.

With write-back, a program that meets a full disk hears of it at its close or fsync, if it listens. The kernel goes on
showing the pages until it drops them, and never sends them again: a version would have a shorter file than the mount.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from contextlib import suppress

from flyteplugins_vol.portable import private_opener

log = logging.getLogger(__name__)

_MOST = 1000  # ranges of a file; more are one from the first to the last

Ranges = dict[int, list[tuple[int, int]]]


class LostWrites:
    """By inode, the ranges that were refused and neither written again nor cut off since. Owner thread."""

    def __init__(self, path_of: Callable[[int], str | None]) -> None:
        """``path_of``: of an inode for messages; None if it has no name any more."""
        self._path_of = path_of
        self.ranges: Ranges = {}
        self._path: str | None = None
        self._noted: Ranges = {}  # what the file says

    def lose(self, ino: int, offset: int, size: int, error: Exception) -> None:
        """The workspace has refused these bytes, and the log says so the first time."""
        if ino not in self.ranges:
            log.error("%s is no longer as programs wrote it: %s", self._path_of(ino) or f"inode {ino}", error)
        self.lost(ino, offset, offset + size)

    def lost(self, ino: int, start: int, end: int) -> None:
        self.written(ino, start, end)
        ranges = self.ranges.get(ino, [])
        if len(ranges) >= _MOST:
            ranges = [(min(a for a, _ in ranges), max(b for _, b in ranges))]
        if ranges and ranges[-1][1] == start:  # write-back goes through a file from its start to its end
            start = ranges[-1][0]
            ranges = ranges[:-1]
        self.ranges[ino] = [*ranges, (start, end)]

    def written(self, ino: int, start: int, end: int) -> None:
        """These bytes are the workspace's now, or were cut off."""
        ranges = self.ranges.get(ino)
        if ranges is None:
            return
        parts = [part for a, b in ranges for part in ((a, min(b, start)), (max(a, end), b)) if part[0] < part[1]]
        if parts:
            self.ranges[ino] = parts
        else:
            del self.ranges[ino]

    def has(self, ino: int, start: int, end: int) -> bool:
        return any(a < end and start < b for a, b in self.ranges.get(ino, ()))

    def end(self, ino: int) -> int:
        """Where the last of them ends; 0 if there is none."""
        return max((end for _, end in self.ranges.get(ino, ())), default=0)

    def forget(self, ino: int) -> None:
        self.ranges.pop(ino, None)

    def files(self) -> list[str]:
        """Paths of those that lack what programs wrote. One without a name is no matter any more."""
        found: list[str] = []
        for ino in list(self.ranges):
            path = self._path_of(ino)
            if path is None:
                self.forget(ino)
            else:
                found.append(path)
        return sorted(found)

    def take(self) -> Ranges:
        """All of them; from now on they are no matter."""
        taken, self.ranges = self.ranges, {}
        return taken

    def give_back(self, ranges: Ranges) -> None:
        """They are, after all. What was written over them meanwhile is taken for lost as well."""
        for ino, parts in ranges.items():
            for start, end in parts:
                self.lost(ino, start, end)

    def keep_in(self, path: str, *, resumed: bool) -> None:
        """Have `note` write to this file. ``resumed``: begin with what an earlier mount has noted there."""
        self._path = path
        if not resumed:
            with suppress(FileNotFoundError):
                os.unlink(path)
        else:
            with suppress(OSError, ValueError, KeyError, TypeError), open(path) as file:
                read = {int(ino): [(int(a), int(b)) for a, b in parts] for ino, parts in json.load(file)["lost"]}
                self.ranges, self._noted = read, dict(read)

    def note(self) -> None:
        """Write down what has changed, for the next mount of the workspace: it will not be told again either.

        A disk that is full, as it was then, is no reason to fail.
        """
        if self._path is None or self.ranges == self._noted:
            return
        try:
            if self.ranges:
                with open(self._path + ".new", "w", opener=private_opener) as file:
                    json.dump({"lost": sorted(self.ranges.items())}, file)
                os.replace(self._path + ".new", self._path)
            else:
                os.unlink(self._path)
            self._noted = dict(self.ranges)  # no list in it is ever changed in place
        except OSError as error:
            log.error("which files are not whole could not be noted in %s: %s", self._path, error)
