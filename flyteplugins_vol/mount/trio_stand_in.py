"""What pyfuse3 uses of trio, on our `Scheduler`: pyfuse3 keeps the module in an attribute, and can be given another.

pyfuse3's own session loop runs as several equal workers: one waits for the descriptor, the next for the lock, and a
worker that handles a parked request is missing from both, so another takes its place. Nothing of that is switched on
the way of a request that does not park: the worker that read it comes back, takes the free lock and polls.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from flyteplugins_vol.mount.scheduler import DONE, ReadingEnded, Scheduler, Task


class TrioStandIn:
    """The names that pyfuse3 looks up in ``trio`` and ``trio.lowlevel``."""

    ClosedResourceError = ReadingEnded

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self.lowlevel = self

    def Lock(self) -> _Lock:  # noqa: N802 - trio's name
        return _Lock(self._scheduler)

    def open_nursery(self) -> _Nursery:
        return _Nursery(self._scheduler)

    def wait_readable(self, fd: int) -> Awaitable[None]:
        return self._scheduler.readable(fd)

    def notify_closing(self, fd: int) -> None:
        self._scheduler.stop_reading()

    def current_task(self) -> _Named:
        return _Named()

    def current_trio_token(self) -> None:
        return None


class _Named:
    name = "request"


class _Lock:
    """Unfair on purpose: whoever comes back first has it, so the worker that is awake goes on reading."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._held = False

    def __aenter__(self) -> Awaitable[None]:
        if self._held:
            return self._wait()
        self._held = True
        return DONE

    def __aexit__(self, *_: object) -> Awaitable[None]:
        self._held = False
        return DONE

    async def _wait(self) -> None:
        while self._held:
            await self._scheduler.park_reader()
        self._held = True


class _Nursery:
    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._running = 0
        self._waiting: list[Task] = []

    async def __aenter__(self) -> _Nursery:
        return self

    async def __aexit__(self, *_: object) -> None:
        while self._running:
            await self._scheduler.wait_in(self._waiting)

    def start_soon(self, function: Callable[..., Coroutine[Any, Any, None]], *args: object, name: str) -> None:
        self._running += 1
        self._scheduler.spawn(self._run(function(*args)))

    async def _run(self, worker: Coroutine[Any, Any, None]) -> None:
        try:
            await worker
        finally:
            self._running -= 1
            self._scheduler.wake_all(self._waiting)
