"""How a handle reaches its files without a mount: a session in this process, opened when it is first needed."""

from __future__ import annotations

import atexit
import os
import shutil
import weakref
from contextlib import suppress
from dataclasses import replace
from typing import Any, ClassVar

from flyteplugins_vol.errors import ForkedHandleError
from flyteplugins_vol.forked import Lock
from flyteplugins_vol.history.checkout import disk_error
from flyteplugins_vol.history.closer import begin_closer, finish, later
from flyteplugins_vol.history.unmounted import Unmounted
from flyteplugins_vol.model import MountSpec
from flyteplugins_vol.portable import fcntl, make_workspace

_ALL: weakref.WeakSet[Access] = weakref.WeakSet()
_LAST_SECONDS = 17.0  # for what finalizers have left to do at the end of the process, as for a mount's last commit


def remove_directories() -> None:
    """Remove what this process keeps on local disk of volumes that are not mounted: it is about to end at once."""
    for access in list(_ALL):
        session = access.session
        if session is not None:
            shutil.rmtree(session.spec.meta_dir, ignore_errors=True)


class Access:
    """How a handle reaches its files at present. Not part of its value: copies and pickles begin afresh."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.session: Unmounted | None = None
        self._opened: _Opened | None = None
        self._parent = 0  # in a forked child, the process that writes through the handle of which this is a copy

    def __reduce__(self) -> tuple[type[Access], tuple[()]]:
        return Access, ()

    def __deepcopy__(self, memo: Any) -> Access:
        return Access()

    def open(self, owner: object, spec: MountSpec) -> Unmounted:
        """Open a session instead of the one that there is. Files that are open in one that only reads stay so."""
        _ALL.add(self)
        if self._opened is not None and self.session is not None and self.writer is None:
            self.session.close_when_unused(self._opened.close)
            self.session = self._opened = None  # what it is left to closes it at the latest with the owner
        self.close()
        try:
            lock = None if spec.read_only else _WriterLock.held(spec)
        except OSError as error:
            raise disk_error(error, spec.meta_dir) from error
        try:
            self.session = Unmounted(spec)
        except BaseException:
            if lock is not None:
                lock.release()
            raise
        self._opened = opened = _Opened(self.session, lock)
        begin_closer()
        weakref.finalize(owner, later, opened.close).atexit = False
        return self.session

    @property
    def writer(self) -> Unmounted | None:
        """The session that takes writes, if there is one."""
        return self.session if self.session is not None and not self.session.spec.read_only else None

    def check_ours(self, name: str) -> None:
        """Raise `ForkedHandleError` if what is written through the handle is the parent's."""
        if self._parent:
            raise ForkedHandleError(
                f"volume {name!r} is written to by process {self._parent}, from which this one was forked",
                hint="write in that process, or fork() the volume here: it begins with the last version",
            )

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()
        self.session = self._opened = None

    def begin_afresh(self) -> None:
        """In a forked child: readers go on with sessions of their own, and what is written is the parent's."""
        if self.writer is not None:
            self.session = self._opened = None
            self._parent = os.getppid()

    def drop(self, *, keep: bool = False) -> bool:
        """Close. Whether something is lost by that: written, and in no version.

        ``keep``: nothing is; a session that has such a thing stays open for as long as its handle is there.
        """
        with self.lock:
            if keep and self.writer is not None and self.writer.changed:
                return False
            is_lost = self.writer is not None and self.writer.changed
            self.close()
            return is_lost


class _WriterLock:
    """The lock of the volume's workspace: on this machine it has one writer, mounted or not."""

    def __init__(self, directory: str, fd: int) -> None:
        self._directory = directory
        self._fd = fd

    @classmethod
    def held(cls, spec: MountSpec) -> _WriterLock:
        """Take it. Raises `VolumeBusyError`, which names the holder."""
        from flyteplugins_vol.mount import workspace_lock

        make_workspace(spec.meta_dir)
        return cls(spec.meta_dir, workspace_lock.hold(replace(spec, mount_path=""), None))

    def leave(self) -> None:
        """In a forked child: it is the parent's alone."""
        os.close(self._fd)

    def release(self) -> None:
        with suppress(OSError):
            if os.listdir(self._directory) == ["lock"]:  # no workspace that somebody may resume
                os.unlink(os.path.join(self._directory, "lock"))
                os.rmdir(self._directory)
        fcntl.flock(self._fd, fcntl.LOCK_UN)  # close alone would not do while a forked child has it, too
        os.close(self._fd)


class _Opened:
    """A session to be closed once, by who comes first: its handle, what follows its last user, the process's end."""

    all: ClassVar[set[_Opened]] = set()

    def __init__(self, session: Unmounted, lock: _WriterLock | None) -> None:
        self._session: Unmounted | None = session
        self._lock = lock
        self._owner = os.getpid()
        _Opened.all.add(self)

    def begin_afresh(self) -> None:
        """In a forked child: what reads is its own from now on, what writes is its parent's."""
        if self._lock is None:
            self._owner = os.getpid()
        else:
            self._lock.leave()
            self._lock = None

    def close(self) -> None:
        if os.getpid() != self._owner:  # a forked child's exit is not its parent's
            return
        session, self._session = self._session, None
        lock, self._lock = self._lock, None
        _Opened.all.discard(self)
        try:
            if session is not None:
                session.close()
        finally:
            if lock is not None:
                lock.release()


@atexit.register
def _close_all() -> None:
    try:
        finish(_LAST_SECONDS)  # a file that was just collected is still to be published
    finally:
        for opened in list(_Opened.all):
            opened.close()


def _begin_afresh() -> None:
    for opened in _Opened.all:
        opened.begin_afresh()
    for access in list(_ALL):
        access.begin_afresh()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_afresh)
