"""Processes as they are named in the store: enough to tell on the same machine, at once, that one is dead."""

from __future__ import annotations

import functools
import os
import socket
from dataclasses import dataclass

from blake3 import blake3


@dataclass(frozen=True)
class Process:
    """One process. ``machine`` names the machine since its boot, and the process numbers' namespace; '' is unknown."""

    host: str
    pid: int
    machine: str
    started: str  # with the number, unique on its machine; '' is unknown

    @classmethod
    def current(cls) -> Process:
        return cls(socket.gethostname(), os.getpid(), _machine(), _started(os.getpid()) or "")

    def is_here(self) -> bool:
        """Whether it runs, or ran, on this machine since its boot: numbers and clock are ours."""
        return bool(self.machine) and self.machine == _machine()

    def is_dead(self) -> bool:
        """Whether it has certainly ended. False where that cannot be seen from here."""
        if self.pid <= 0 or not self.is_here():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except (PermissionError, OverflowError):
            pass
        now = _started(self.pid)
        return bool(now is not None and self.started) and now != self.started


@functools.cache
def _machine() -> str:
    """A hash, since whoever reads the store need not know the machine's own names."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
        namespace = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return ""
    return blake3(f"{boot}/{namespace}".encode()).hexdigest()[:16]


def _started(pid: int) -> str | None:
    """When it was started, in clock ticks since boot; '' if it is a zombie; None: cannot be seen."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()  # the name before may hold anything
    except OSError:
        return None
    return "" if fields[0] in (b"Z", b"X") else fields[19].decode()
