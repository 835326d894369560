"""The kernel thread: opens the session, mounts, answers the kernel, and owns the workspace until the end.

Everything that touches the workspace happens here, from its opening to its closing; the daemon's main thread asks for
it with `KernelThread.call`. The thread goes on serving such calls after the file system is unmounted.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from flyteplugins_vol import config
from flyteplugins_vol.errors import SetupError
from flyteplugins_vol.model import MountSpec
from flyteplugins_vol.mount import drivers
from flyteplugins_vol.mount.operations import Operations
from flyteplugins_vol.mount.protocols import Progress, Session, SessionFactory, Workspace
from flyteplugins_vol.mount.scheduler import Scheduler, SchedulerClosedError, Task

T = TypeVar("T")

log = logging.getLogger(__name__)


class KernelThread:
    """One mount. ``mounted`` is done when it can be used, or has the reason why not; ``ended`` when it is no more.

    ``mounted`` can be cancelled up to the moment from which requests are answered: none is then.
    ``ended`` comes with `stop`, with an unmount from outside, or with an error that the thread did not survive.
    """

    def __init__(
        self,
        spec: MountSpec,
        open_session: SessionFactory,
        *,
        progress: Progress,
        staged: Callable[[], None],
        announce: Callable[[], None],
    ) -> None:
        """``announce`` is called, in the owner's thread, before anybody can see the mount."""
        self.mounted: Future[Session] = Future()
        self.ended: Future[None] = Future()
        self._spec = spec
        self._open_session = open_session
        self._progress = progress
        self._staged = staged
        self._announce = announce
        self._scheduler = Scheduler()
        self._make_driver = drivers.choose(config.driver())
        self._until_finish: list[Task] = []
        self._finishing = False
        self._connected = False
        self._thread = threading.Thread(target=self._run, name="kernel", daemon=True)

    def start(self) -> None:
        self._thread.start()

    # ----------------------------------------------------------------- any thread, once mounted is done

    def call(self, fn: Callable[..., T], *args: Any) -> T:
        """Run in the owner's thread, see `Scheduler.call`."""
        return self._scheduler.call(fn, *args)

    def barrier(self) -> None:
        """Have the kernel hand over what was written to files that are still open."""
        self._driver.barrier()
        self.call(self.operations.catch_up)

    def check_refreshes(self) -> None:
        """Raise `SetupError` if this way to the kernel cannot `notify` nor `show`."""
        if not self._driver.refreshes:
            raise SetupError(
                f"a mount through {config.driver()} cannot be refreshed",
                hint="leave FLYTE_VOL_DRIVER unset and mount again",
            )

    @property
    def passes(self) -> bool:
        """See `Driver.passes`."""
        return self._driver.passes

    def notify(self, kind: int, body: bytes) -> None:
        """See `Driver.notify`."""
        self._driver.notify(kind, body)

    def freeze(self) -> None:
        self.call(self.operations.freeze)

    def thaw(self) -> None:
        self.call(self.operations.thaw)

    def stop(self) -> None:
        """Stop answering and end the connection; requests that wait get ENOTCONN. `ended` follows."""
        with suppress(SchedulerClosedError):
            self.call(self._stop)

    def finish(self, close_session: Callable[[Session], None]) -> None:
        """After `ended`: close the session, in its owner's thread, and end the thread."""
        try:
            self.call(self._close, close_session)
        finally:
            self._thread.join()

    # ------------------------------------------------------------------------------------- owner thread

    def show(self, workspace: Workspace, number: int) -> None:
        """Answer from this workspace from now on; see `Driver.number_nodes`."""
        self._driver.number_nodes(number)
        self.operations.show(workspace)

    def _run(self) -> None:
        self._scheduler.adopt()
        try:
            self._session = self._open_session(self._spec, self.call, self._progress)
            try:
                self._mount()
            except BaseException:
                self._session.close(True)
                raise
        except BaseException as error:
            if self.mounted.set_running_or_notify_cancel():
                self.mounted.set_exception(error)
            return
        try:
            self._scheduler.run(self._serve())
        except BaseException as error:
            log.critical("the kernel thread failed; the mount ends, what was written is kept", exc_info=error)
            self._disconnect()
            self._session.close(True)
            if not self.ended.done():
                self.ended.set_exception(error)

    def _mount(self) -> None:
        self.operations = Operations(
            self._session.workspace,
            self._session.fetcher,
            self._scheduler,
            error=self._make_driver.error,
            staged=self._staged,
        )
        losses = os.path.join(self._spec.meta_dir, "lost-writes.json")
        self.operations.losses.keep_in(losses, resumed=self._session.resumed)
        self._driver = self._make_driver(self.operations, self._scheduler, self._spec)
        if self._spec.follow is not None:
            self.check_refreshes()
        self._announce()
        self._driver.mount()
        self._connected = True

    async def _serve(self) -> None:
        if not self.mounted.set_running_or_notify_cancel():
            return
        self.mounted.set_result(self._session)
        await self._driver.serve()
        self._disconnect()
        self.ended.set_result(None)
        while not self._finishing:
            await self._scheduler.wait_in(self._until_finish)

    def _stop(self) -> None:
        if self._connected:
            self._driver.stop()
            self._scheduler.abort_parked()

    def _disconnect(self) -> None:
        if self._connected:
            self._connected = False
            with suppress(Exception):  # unmounted by somebody else meanwhile
                self._driver.close()

    def _close(self, close_session: Callable[[Session], None]) -> None:
        """In one go: between two closures the scheduler would look at the workspace, which is closed by then."""
        try:
            self.operations.losses.note()
            close_session(self._session)
        finally:
            self._finish()

    def _finish(self) -> None:
        self.operations.close()
        self._finishing = True
        self._scheduler.wake_all(self._until_finish)
