"""fsync for many at once: requests that arrive while a sync is under way share the next one.

A sync that has begun does not cover who comes later (its SQLite COMMIT is made already), but one that begins later
covers everybody who waits by then. With N writers that all fsync, that is two syncs under way or waiting, not N.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from flyteplugins_vol.mount.scheduler import Scheduler, Task

log = logging.getLogger(__name__)


class GroupSync:
    """Owner thread only, but for the fdatasync itself, which runs in a worker: it takes milliseconds."""

    def __init__(self, scheduler: Scheduler, begin: Callable[[], list[int]]) -> None:
        self._scheduler = scheduler
        self._begin = begin
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="fdatasync")
        self._begun = 0
        self._done = 0
        self._running = False
        self._waiting: list[Task] = []
        self._lost: OSError | None = None

    async def sync(self) -> None:
        """Return when all that was written before the call is durable on the local disk.

        After one failed fdatasync every later call fails too: the kernel drops the pages it could not write and
        reports that once, so a second try would succeed without the bytes.
        """
        covered = self._begun + 1
        while self._done < covered:
            if self._lost is not None:
                raise self._lost
            if self._running:
                await self._scheduler.park(self._waiting)
            else:
                await self._run()

    def close(self) -> None:
        self._worker.shutdown(wait=False, cancel_futures=True)

    async def _run(self) -> None:
        self._running = True
        self._begun += 1
        turn = self._begun
        try:
            # Duplicates, since the workspace may free a staging file, and close it, while the worker is at it.
            fds = [os.dup(fd) for fd in self._begin()]
            if fds:
                await self._fdatasync(fds)
            self._done = turn
        finally:
            self._running = False
            self._scheduler.wake_all(self._waiting)

    async def _fdatasync(self, fds: list[int]) -> None:
        try:
            await self._scheduler.result_of(self._worker.submit(_fdatasync_and_close, fds))
        except OSError as error:
            if not self._scheduler.aborting:
                log.critical("the local disk lost staged writes: %s; fsync fails from now on", error)
                self._lost = error
            raise


def _fdatasync_and_close(fds: list[int]) -> None:
    try:
        for fd in fds:
            os.fdatasync(fd)
    finally:
        for fd in fds:
            os.close(fd)
