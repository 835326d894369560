"""Clocks, caches, memory and the objects of a store: what a number is made from."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from flyteplugins_vol.store.base import ObjectInfo
from flyteplugins_vol.store.open import open_store
from volume_bench.proxy import Request

MARK = f"VOLUME_BENCH_{uuid4().hex}"
"""A variable of our environment that every process started from here inherits: daemons are found by it."""


class Clock:
    """Seconds of the blocks that ran under it, added up."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def running(self) -> Generator[None, None, None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - began


# --- caches ----------------------------------------------------------------------------------------------------


def drop_page_cache(*paths: Path) -> None:
    """Let the kernel forget file contents, names and attributes; without root, the contents below ``paths`` only."""
    os.sync()
    with suppress(PermissionError):
        Path("/proc/sys/vm/drop_caches").write_text("3")
        return
    for path in paths:
        for file in path.rglob("*"):
            if file.is_file() and not file.is_symlink():
                descriptor = os.open(file, os.O_RDONLY)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(descriptor)


# --- memory ----------------------------------------------------------------------------------------------------


def mark_processes() -> None:
    """From now on, `peak_of_daemons` finds what is started from here."""
    os.environ[MARK] = "1"


def reset_own_peak() -> None:
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def own_peak() -> int:
    """Most bytes of memory that this process has had resident since `reset_own_peak`."""
    return _peak(Path("/proc/self"))


def peak_of_daemons() -> int:
    """The same for all marked processes that run now, together."""
    return sum(_peak(process) for process in marked_processes())


def marked_processes() -> Iterator[Path]:
    """The directories in /proc of what was started from here since `mark_processes` and runs now."""
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            with suppress(OSError):
                if f"{MARK}=1".encode() in (process / "environ").read_bytes().split(b"\0"):
                    yield process


def _peak(process: Path) -> int:
    with suppress(OSError):
        for line in (process / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


# --- the store -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Traffic:
    """Requests to a store and bytes of objects. Renewals of a writer's lease, which come by the clock, are apart."""

    puts: int
    sent: int
    gets: int | None = None  # None, as the rest: not seen, because there is no server between
    received: int | None = None
    others: int | None = None  # lists, heads, deletes
    leases: int | None = None
    trips: int | None = None  # the longest chain of requests of which each began after the one before had ended


class Ledger:
    """Sees what is written to a store by listing it, so that it believes nobody."""

    def __init__(self, url: str) -> None:
        self._store = open_store(url)
        self._objects: dict[str, ObjectInfo] = {}
        self.look()

    def look(self) -> Traffic:
        """Objects that are new or changed since the last look."""
        before, self._objects = self._objects, {entry.key: entry for entry in self._store.list("")}
        changed = [entry for key, entry in self._objects.items() if before.get(key) != entry]
        sizes = [entry.size for entry in changed if not entry.key.endswith(LEASE)]
        return Traffic(len(sizes), sum(sizes), leases=len(changed) - len(sizes))

    def sizes(self) -> dict[str, int]:
        """Bytes of every object as of the last look."""
        return {key: entry.size for key, entry in self._objects.items()}


LEASE = "lease.json"


def traffic_of(requests: Iterable[Request]) -> Traffic:
    """The sum of what a proxy saw."""
    all_ = list(requests)
    own = [request for request in all_ if not request.path.endswith(LEASE)]
    puts = [request for request in own if request.method == "PUT"]
    gets = [request for request in own if request.method == "GET" and not request.listing]
    return Traffic(
        len(puts), sum(request.sent for request in puts),
        gets=len(gets), received=sum(request.received for request in gets),
        others=len(own) - len(puts) - len(gets), leases=len(all_) - len(own),
        trips=chain((request.began, request.ended) for request in own),
    )  # fmt: skip


def chain(spans: Iterable[tuple[float, float]]) -> int:
    """The most of these spans of time that follow one another without overlap."""
    length, free = 0, float("-inf")
    for began, ended in sorted(spans, key=lambda span: span[1]):
        if began >= free:
            length += 1
            free = ended
    return length
