"""The kernel thread runs where its caller runs.

A request is a wake-up of this thread and then one of the caller. Across CPUs each costs an interrupt to an idle CPU,
30 to 60 µs on a virtual machine, more than the request itself; on one CPU it is a switch. So while one program makes
nearly all requests, and waits for each, the thread is bound to the program's CPU; as soon as several programs are at
work, or this one moves about, it is free again: then real parallelism is worth more.
"""

from __future__ import annotations

import os
from collections.abc import Callable

_SAMPLE = 64  # requests between two looks
_SHARE = 60  # of those must come from one thread for it to be followed
_CPU_FIELD = 36  # of /proc/<pid>/stat after the name: the CPU it last ran on


class Placement:
    """Binds the thread that calls `request` to the CPU of who dominates the requests. Owner thread only."""

    def __init__(self, *, cpu_of: Callable[[int], int | None] | None = None) -> None:
        self._cpu_of = cpu_of or _cpu_of
        self._everywhere = os.sched_getaffinity(0)
        self._left = _SAMPLE if len(self._everywhere) > 1 else 0
        self._caller = 0
        self._of_caller = 0
        self._bound: int | None = None

    def request(self, pid: int) -> None:
        """A request of this thread came in; called for every one that tells."""
        if pid == self._caller:
            self._of_caller += 1
        self._left -= 1
        if not self._left:
            self._look(pid)

    def _look(self, pid: int) -> None:
        dominated = self._of_caller >= _SHARE
        self._left, self._caller, self._of_caller = _SAMPLE, pid, 0
        cpu = self._cpu_of(pid) if dominated else None
        if cpu != self._bound:
            self._bound = cpu
            os.sched_setaffinity(0, self._everywhere if cpu is None else {cpu})


def _cpu_of(pid: int) -> int | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return int(stat.read().rpartition(b")")[2].split()[_CPU_FIELD])
    except (OSError, IndexError, ValueError):
        return None
