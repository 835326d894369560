"""fsync for many at once: requests that arrive while a sync is under way share the next one.

A sync that has begun does not cover who comes later (its SQLite COMMIT is made already), but one that begins later
covers everybody who waits by then. With N writers that all fsync, that is two syncs under way or waiting, not N.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from flyteplugins_vol.mount.scheduler import Scheduler, Task

log = logging.getLogger(__name__)


class GroupSync:
    """Owner thread only, but for the fdatasync itself, which runs in a worker: it takes milliseconds."""

    def __init__(
        self, scheduler: Scheduler, begin: Callable[[], list[int]], failed: Callable[[OSError], object]
    ) -> None:
        """``begin`` names what to sync, ``failed`` hears when that could not be done; no later sync succeeds then."""
        self._scheduler = scheduler
        self._begin = begin
        self._failed = failed
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
            if not self._running:
                self._start()
            else:
                await self._scheduler.park(self._waiting)

    def close(self) -> None:
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _start(self) -> None:
        """Begin a round. It belongs to nobody who waits: one of them may be killed, and leave, while it goes on.

        What ``begin`` has named it will not name again: so here it is synced, or never.
        """
        self._begun += 1
        turn = self._begun
        fds = self._begin()
        try:
            # Duplicates, since the workspace may free a staging file, and close it, while the worker is at it.
            copies = _duplicates(fds)
            if not copies:
                for fd in fds:
                    os.fdatasync(fd)
        except OSError as error:
            self._lose(error)
            raise
        if copies:
            self._running = True
            syncing = self._worker.submit(_fdatasync_and_close, copies)
            syncing.add_done_callback(lambda done: self._scheduler.post(lambda: self._end(turn, done)))
        else:
            self._done = turn

    def _end(self, turn: int, syncing: Future[None]) -> None:
        self._running = False
        if not syncing.cancelled():
            error = syncing.exception()
            if error is None:
                self._done = turn
            else:
                self._lose(error if isinstance(error, OSError) else OSError(errno.EIO, str(error)))
        self._scheduler.wake_all(self._waiting)

    def _lose(self, error: OSError) -> None:
        log.critical("the local disk lost staged writes: %s; fsync fails from now on", error)
        self._lost = error
        self._failed(error)


def _duplicates(fds: list[int]) -> list[int]:
    """A copy of each, or none at all when this process has no descriptor left: then the owner has to wait."""
    copies: list[int] = []
    try:
        copies.extend(map(os.dup, fds))  # one by one: what was made before an error is there
    except OSError as error:
        for fd in copies:
            os.close(fd)
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            raise
        return []
    return copies


def _fdatasync_and_close(fds: list[int]) -> None:
    try:
        for fd in fds:
            os.fdatasync(fd)
    finally:
        for fd in fds:
            os.close(fd)
