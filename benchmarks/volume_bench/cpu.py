"""Who used the processors while a clock ran: the program, the daemon behind the tree, everybody else."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from volume_bench.measure import Clock, marked_processes

_TICK = 1 / os.sysconf("SC_CLK_TCK")  # of what /proc counts in
_WORKING = (0, 1, 2, 5, 6, 7)  # of the processors' times: user, nice, system, irq, softirq, steal


@dataclass(frozen=True)
class CpuTime:
    """Seconds of a processor, each to some hundredths."""

    program: float  # of what is timed: this process and the programs that it ran, in the kernel too
    daemon: float  # in user space, of the processes that hold the tree
    daemon_kernel: float  # of theirs in the kernel
    others: float  # the kernel's own threads, servers, and whoever else is on the machine


@dataclass(frozen=True)
class _Usage:
    program: float
    daemons: dict[str, tuple[float, float]]
    all: float


class CpuClock(Clock):
    """A clock that also sees where the processors' time went. It looks before and after its blocks, not in them."""

    def __init__(self) -> None:
        super().__init__()
        self._program = self._daemon = self._daemon_kernel = self._all = 0.0

    @contextmanager
    def running(self) -> Generator[None, None, None]:
        before = _usage()
        try:
            with super().running():
                yield
        finally:
            after = _usage()
            self._program += after.program - before.program
            self._all += after.all - before.all
            for process, (user, system) in after.daemons.items():
                user_before, system_before = before.daemons.get(process, (0.0, 0.0))
                self._daemon += user - user_before
                self._daemon_kernel += system - system_before

    @property
    def cpu(self) -> CpuTime:
        """Of all blocks together."""
        others = self._all - self._program - self._daemon - self._daemon_kernel
        return CpuTime(self._program, self._daemon, self._daemon_kernel, max(0.0, others))


def _usage() -> _Usage:
    times = os.times()
    program = times.user + times.system + times.children_user + times.children_system
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    return _Usage(program, dict(_daemons()), sum(int(fields[i]) for i in _WORKING) * _TICK)


def _daemons() -> Iterator[tuple[str, tuple[float, float]]]:
    for process in marked_processes():
        with suppress(OSError):
            fields = (process / "stat").read_text().rpartition(") ")[2].split()
            yield process.name, (int(fields[11]) * _TICK, int(fields[12]) * _TICK)
