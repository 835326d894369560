"""Commits of a live mount: one after the other, on request and by the clock."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import trio

from flyteplugins_vol.errors import CommitError, ConflictError, LostWritesError, UsageError, VolumeError
from flyteplugins_vol.mount.kernel_thread import KernelThread
from flyteplugins_vol.mount.lost_writes import Ranges
from flyteplugins_vol.mount.protocols import Progress, Session
from flyteplugins_vol.mount.scheduler import SchedulerClosedError
from flyteplugins_vol.mount.uploads import Uploader

log = logging.getLogger(__name__)

_LOOK = 0.5  # seconds between two looks at how much was written
_SHOWN = 5  # files that an error names


class Commits:
    """Runs `Session.commit` in a worker thread, which goes on when whoever waits is cancelled. Main thread."""

    def __init__(self, kernel: KernelThread, session: Session, uploader: Uploader | None) -> None:
        """``uploader`` pauses during a commit; None: the mount is read-only."""
        self._kernel = kernel
        self._session = session
        self._uploader = uploader
        self._one_at_a_time = trio.Lock()
        self._seen_changes = -1 if session.resumed else 0
        self._frozen_changes = 0  # of those, what the commit that is under way has
        self._overtaken = False
        self._asked = False  # for the commit that is under way
        self._lost: frozenset[str] = frozenset()  # what the last commit was refused for
        self._told: frozenset[str] = frozenset()  # those of which somebody was told who asked for a commit
        self._passed: Ranges = {}  # what the commit that is under way passes over

    async def commit(
        self,
        message: str | None,
        progress: Progress,
        produced_by: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Publish a version and return its record; the `VolumeError` of a commit that did not happen."""
        if self._uploader is None:
            raise UsageError("this mount is read-only", hint="fork the version and mount the fork")
        try:
            async with self._one_at_a_time:
                # While uploads go on: what the kernel hands over may have to wait for room.
                await trio.to_thread.run_sync(self._barrier, abandon_on_cancel=True)
                if produced_by is not None:
                    self._session.set_producer(produced_by)
                return await self._publish(self._uploader, message, progress, asked=True)
        except OSError as error:
            raise CommitError(
                f"the local disk did not take what a commit needs: {error.strerror or error}",
                hint="the mount lives on, so make room on the local disk and commit again; the daemon's log has more",
            ) from error

    def accept_losses(self) -> None:
        """Whoever asked for a commit was told that files are not whole: the next one publishes them as they are."""
        self._told = self._lost

    async def commit_rest(self) -> dict[str, Any]:
        """Publish what was written since the last commit, if anything was; the record of the last version then.

        When the kernel asks nothing any more: what it had was handed over. Raises as `commit`.
        """
        async with self._one_at_a_time:
            self._asked = True
            await trio.to_thread.run_sync(self._look_last, abandon_on_cancel=True)
            return await trio.to_thread.run_sync(self._commit, None, _unheard, abandon_on_cancel=True)

    async def commit_changes(self, message: str, *, is_last: bool = False) -> None:
        """Commit if there was any change since the last commit; a failure is only logged.

        What the kernel has of files that are open is a change as well, and nobody hears of it before the barrier: so
        that comes first, each time. ``is_last``: the kernel asks nothing any more, and what it had was handed over.

        Once somebody else has the volume there is no next time: each would leave a version that nobody asked for.
        """
        if self._uploader is None or self._overtaken:
            return
        try:
            async with self._one_at_a_time:
                look = self._look_last if is_last else self._barrier
                await trio.to_thread.run_sync(look, abandon_on_cancel=True)
                if self._kernel.operations.changes != self._seen_changes:
                    await self._publish(self._uploader, message, _unheard, asked=False)
        except ConflictError as error:
            self._overtaken = True
            log.error("%s did not happen, nor will another: %s (%s)", message, error.message, error.hint)
        except VolumeError as error:
            log.error("%s did not happen: %s: %s", message, error.kind, error.message)
        except Exception:
            log.exception("%s failed", message)

    async def run_by_the_clock(self, seconds: float) -> None:
        while True:
            await trio.sleep(seconds)
            await self.commit_changes("autocommit")

    async def run_by_size(self, size: int) -> None:
        """Commit each time that so many bytes were written."""
        before = 0
        while True:
            await trio.sleep(_LOOK)
            written = await self._written()
            if written - before >= size:
                await self.commit_changes("autocommit")
                before = written

    async def settle(self) -> None:
        """Wait for a commit that is under way."""
        async with self._one_at_a_time:
            pass

    async def _written(self) -> int:
        return await trio.to_thread.run_sync(self._kernel.call, self._session.written_bytes, abandon_on_cancel=True)

    async def _publish(
        self, uploader: Uploader, message: str | None, progress: Progress, *, asked: bool
    ) -> dict[str, Any]:  # fmt: skip
        """With the lock."""
        self._asked = asked
        self._frozen_changes = self._kernel.operations.changes
        with uploader.off():
            record = await trio.to_thread.run_sync(self._commit, message, progress, abandon_on_cancel=True)
        self._seen_changes = self._frozen_changes
        return record

    def _barrier(self) -> None:
        try:
            self._kernel.barrier()
        except SchedulerClosedError as error:
            raise _ended() from error

    def _look_last(self) -> None:
        """What the kernel has written by itself, it has not handed over."""
        try:
            self._kernel.call(self._kernel.operations.catch_up, True)
        except SchedulerClosedError as error:
            raise _ended() from error

    def _commit(self, message: str | None, progress: Progress) -> dict[str, Any]:
        kernel = self._kernel
        try:
            self._check_whole()
            record = self._session.commit(message, kernel.call, self._freeze, kernel.thaw, progress)
        except SchedulerClosedError as error:
            raise _ended() from error
        else:
            self._passed, self._told = {}, frozenset()
        finally:
            with suppress(SchedulerClosedError):
                kernel.thaw()  # whatever went wrong, programs go on
                kernel.call(kernel.operations.losses.give_back, self._passed)
            self._passed = {}
        return record.to_wire()

    def _freeze(self) -> None:
        self._kernel.freeze()
        self._frozen_changes = self._kernel.operations.changes  # until the thaw there are no more
        self._check_whole()
        self._passed = self._kernel.call(self._kernel.operations.losses.take)  # of all of them somebody was told

    def _check_whole(self) -> None:
        files = self._kernel.call(self._kernel.operations.losses.files)
        if self._asked:
            files = [path for path in files if path not in self._told]
        if files:
            self._lost = self._told.union(files)
            shown = ", ".join(repr(path) for path in files[:_SHOWN]) + (", …" if len(files) > _SHOWN else "")
            are, them = ("is", "it") if len(files) == 1 else ("are", "them")
            raise LostWritesError(
                f"{shown} {are} not as programs wrote {them}: the local disk had no room, which they were told at "
                "fsync or close",
                hint=f"make room, and remove {them} or write {them} again; to publish what there is, commit once more",
            )


def _ended() -> CommitError:
    return CommitError(
        "the mount ended while it committed",
        hint="look at the volume's versions: the commit is there, or nothing of it",
    )


def _unheard(_: Mapping[str, Any]) -> None:
    pass
