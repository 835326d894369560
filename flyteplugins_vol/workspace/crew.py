"""How many packs are under way at once: as many as make the store faster, as far as memory allows.

A store that is near, or busy, gets no faster by more than a few; one that is far, or gives each connection a share of
what it could, gets faster by each. Nobody can know, so it is tried: half as many again, and whether that sends more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from flyteplugins_vol.workspace.budget import memory_there

LEAST = 6
"""Packs at once to begin with: two in the making, the others on their way with 16 MiB of memory each."""

_MORE = 1.5  # a try has so many times as many
_GAIN = 0.75  # and must send faster by this part of what it has more, or it was for nothing
_WINDOW = 2  # packs for each worker in which that is measured: the first is half of the way in when the try begins
_PATIENCE = 8  # windows until the next try, after one that failed
_BEGINNING = 3  # windows before the first: half a gigabyte is sent without
_PACK_BYTES = 32 << 20  # memory of a pack under way, at the worst: as it was written, and as it is sent
_SHARE = 16  # packs may take this part of the memory that there is


def most_packs(wanted: int) -> int:
    """How many packs may be under way at once where ``wanted`` are allowed: more than `LEAST` if memory does."""
    there = memory_there()
    room = LEAST if there is None else there // _SHARE // _PACK_BYTES
    return max(1, min(wanted, max(LEAST, room)))


class Pace:
    """Decides how many, by what is finished when. ``size`` is that number; not thread-safe."""

    def __init__(self, most: int, least: int = LEAST) -> None:
        self.most = most
        self._kept = self.size = min(least, most)
        self._rate = 0.0  # with ``_kept``: bytes a second
        self._wait = _BEGINNING
        self.begin(0.0)

    def begin(self, now: float) -> None:
        """A time of work begins. What was learned stays; a try that was under way does not."""
        self.size = self._kept
        self._began, self._packs, self._bytes = now, 0, 0

    def finished(self, size: int, now: float) -> None:
        """A pack of ``size`` bytes is in the store."""
        self._packs += 1
        self._bytes += size
        if self._packs < _WINDOW * self.size:
            return
        rate = self._bytes / max(now - self._began, 1e-9)
        if self.size == self._kept:
            self._rate = rate
            self._wait = max(0, self._wait - 1)
        elif rate >= self._rate * (1 + _GAIN * (self.size / self._kept - 1)):
            self._kept, self._rate = self.size, rate
        else:
            self.size, self._wait = self._kept, _PATIENCE
        if not self._wait:
            self.size = min(self.most, max(self._kept + 1, int(self._kept * _MORE)))
        self._began, self._packs, self._bytes = now, 0, 0


class Crew:
    """Threads that do packs, as many at once as its `Pace` says. One `run` at a time."""

    def __init__(
        self, pace: Pace, *, initializer: Callable[[], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.pace = pace
        self._initializer = initializer
        self._clock = clock
        self._lock = threading.Lock()
        self._active = 0
        self._failed = False
        self._futures: list[Future[bool]] = []

    def run(self, work: Callable[[], int]) -> bool:
        """Call ``work``, which does one pack and returns its bytes, until it finds nothing (0); whether it did any.

        After an error the others go on to their end, and then the first one is raised.
        """
        self._futures, self._active, self._failed = [], 0, False
        self.pace.begin(self._clock())
        worked = False
        with ThreadPoolExecutor(self.pace.most, thread_name_prefix="seal", initializer=self._initializer) as pool:
            with self._lock:
                self._fill(pool, work)
                alone = not self._futures
                self._active += alone
            if alone:
                return self._work(pool, work)
            done = 0
            while done < len(self._futures):  # a worker may have started others before it ended
                worked |= self._futures[done].result()
                done += 1
        return worked

    def _fill(self, pool: ThreadPoolExecutor, work: Callable[[], int]) -> None:
        while self._active < self.pace.size and not self._failed:
            try:
                future = pool.submit(self._work, pool, work)
            except RuntimeError:  # the interpreter ends, and makes no threads any more: a last commit does without
                return
            self._futures.append(future)
            self._active += 1

    def _work(self, pool: ThreadPoolExecutor, work: Callable[[], int]) -> bool:
        worked = False
        try:
            while size := work():
                worked = True
                with self._lock:
                    self.pace.finished(size, self._clock())
                    if self._active > self.pace.size:
                        break
                    self._fill(pool, work)
        except BaseException:
            self._failed = True
            raise
        finally:
            with self._lock:
                self._active -= 1
        return worked
