"""How a handle reaches its files without a mount: a session in this process, opened when it is first needed."""

from __future__ import annotations

import os
import shutil
import weakref
from typing import Any

from flyteplugins_vol.errors import ForkedHandleError
from flyteplugins_vol.forked import Lock
from flyteplugins_vol.history.checkout import disk_error
from flyteplugins_vol.history.closer import begin_closer, later
from flyteplugins_vol.history.unmounted import Unmounted
from flyteplugins_vol.io import hosts
from flyteplugins_vol.io.opened import Opened, taken_lock
from flyteplugins_vol.model import MountSpec

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
        self.lock = Lock()
        self.session: Unmounted | None = None
        self._opened: Opened | None = None
        self._parent = 0  # in a forked child, the process that writes through the handle of which this is a copy

    def __reduce__(self) -> tuple[type[Access], tuple[()]]:
        return Access, ()

    def __deepcopy__(self, memo: Any) -> Access:
        return Access()

    def open(self, owner: Any, spec: MountSpec) -> Unmounted:
        """Open a session for a volume's files instead of the one that there is; if a task runs, it ends with the task.

        Files that are open in one that only reads stay so.
        """
        _ALL.add(self)
        if self._opened is not None and self.session is not None and self.writer is None:
            self.session.close_when_unused(self._opened.close)
            self.session = self._opened = None  # what it is left to closes it at the latest with the owner
        self.close()
        try:
            lock = None if spec.read_only else taken_lock(spec)
        except OSError as error:
            raise disk_error(error, spec.meta_dir) from error
        try:
            self.session = Unmounted(spec)
        except BaseException:
            if lock is not None:
                lock.release()
            raise
        self._opened = opened = Opened(self.session, lock, owner)
        begin_closer()
        weakref.finalize(owner, later, opened.close).atexit = False
        hosts.mounted(owner, self.drop)
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


def _begin_afresh() -> None:
    for access in list(_ALL):
        access.begin_afresh()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_afresh)
