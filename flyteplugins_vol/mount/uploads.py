"""Uploads in the background: packs leave as soon as one is ripe, so that a commit has only the tail to do."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress

import trio

from flyteplugins_vol.errors import VolumeError
from flyteplugins_vol.mount.protocols import Sealer
from flyteplugins_vol.workspace.crew import Crew, Pace, most_packs

log = logging.getLogger(__name__)

_FIRST_PAUSE = 1.0  # seconds after a failure, doubled up to the longest
_LONGEST_PAUSE = 30.0
_LEAST = 2  # packs at once to begin with
_NICE = 10  # hashing and compressing must not take the CPU from whoever writes, while nobody waits for a commit


class Uploader:
    """Runs the sealer in worker threads whenever `notice` says that bytes were staged. Main thread."""

    def __init__(self, sealer: Sealer, max_uploads: int) -> None:
        self._sealer = sealer
        self._crew = Crew(Pace(most_packs(max_uploads), _LEAST), initializer=_give_way)
        self._noticed = trio.Event()
        self._pause = _FIRST_PAUSE
        self._off = False

    def notice(self) -> None:
        """There may be something to upload."""
        self._noticed.set()

    @contextmanager
    def off(self) -> Generator[None, None, None]:
        """Begin no upload meanwhile: a commit runs its own, and both together would take twice the memory."""
        self._off = True
        try:
            yield
        finally:
            self._off = False
            self.notice()

    async def run(self) -> None:
        """Until cancelled, which leaves uploads under way to their threads."""
        while True:
            await self._noticed.wait()
            self._noticed = trio.Event()
            if not self._off and self._sealer.ready():
                await self._upload()

    async def _upload(self) -> None:
        """Packs, while there are any that are ripe; then a pause, since what is not ripe yet becomes so unnoticed."""
        try:
            await trio.to_thread.run_sync(self._crew.run, self._seal, abandon_on_cancel=True)
        except Exception as error:
            reason = f"{error.kind}: {error.message}" if isinstance(error, VolumeError) else repr(error)
            log.warning("an upload failed, its bytes stay local; next try in %.0f s: %s", self._pause, reason)
            await trio.sleep(self._pause)
            self._pause = min(self._pause * 2, _LONGEST_PAUSE)
        else:
            self._pause = _FIRST_PAUSE
            with trio.move_on_after(_FIRST_PAUSE):
                await self._noticed.wait()
        self.notice()

    def _seal(self) -> int:
        return 0 if self._off else self._sealer.run_once(False)


def _give_way() -> None:
    """Lower this thread's priority: on Linux a niceness is a thread's own."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
