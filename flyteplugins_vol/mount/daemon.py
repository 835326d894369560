"""The daemon of one mount: ``python -m flyteplugins_vol.mount.daemon``, started by `client.MountClient`.

Main thread: trio, with the control socket, uploads, autocommit, signals and an eye on the client. Kernel thread
(`kernel_thread`): the file system. How a mount ends, for which cause: `ending`.
"""

from __future__ import annotations

import gc
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, NoReturn, cast

import trio

from flyteplugins_vol.errors import LostWritesError, MountFailedError, UsageError, VolumeError
from flyteplugins_vol.model import MountSpec
from flyteplugins_vol.mount import control, ending, kernel_mounts, logs, memory, workspace_lock
from flyteplugins_vol.mount.commits import Commits
from flyteplugins_vol.mount.control_server import ControlServer, Listening
from flyteplugins_vol.mount.ending import End
from flyteplugins_vol.mount.handshake import Handshake
from flyteplugins_vol.mount.kernel_thread import KernelThread
from flyteplugins_vol.mount.protocols import Call, Progress, Session, SessionFactory
from flyteplugins_vol.mount.refresh import Refreshes
from flyteplugins_vol.mount.threads import done, in_thread
from flyteplugins_vol.mount.uploads import Uploader
from flyteplugins_vol.store.local import follow_umask

log = logging.getLogger(__name__)

SWITCH_INTERVAL = 0.0005
"""Seconds for which a worker thread may keep the GIL from the kernel thread.

Beside one busy thread of Python, this makes 2 to 3 times the creates of the default 5 ms; 0.1 ms makes no more.
"""

_DESCRIPTORS = 1 << 16  # that the daemon may have
_REPLY_SECONDS = 1.0
_OFTEN_SECONDS = 15.0


def main(open_session: SessionFactory | None = None) -> NoReturn:
    """Serve the mount that standard input describes, until it ends. Never returns: no thread may keep it alive."""
    follow_umask(os.umask(0o077))
    # Memory holds credentials. 0 would still let a core_pattern that is a pipe have it (core(5)); 1 keeps it from both.
    resource.setrlimit(resource.RLIMIT_CORE, _no_core())
    resource.setrlimit(resource.RLIMIT_NOFILE, _descriptors())
    handshake = Handshake()
    spec, client = handshake.receive()
    logs.set_up(spec.store_options)
    os.chdir("/")  # the directory that the client was in can be removed or unmounted
    sys.setswitchinterval(SWITCH_INTERVAL)
    status = 1
    try:
        _serve(spec, client, handshake, open_session or _default_session)
        status = 0
    except VolumeError as error:
        log.error("%s: %s", error.kind, error.message)
        handshake.error(error)
    except BaseException as error:
        log.critical("the daemon failed", exc_info=error)
        failure = f"the daemon of the mount failed: {error!r}"
        handshake.error(MountFailedError(failure, hint=f"its log is {spec.log_path}"))
    logging.shutdown()
    os._exit(status)  # an upload that hangs in a worker thread must not keep the process


def _no_core() -> tuple[int, int]:
    most = resource.getrlimit(resource.RLIMIT_CORE)[1]
    least = 1 if most == resource.RLIM_INFINITY else min(1, most)  # only root could raise it
    return least, least


def _descriptors() -> tuple[int, int]:
    """As many as there may be, but for absurd numbers: programs that call select(2) have a limit of 1,024, not we."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if most == resource.RLIM_INFINITY else min(_DESCRIPTORS, most)
    return (now if now == resource.RLIM_INFINITY else max(now, wanted)), most


def _serve(spec: MountSpec, client: int | None, handshake: Handshake, open_session: SessionFactory) -> None:
    lock = None if spec.read_only else workspace_lock.hold(spec, client)
    if spec.log_path is not None:
        logs.stay_at(spec.log_path)  # who had the workspace before has perhaps removed it with all else
    daemon = Daemon(spec, client, handshake, open_session)
    try:
        trio.run(daemon.run)
        if lock is not None:
            daemon.leave_workspace(lock)
    finally:
        kernel_mounts.unmount_by_force(spec.mount_path, spec.claim)  # nothing to do, unless all else failed
        if lock is not None:
            os.close(lock)


def _default_session(spec: MountSpec, call: Call, progress: Progress) -> Session:
    from flyteplugins_vol.history.session import open_session

    return open_session(spec, call, progress)


def _tidy(meta_dir: str) -> None:
    from flyteplugins_vol.history.tidy import tidy_around

    tidy_around(meta_dir)


class Daemon:
    """What the main thread does. `run` returns when the mount has ended well, and raises why it did not."""

    def __init__(self, spec: MountSpec, client: int | None, handshake: Handshake, open_session: SessionFactory) -> None:
        self._spec = spec
        self._client = client
        self._handshake = handshake
        self._uploader: Uploader | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._control_path = control.socket_path(spec.meta_dir, os.getpid())
        self._listening: Listening | None = None
        self._kernel = KernelThread(
            spec, open_session, progress=handshake.progress, staged=self._staged, announce=self._listen
        )
        self._end = End(spec, self._kernel)

    async def run(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        try:
            unable = await self._live()
        finally:
            if self._listening is not None:
                self._listening.close()
        if unable is not None:  # raised out here as itself: a nursery would wrap it in a group
            raise unable
        if (failure := self._kernel.ended.exception()) is not None:
            raise failure

    async def _live(self) -> BaseException | None:
        """Until the mount has ended; returns why there never was one."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._watch_signals)
            nursery.start_soon(self._watch_client)
            self._kernel.start()
            unable = await self._mount()
            if _has_succeeded(self._kernel.mounted):  # also one that is to end before anybody heard of it: see `_serve`
                await self._serve(nursery, self._kernel.mounted.result())
            nursery.cancel_scope.cancel()
        return unable

    def leave_workspace(self, lock: int) -> None:
        """After `run`, as the holder of the lock: nothing is left, or what is left is known to be kept.

        Here and not by the client, for whom the directory may be another writer's by then.
        """
        if self._end.leaves_nothing:
            self._kernel.mounted.result().remove()
        else:
            workspace_lock.forget(lock)

    # -------------------------------------------------------------------------------------------- start

    async def _mount(self) -> BaseException | None:
        """None when the mount answers, else why it never will. A request to end does not have to wait for it."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_when, self._end.begun, nursery.cancel_scope)
            await done(self._kernel.mounted)
            if self._kernel.mounted.exception() is None:
                await in_thread(os.stat, self._spec.mount_path)  # through the kernel and back
            nursery.cancel_scope.cancel()
        if self._end.ending is not None:
            if not self._kernel.mounted.cancel():
                await done(self._kernel.mounted)  # too late: it answers, or has failed
            return MountFailedError(f"stopped before the volume was mounted: {self._end.ending.why}")
        gc.collect()
        gc.freeze()  # what is loaded by now stays; no later collection need look at it
        return self._kernel.mounted.exception()

    async def _serve(self, nursery: trio.Nursery, session: Session) -> None:
        if not self._spec.read_only:
            self._uploader = Uploader(session.sealer, self._spec.max_uploads)
        self._commits = Commits(self._kernel, session, self._uploader)
        self._refreshes = Refreshes(self._kernel, session, self._spec)
        if self._end.ending is not None:  # programs have seen the mount, and what they wrote was answered with success
            await self._end.run(self._commits, self._refreshes)
            return
        self._start_background(nursery)
        nursery.start_soon(memory.give_back_when_quiet, session.let_go)
        nursery.start_soon(_at_times, session.follow_evictions)
        server = self._start_control(nursery)
        await self._end.begun.wait()
        await self._end.run(self._commits, self._refreshes)
        await server.close(_REPLY_SECONDS)

    def _start_background(self, nursery: trio.Nursery) -> None:
        nursery.start_soon(self._watch_kernel)
        nursery.start_soon(in_thread, _tidy, self._spec.meta_dir)
        if self._uploader is None:
            nursery.start_soon(self._refreshes.run)
            if self._spec.follow:
                nursery.start_soon(self._refreshes.run_by_the_clock, self._spec.follow)
            return
        nursery.start_soon(self._uploader.run)
        if self._spec.autocommit:
            nursery.start_soon(self._commits.run_by_the_clock, self._spec.autocommit)
        if self._spec.autocommit_bytes:
            nursery.start_soon(self._commits.run_by_size, self._spec.autocommit_bytes)

    def _listen(self) -> None:
        """Kernel thread: who sees the mount finds the daemon, and waits until it is ready."""
        self._listening = Listening(self._control_path)

    def _start_control(self, nursery: trio.Nursery) -> ControlServer:
        assert self._listening is not None  # since it is mounted
        handlers = {
            "status": self._status,
            "commit": self._commit,
            "refresh": self._refreshes.refresh,
            "unmount": self._unmount,
            "abandon": self._abandon,
        }
        server = ControlServer(self._listening, handlers)
        nursery.start_soon(server.run)
        log.info("volume %s is mounted at %s", self._spec.volume_name, self._spec.mount_path)
        self._handshake.ready({"pid": os.getpid(), "control": self._control_path, "mount_path": self._spec.mount_path})
        return server

    def _staged(self) -> None:
        """Any thread: there may be something to upload."""
        if self._uploader is not None and self._token is not None:
            self._token.run_sync_soon(self._uploader.notice, idempotent=True)

    # ----------------------------------------------------------------------------------------- requests

    async def _status(self, _: Mapping[str, Any], __: Progress) -> dict[str, Any]:
        session = self._kernel.mounted.result()
        status: dict[str, Any] = await trio.to_thread.run_sync(self._kernel.call, session.status)
        status |= await trio.to_thread.run_sync(self._kernel.call, self._refreshes.status)
        mount = {
            "pid": os.getpid(),
            "client": self._client,
            "resumed": session.resumed,
            "mount_path": self._spec.mount_path,
            "log_path": self._spec.log_path,
            "passthrough": self._kernel.passes,
            "requests": dict(self._kernel.operations.counts),
        }
        return {**status, **mount}

    async def _commit(self, request: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
        message = request.get("message")
        if not isinstance(message, (str, type(None))):
            raise UsageError("a commit's message is a string or null")
        produced_by: Any = request.get("produced_by")
        if not isinstance(produced_by, (dict, type(None))):
            raise UsageError("what a commit is produced by is an object or null")
        try:
            return await self._commits.commit(message, progress, cast("dict[str, Any] | None", produced_by))
        except LostWritesError:
            self._commits.accept_losses()
            raise

    async def _unmount(self, request: Mapping[str, Any], _: Progress) -> dict[str, Any]:
        keep = request.get("keep")
        if not isinstance(keep, bool):
            raise UsageError("an unmount says whether to keep what is not committed: true or false")
        self._end.begin(ending.on_unmount(self._spec, keep=keep, at_exit=request.get("exit") is True))
        return await self._end.outcome()

    async def _abandon(self, _: Mapping[str, Any], __: Progress) -> dict[str, Any]:
        self._end.begin(ending.on_abandon())
        await self._end.over.wait()
        return {}

    # ------------------------------------------------------------------------------------------ watches

    async def _watch_signals(self, task_status: trio.TaskStatus[None]) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            task_status.started()
            async for number in signals:
                name = signal.Signals(number).name
                self._end.begin(ending.on_signal(self._spec, name))

    async def _watch_client(self) -> None:
        if self._client is None:
            return
        try:
            pidfd = os.pidfd_open(self._client)
        except ProcessLookupError:
            pass
        else:
            if os.getppid() == self._client:  # else it has gone, and its number may be another's by now
                await trio.lowlevel.wait_readable(pidfd)
            os.close(pidfd)
        self._end.begin(ending.on_client_gone(self._spec, self._client))

    async def _watch_kernel(self) -> None:
        await done(self._kernel.ended)
        self._end.begin(ending.on_gone_outside())


async def _at_times(action: Callable[[], None]) -> None:
    while True:
        await trio.sleep(_OFTEN_SECONDS)
        try:
            await in_thread(action)
        except Exception:
            log.exception("%s failed; it is tried again", action.__name__)


async def _cancel_when(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


def _has_succeeded(future: Future[Any]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


if __name__ == "__main__":
    main()
