"""Sessions that handles of this process have open, and the lock that the one which writes to a volume holds."""

from __future__ import annotations

import atexit
import gc
import inspect
import os
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import ClassVar

from flyteplugins_vol.errors import VolumeBusyError
from flyteplugins_vol.history.closer import finish
from flyteplugins_vol.history.unmounted import Unmounted
from flyteplugins_vol.model import MountSpec
from flyteplugins_vol.portable import fcntl, make_workspace

_LAST_SECONDS = 17.0  # for what finalizers have left to do at the end of the process, as for a mount's last commit
_ROOM_SECONDS = 10.0  # for a handle that is gone to let go of the volume: its lease alone may take 3
_NOT_USERS = ("flyteplugins_vol", "fsspec", "threading", "concurrent", "asyncio")  # modules that are not the user's


class WriterLock:
    """The lock of the volume's workspace: on this machine it has one writer, mounted or not."""

    def __init__(self, directory: str, fd: int) -> None:
        self.directory = directory
        self._fd = fd

    @classmethod
    def held(cls, spec: MountSpec) -> WriterLock:
        """Take it. Raises `VolumeBusyError`, which names the holder."""
        from flyteplugins_vol.mount import workspace_lock

        make_workspace(spec.meta_dir)
        return cls(spec.meta_dir, workspace_lock.hold(replace(spec, mount_path=""), None))

    def leave(self) -> None:
        """In a forked child: it is the parent's alone."""
        os.close(self._fd)

    def release(self) -> None:
        with suppress(OSError):
            if os.listdir(self.directory) == ["lock"]:  # no workspace that somebody may resume
                os.unlink(os.path.join(self.directory, "lock"))
                os.rmdir(self.directory)
        fcntl.flock(self._fd, fcntl.LOCK_UN)  # close alone would not do while a forked child has it, too
        os.close(self._fd)


class Opened:
    """A session to be closed once, by who comes first: its handle, what follows its last user, the process's end."""

    all: ClassVar[set[Opened]] = set()

    def __init__(self, session: Unmounted, lock: WriterLock | None, owner: object) -> None:
        self._session = session
        self._lock = lock
        self._once = threading.Lock()  # taken for good by who closes it
        self._process = os.getpid()
        self._owner = weakref.ref(owner)
        self._closed = threading.Event()
        self.directory = lock.directory if lock is not None else None
        self.began = _where() if lock is not None else ""
        Opened.all.add(self)

    @classmethod
    def writer(cls, directory: str) -> Opened | None:
        """What holds the lock of this workspace, if that is a handle of this process."""
        return next((one for one in list(cls.all) if one.directory == directory and one.is_ours), None)

    @property
    def is_ours(self) -> bool:
        """Whether it is this process's, and not that of the one it was forked from."""
        return os.getpid() == self._process

    def makes_room(self) -> bool:
        """Whether it has let go of the volume, since nobody can reach its handle, or somebody closes it just now.

        Blocks for so long. What its handle had written and not committed is dropped, as by the thread `close`.
        """
        if not self._once.locked() and self._owner() is not None:
            return False
        self.close()
        return self._closed.wait(_ROOM_SECONDS)

    def begin_afresh(self) -> None:
        """In a forked child: what reads is its own from now on, what writes is its parent's."""
        if self.directory is None:
            self._process = os.getpid()
        elif self._lock is not None:
            self._lock.leave()
            self._lock = None

    def close(self) -> None:
        if not self.is_ours:  # a forked child's exit is not its parent's
            return
        if not self._once.acquire(blocking=False):
            return
        try:
            self._session.close()
        finally:
            if self._lock is not None:
                self._lock.release()
            Opened.all.discard(self)
            self._closed.set()


def taken_lock(spec: MountSpec) -> WriterLock:
    """The lock of the volume's workspace. Raises `VolumeBusyError`, which names the holder."""
    try:
        return WriterLock.held(spec)
    except VolumeBusyError:
        make_room(spec)
        return WriterLock.held(spec)


def make_room(spec: MountSpec) -> None:
    """Let no handle of this process hold the volume that nobody can use any more.

    Such are those that a notebook's cell leaves when it is run again. Raises `VolumeBusyError` for one that is in use.
    """
    steps: tuple[Callable[[], object], ...] = (
        lambda: None,
        gc.collect,  # for handles in a circle, as a traceback makes them
        lambda: finish(_ROOM_SECONDS),  # what waits for that thread may be the last that has the handle
    )
    opened = None
    for step in steps:
        step()
        opened = Opened.writer(spec.meta_dir)
        if opened is None or opened.makes_room():
            return
    began = opened.began if opened is not None else ""
    raise VolumeBusyError(
        f"volume {spec.volume_name} is open for writing already, through another handle of this process{began}",
        hint="write through that handle, or close() or finalize() it; or fork the volume, or mount it read-only",
    )


def _where() -> str:
    """The line of the user's program that runs, where it can be told: a method that is awaited runs elsewhere."""
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] not in _NOT_USERS:
            return f", which began to write at {frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


@atexit.register
def _close_all() -> None:
    try:
        finish(_LAST_SECONDS)  # a file that was just collected is still to be published
    finally:
        for opened in list(Opened.all):
            opened.close()


def _begin_afresh() -> None:
    for opened in Opened.all:
        opened.begin_afresh()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_afresh)
