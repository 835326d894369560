"""What the kernel took from programs, and the workspace then refused: a commit must not pass over it.

With write-back, a program that meets a full disk hears of it at its close or fsync, if it listens. The kernel goes on
showing the pages until it drops them, and never sends them again: a version would have a shorter file than the mount.
"""

from __future__ import annotations

import json
import logging
import os
from contextlib import suppress

from flyteplugins_vol.portable import private_opener

log = logging.getLogger(__name__)

_MOST = 1000  # ranges of a file; more are one from the first to the last


class LostWrites:
    """By inode, the ranges that were refused and neither written again nor cut off since. Owner thread."""

    def __init__(self) -> None:
        self.ranges: dict[int, list[tuple[int, int]]] = {}

    def lost(self, ino: int, start: int, end: int) -> None:
        self.written(ino, start, end)
        ranges = self.ranges.setdefault(ino, [])
        if len(ranges) >= _MOST:
            ranges[:] = [(min(a for a, _ in ranges), max(b for _, b in ranges))]
        if ranges and ranges[-1][1] == start:  # write-back goes through a file from its start to its end
            start = ranges.pop()[0]
        ranges.append((start, end))

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

    def save(self, path: str) -> None:
        """Into a file, if there are any. A disk that is full, as it was then, must not keep a mount from ending."""
        with suppress(FileNotFoundError):
            os.unlink(path)
        if self.ranges:
            try:
                with open(path, "w", opener=private_opener) as file:
                    json.dump({"lost": sorted(self.ranges.items())}, file)
            except OSError as error:
                log.error("which files are not whole could not be noted in %s: %s", path, error)

    def load(self, path: str) -> None:
        """From what `save` has left; nothing if there is no such file, or one that was cut off."""
        with suppress(OSError, ValueError, KeyError, TypeError), open(path) as file:
            self.ranges = {int(ino): [(int(a), int(b)) for a, b in ranges] for ino, ranges in json.load(file)["lost"]}
