"""A volume open in this process, with no mount: the same session as a daemon's, with a lock for its owner thread."""

from __future__ import annotations

import ctypes
import logging
import os
import shutil
import sqlite3
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any, TypeVar

from flyteplugins_vol.config import cache_root
from flyteplugins_vol.errors import (
    ForkedHandleError,
    HandleClosedError,
    IndexDamagedError,
    LocalDirectoryError,
    VolumeError,
)
from flyteplugins_vol.forked import wait_for
from flyteplugins_vol.history.closer import begin_closer, later
from flyteplugins_vol.history.commit import Progress
from flyteplugins_vol.history.lease_wait import LeaseWait
from flyteplugins_vol.history.record import VersionRecord
from flyteplugins_vol.history.session import Session, open_session
from flyteplugins_vol.history.tidy import UNMOUNTED, tidy_daily
from flyteplugins_vol.model import MountSpec
from flyteplugins_vol.portable import OPEN_FLAGS, fcntl, make_workspace
from flyteplugins_vol.store.daemonpool import DaemonPool
from flyteplugins_vol.store.fetch import Miss
from flyteplugins_vol.workspace.warmup import warm
from flyteplugins_vol.workspace.workspace import Workspace

T = TypeVar("T")

log = logging.getLogger(__name__)

_UPLOADS = 4  # packs in the making at once, beside whoever writes
_TICK = 1.0  # seconds between two times of housekeeping
_WAIT = 0.05


class Unmounted:
    """An open session. Thread-safe: `call` is the owner, one caller at a time.

    It works in a directory of its own, which is removed when it is closed: the volume's workspace on this machine is
    that of a mount, perhaps of one that lives, or of one that left something to resume.
    """

    def __init__(self, spec: MountSpec) -> None:
        own = f"{spec.volume_name}-{spec.volume_id}-{uuid.uuid4().hex[:8]}"
        # what was written is closed by now: nothing to wait for before it is uploaded
        self.spec = spec = replace(
            spec, meta_dir=os.path.join(cache_root(), UNMOUNTED, own), resume=False, upload_delay=0.0
        )
        self._held = None if spec.read_only else _hold(spec.meta_dir)
        self._begin_locks()
        self._is_parents = False  # it is a copy, in a forked child, of one that takes writes
        self._ticked = time.monotonic()
        self._pool: DaemonPool | None = None
        self._uploading = 0
        self._closed = False
        self._users = 0
        self._when_unused: Callable[[], None] | None = None
        self._changes = self._published = 0
        try:
            self._session: Session | None = open_session(spec, self.call, LeaseWait(spec.volume_name))
        except BaseException:
            self._leave()
            raise
        _ALL[id(self)] = self

    @property
    def session(self) -> Session:
        """What is open. In a forked child a reader's is opened again, by whoever asks first: as `open_session`."""
        with self._lock:
            if self._session is None:
                self._check_open()
                self._session = open_session(self.spec, self.call, LeaseWait(self.spec.volume_name))
            return self._session

    @property
    def workspace(self) -> Workspace:
        """For functions that are given to `call` and `change`."""
        return (self._session or self.session).workspace

    def call(self, fn: Callable[..., T], *args: Any) -> T:
        """Run a function that changes nothing, or is part of a commit, as the owner."""
        with self._lock, damage_told():
            self._check_open()
            return fn(*args)

    def change(self, fn: Callable[..., T], *args: Any) -> T:
        """Run a verb that changes the workspace. Waits while a commit holds writers off, or Staging is full."""
        with self._thawed:
            while self._frozen:
                self._thawed.wait()
            self._check_open()
            self._changes += 1
            with damage_told():
                result = fn(*args)
            self._housekeep()
        while not self.workspace.room():
            if not self.session.sealer.run_once(True):
                time.sleep(_WAIT)  # others have the last of it under way
        return result

    def read(self, ino: int, offset: int, size: int) -> bytes:
        """Bytes of a file, short only at its end; what is not on local disk is fetched first. Raises `VolumeError`."""
        while isinstance(found := self.call(self.workspace.read, ino, offset, size), Miss):
            try:
                self.session.fetcher.fetch(found).result()
            except RuntimeError:  # its pool was shut down in this moment
                self._check_open()
                raise
        return bytes(found)

    def release(self, ino: int, flags: int) -> None:
        """A file that was opened by these flags is closed."""
        if not self._is_parents:
            self.call(lambda: self.workspace.release(ino, flags))

    def warm(self, path: str) -> None:
        """Fetch all that is at a path into the cache of this machine. Raises `VolumeError`."""
        warm(self.workspace, self.call, self.session.fetcher, path)

    @property
    def changed(self) -> bool:
        """Whether anything was written since the last commit."""
        return self._changes != self._published

    def commit(self, message: str | None, progress: Progress | None = None) -> VersionRecord:
        """Publish what was written so far. Raises as `Session.commit`."""
        changes = self._changes
        record = self.session.commit(message, self.call, self._freeze, self._thaw, progress or _ignore)
        self._published = changes
        return record

    def used_by(self, user: object) -> None:
        """As long as that object lives, `close_when_unused` waits."""
        with self._lock:
            self._check_open()
            self._users += 1
        begin_closer()
        weakref.finalize(user, later, self._unused).atexit = False

    def close_when_unused(self, close: Callable[[], None]) -> None:
        """Have it closed by that when the last user is gone, or now."""
        with self._lock:
            self._when_unused = close
            if self._users:
                return
        close()

    def _unused(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users or self._when_unused is None:
                return
        self._when_unused()

    def close(self) -> None:
        """Let go, and drop what was not committed. Idempotent."""
        if self._is_parents:
            return
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self._session is not None:
                self._session.close(keep=False)
        self._leave()

    def _leave(self) -> None:
        if self._held is not None:
            fcntl.flock(self._held, fcntl.LOCK_UN)  # close alone would not do while a forked child has it, too
            os.close(self._held)  # first: where files that are open cannot be removed, it would stay
            self._held = None
        shutil.rmtree(self.spec.meta_dir, ignore_errors=True)

    def __enter__(self) -> Unmounted:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _begin_locks(self) -> None:
        self._lock = threading.RLock()
        wait_for(self._lock)
        self._thawed = threading.Condition(self._lock)
        self._frozen = False

    def begin_afresh(self) -> None:
        """In a forked child: its parent's threads are not there, and SQLite and the store's client are not to be used.

        Nor are they to be closed: that would remove the parent's WAL.
        """
        self._begin_locks()
        self._is_parents = not self.spec.read_only
        if self._session is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._session))
            self._session = None
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def _check_open(self) -> None:
        if self._is_parents:
            raise ForkedHandleError(
                f"volume {self.spec.volume_name} is written to by the process that this one was forked from",
                hint="write in that process, or fork the volume here",
            )
        if self._closed:
            raise HandleClosedError("the volume was closed meanwhile", hint="open it again")

    def _housekeep(self) -> None:
        if time.monotonic() - self._ticked > _TICK:
            self._ticked = time.monotonic()
            self.workspace.housekeep()
        if self._uploading < _UPLOADS and self.session.sealer.ready():
            if self._pool is None:
                self._pool = DaemonPool(_UPLOADS, "upload")
            self._uploading += 1
            self._pool.submit(self._upload)

    def _upload(self) -> None:
        try:
            while self.session.sealer.run_once(False):
                pass
        except (VolumeError, OSError) as error:
            log.info("an upload ahead of the commit failed: %s", error)  # the commit meets it again, and tells
        finally:
            with self._lock:
                self._uploading -= 1

    def _freeze(self) -> None:
        with self._lock:
            self._frozen = True

    def _thaw(self) -> None:
        with self._thawed:
            self._frozen = False
            self._thawed.notify_all()


_ALL: weakref.WeakValueDictionary[int, Unmounted] = weakref.WeakValueDictionary()


def _begin_afresh() -> None:
    for ref in _ALL.valuerefs():
        if (session := ref()) is not None:
            session.begin_afresh()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_afresh)


def _hold(directory: str) -> int:
    """Lock the directory: if this process is killed, others see by that who left it. See `tidy`."""
    tidy_daily(cache_root())
    try:
        make_workspace(directory)
        fd = os.open(os.path.join(directory, "lock"), os.O_RDWR | os.O_CREAT | OPEN_FLAGS, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
    except OSError as error:
        raise LocalDirectoryError(
            f"{directory}: {error.strerror}", hint="set FLYTE_VOL_CACHE_DIR to a directory that you can write to"
        ) from error
    return fd


@contextmanager
def damage_told() -> Generator[None]:
    """What SQLite says of a file that is not as it was written, as an error of ours."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise IndexDamagedError(
            f"the index cannot be used: {error}", hint="open it again; verify the volume"
        ) from error


def publish_unmounted(spec: MountSpec, message: str | None) -> VersionRecord:
    """Commit what the spec describes without mounting it. Blocks. Raises `VolumeError`."""
    with Unmounted(spec) as session:
        return session.commit(message)


def publish_workspace(spec: MountSpec, message: str | None, progress: Progress | None = None) -> VersionRecord:
    """Commit what an earlier process left in ``spec.meta_dir``, and remove it from there. Raises `VolumeError`."""
    lock = threading.RLock()

    def call(fn: Callable[..., T], *args: Any) -> T:
        with lock:
            return fn(*args)

    session = open_session(spec, call, LeaseWait(spec.volume_name))
    published = False
    try:
        record = session.commit(message, call, _nothing, _nothing, progress or _ignore)
        published = True
    finally:
        session.close(keep=not published)
    return record


def _nothing() -> None:
    return


def _ignore(event: Any) -> None:
    return
