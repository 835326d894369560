"""How a handle reaches its files without a mount: a session in this process, opened when it is first needed."""

from __future__ import annotations

import os
import shutil
import threading
import weakref
from contextlib import suppress
from dataclasses import replace
from typing import Any

from flyteplugins_vol.history.unmounted import Unmounted
from flyteplugins_vol.model import MountSpec
from flyteplugins_vol.portable import make_workspace

_ALL: weakref.WeakSet[Access] = weakref.WeakSet()


def remove_directories() -> None:
    """Remove what this process keeps on local disk of volumes that are not mounted: it is about to end at once."""
    for access in list(_ALL):
        session = access.session
        if session is not None:
            shutil.rmtree(session.spec.meta_dir, ignore_errors=True)


class Access:
    """How a handle reaches its files at present. Not part of its value: copies and pickles begin afresh."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.session: Unmounted | None = None
        self._closer: weakref.finalize[..., Any] | None = None

    def __reduce__(self) -> tuple[type[Access], tuple[()]]:
        return Access, ()

    def __deepcopy__(self, memo: Any) -> Access:
        return Access()

    def open(self, owner: object, spec: MountSpec) -> Unmounted:
        """Open a session instead of the one that there is. Files that are open in one that only reads stay so."""
        _ALL.add(self)
        if self.session is not None and self.writer is None:
            self.session.close_when_unused()
            self.session = self._closer = None  # what it is left to closes it at the latest with the owner
        self.close()
        lock = None if spec.read_only else _WriterLock.held(spec)
        try:
            self.session = Unmounted(spec)
        except BaseException:
            if lock is not None:
                lock.release()
            raise
        self._closer = weakref.finalize(owner, _close, self.session, lock)
        return self.session

    @property
    def writer(self) -> Unmounted | None:
        """The session that takes writes, if there is one."""
        return self.session if self.session is not None and not self.session.spec.read_only else None

    def close(self) -> None:
        if self._closer is not None:
            self._closer()
        self.session = self._closer = None

    def drop(self) -> bool:
        """Close. Whether something is lost by that: written, and in no version."""
        with self.lock:
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
        return cls(spec.meta_dir, workspace_lock.hold(replace(spec, mount_path="(not mounted)"), None))

    def release(self) -> None:
        with suppress(OSError):
            if os.listdir(self._directory) == ["lock"]:  # no workspace that somebody may resume
                os.unlink(os.path.join(self._directory, "lock"))
                os.rmdir(self._directory)
        os.close(self._fd)


def _close(session: Unmounted, lock: _WriterLock | None) -> None:
    try:
        session.close()
    finally:
        if lock is not None:
            lock.release()
