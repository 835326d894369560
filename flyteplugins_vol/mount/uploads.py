"""Uploads in the background: packs leave as soon as one is ripe, so that a commit has only the tail to do."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import trio

from flyteplugins_vol.errors import VolumeError
from flyteplugins_vol.mount.protocols import Sealer

log = logging.getLogger(__name__)

_IN_FLIGHT_BYTES = 64 << 20  # memory that packs under way may take
_PACK_BYTES = 32 << 20  # of one: 16 MiB as they were written and up to 16 MiB as they are sent
_FIRST_PAUSE = 1.0  # seconds after a failure, doubled up to the longest
_LONGEST_PAUSE = 30.0
_NICE = 10  # hashing and compressing must not take the CPU from whoever writes, while nobody waits for a commit


class Uploader:
    """Runs the sealer in worker threads whenever `notice` says that bytes were staged. Main thread."""

    def __init__(self, sealer: Sealer, max_uploads: int) -> None:
        self._sealer = sealer
        self._idle = max(1, min(max_uploads, _IN_FLIGHT_BYTES // _PACK_BYTES))  # workers that could run
        self._noticed = trio.Event()
        self._looking_again = False
        self._holding_off = False
        self._pause = _FIRST_PAUSE
        self._off = False
        self._threads = ThreadPoolExecutor(self._idle, thread_name_prefix="upload", initializer=_give_way)

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
        async with trio.open_nursery() as nursery:
            while True:
                await self._noticed.wait()
                self._noticed = trio.Event()
                if self._idle and not self._off and not self._holding_off and self._sealer.ready():
                    for _ in range(self._idle):
                        self._idle -= 1
                        nursery.start_soon(self._upload)

    async def _upload(self) -> None:
        """One worker: packs, while there are any that are ripe."""
        failed = False
        try:
            while not self._off and await self._seal():
                self._pause = _FIRST_PAUSE
        except Exception as error:
            reason = f"{error.kind}: {error.message}" if isinstance(error, VolumeError) else repr(error)
            log.warning("an upload failed, its bytes stay local; next try in %.0f s: %s", self._pause, reason)
            failed = True
        self._idle += 1
        await (self._hold_off() if failed else self._look_again())

    async def _seal(self) -> bool:
        job = self._threads.submit(self._sealer.run_once, False)
        return await trio.to_thread.run_sync(job.result, abandon_on_cancel=True)

    async def _hold_off(self) -> None:
        """After a failure nothing is tried for a while, by nobody."""
        if self._holding_off:
            return
        self._holding_off = True
        await trio.sleep(self._pause)
        self._holding_off = False
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)
        self.notice()

    async def _look_again(self) -> None:
        """What is staged but not ripe yet becomes so without any notice; one worker waits for that."""
        if self._looking_again:
            return
        self._looking_again = True
        await trio.sleep(_FIRST_PAUSE)
        self._looking_again = False
        self.notice()


def _give_way() -> None:
    """Lower this thread's priority: on Linux a niceness is a thread's own."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
