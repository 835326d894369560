"""Refreshes of a read-only mount: it shows another version of its volume, and who has files open keeps the old ones.

1. Worker thread: the new version's index is brought beside the old one, and the two are compared. Requests go on.
2. Owner, between two requests: the new version takes the old one's place (`refresh_workspace`).
3. Worker thread: the kernel is told what to ask for again (`refresh_notices`).
4. The same: former versions of which the kernel knows nothing any more are closed; again when it has forgotten some.
Whatever fails before 2 leaves everything as it was.
"""

from __future__ import annotations

import errno
import logging
import math
import os
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import trio

from flyteplugins_vol.errors import NotMountedError, SetupError, UsageError, VolumeError
from flyteplugins_vol.model import MountSpec
from flyteplugins_vol.mount.kernel_thread import KernelThread
from flyteplugins_vol.mount.protocols import NewVersion, Session, Workspace
from flyteplugins_vol.mount.refresh_guard import Guard
from flyteplugins_vol.mount.refresh_nodes import GENERATIONS, NUMBER
from flyteplugins_vol.mount.refresh_notices import Send, announce, drop, known
from flyteplugins_vol.mount.refresh_workspace import RefreshedWorkspace, Step
from flyteplugins_vol.mount.scheduler import SchedulerClosedError

log = logging.getLogger(__name__)

_LOOK = 30.0  # seconds after which the kernel is asked in any case: it keeps names, and does not tell who left
_FORGETTING = 1.0  # seconds in which the kernel may forget more, before it is asked what is left
_GONE = (errno.ENODEV, errno.EBADF, errno.ENOTCONN, errno.EPERM)  # what a connection that has ended answers


class Refreshes:
    """Of one mount. Main thread; the work is done in a worker thread, which goes on when whoever waits is cancelled."""

    def __init__(self, kernel: KernelThread, session: Session, spec: MountSpec) -> None:
        self._kernel = kernel
        self._session = session
        self._spec = spec
        self._one_at_a_time = trio.Lock()
        self._token = trio.lowlevel.current_trio_token()
        self._something_forgotten = trio.Event()
        self._versions: RefreshedWorkspace | None = None
        self._ending = False

    async def refresh(self, request: Mapping[str, Any], _: Any = None) -> dict[str, Any]:
        """Show the version at a locator, or the newest; the record of what is shown then.

        Raises `WritableMountError`, `OtherVolumeError`, `VersionNotFoundError`, `StoreError` and others.
        """
        to = request.get("to")
        if not isinstance(to, (str, type(None))):
            raise UsageError("what to refresh to is a locator or null")
        async with self._one_at_a_time:
            try:
                return await self._in_thread(self._refresh, to)
            finally:
                if self._has_former():
                    self._something_forgotten.set()

    async def run_by_the_clock(self, seconds: float) -> None:
        """Follow the ref ``main``. What fails is logged, once if it fails again and again, and tried again."""
        failed = ""
        while True:
            await trio.sleep(seconds)
            try:
                await self.refresh({})
                failed = ""
            except Exception as error:
                said = f"{error.kind}: {error.message}" if isinstance(error, VolumeError) else repr(error)
                if said != failed:
                    log.error("the newest version cannot be shown, the one before stays: %s", said)
                failed = said

    async def run(self) -> None:
        """Close former versions when nobody has anything of them open any more."""
        while True:
            with trio.move_on_after(_LOOK if self._has_former() else math.inf):
                await self._something_forgotten.wait()
            await trio.sleep(_FORGETTING)
            self._something_forgotten = trio.Event()
            async with self._one_at_a_time:
                try:
                    await self._in_thread(self._sweep)
                except NotMountedError:
                    return
                except Exception:
                    log.exception("what nobody has open any more could not be let go of; it is tried again")

    async def settle(self) -> None:
        """Begin nothing more, and wait for a refresh that is under way: the kernel must not be left in its middle."""
        self._ending = True
        async with self._one_at_a_time:
            pass

    def status(self) -> dict[str, Any]:
        """Owner thread."""
        versions = self._versions
        return {
            "refreshes": versions.generation if versions is not None else 0,
            "former_versions": len(versions.former()) if versions is not None else 0,
        }

    # ------------------------------------------------------------------------------------- worker thread

    async def _in_thread(self, work: Callable[..., Any], *args: Any) -> Any:
        try:
            return await trio.to_thread.run_sync(work, *args, abandon_on_cancel=True)
        except SchedulerClosedError as error:
            raise _ended(self._spec.mount_path) from error
        except OSError as error:  # of the connection
            if error.errno not in _GONE:
                raise
            raise _ended(self._spec.mount_path) from error

    def _refresh(self, to: str | None) -> dict[str, Any]:
        if self._ending:
            raise _ended(self._spec.mount_path)
        record = self._session.find_version(to)
        self._kernel.check_refreshes()
        if record is None:
            self._sweep()
            shown = self._session.shown()
            assert shown is not None
            return shown.to_wire()
        new = self._session.prepare(self._spec, record)
        try:
            versions, step = self._worked_out(new)
            before = versions.nodes
            self._kernel.call(self._take, versions, step)
        except BaseException:
            new.discard()
            raise
        log.info("shows %s", record.locator)
        try:
            with self._telling() as tell:
                announce(tell, new, versions.nodes.of, before.of)
        finally:
            new.changes.close()
        self._kernel.call(versions.announced)
        self._sweep()
        return record.to_wire()

    def _worked_out(self, new: NewVersion) -> tuple[RefreshedWorkspace, Step]:
        versions = self._versions or RefreshedWorkspace(self._session.workspace, self._forgot)
        if versions.generation + 1 >= GENERATIONS or max(new.numbered, new.numbered_before) > NUMBER:
            raise SetupError(
                "this mount cannot be refreshed: there are no numbers left for files that change",
                hint="unmount the volume and mount the version that is wanted",
            )
        return versions, versions.step(new)

    def _sweep(self) -> None:
        """Ask the kernel what it knows of former versions, and let go of the rest.

        Of one that has a directory in which somebody may stand, all stays: he can still look up what is in there.
        """
        versions, call = self._versions, self._kernel.call
        if versions is None:
            return
        with self._telling() as tell:
            for former in call(versions.former):
                if former.announced and not self._ending:
                    held = call(versions.hold, former)
                    drop(tell, held.names)
                    if next(known(tell, held.directories), None) is None:
                        call(versions.keep, former, list(known(tell, held.nodes)))

    @contextmanager
    def _telling(self) -> Generator[Send, None, None]:
        with Guard(self._spec.mount_path, self._spec.claim) as guard:

            def tell(kind: int, body: bytes) -> None:
                guard.before(kind)
                self._kernel.notify(kind, body)

            yield tell

    # -------------------------------------------------------------------------------------- owner thread

    def _take(self, versions: RefreshedWorkspace, step: Step) -> None:
        close = self._session.take(step.new, self._spec, self._kernel.call)
        versions.take(step, self._session.workspace, close)
        self._versions = versions
        self._kernel.show(cast("Workspace", versions), NUMBER)

    def _has_former(self) -> bool:
        """Any thread."""
        return self._versions is not None and bool(self._versions.former())

    def _forgot(self) -> None:
        self._token.run_sync_soon(self._notice, idempotent=True)

    def _notice(self) -> None:
        self._something_forgotten.set()


def _ended(path: str) -> NotMountedError:
    return NotMountedError(f"the mount at {os.fspath(path)} ends or has ended", hint="mount the volume again")
