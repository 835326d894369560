"""What the kernel took from programs, and the workspace then refused: a commit must not pass over it.

With write-back, a program that meets a full disk hears of it at its close or fsync, if it listens. The kernel goes on
showing the pages until it drops them, and never sends them again: a version would have a shorter file than the mount.
"""

from __future__ import annotations


class LostWrites:
    """By inode, the ranges that were refused and neither written again nor cut off since. Owner thread."""

    def __init__(self) -> None:
        self.ranges: dict[int, list[tuple[int, int]]] = {}

    def lost(self, ino: int, start: int, end: int) -> None:
        ranges = self.ranges.setdefault(ino, [])
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

    def forget(self, ino: int) -> None:
        self.ranges.pop(ino, None)
