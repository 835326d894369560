"""How a writable volume becomes versions: `commit`, `finalize`, `fork`, and the handing over between tasks."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from flyteplugins_vol.errors import (
    CommitError,
    HandleClosedError,
    NothingCommittedError,
    UsageError,
    VolumeBusyError,
    VolumeError,
)
from flyteplugins_vol.history.forking import publish_fork
from flyteplugins_vol.history.record import VersionRecord
from flyteplugins_vol.history.unmounted import Unmounted, publish_unmounted
from flyteplugins_vol.io import hosts
from flyteplugins_vol.io.dual import dual
from flyteplugins_vol.io.facts import new_id
from flyteplugins_vol.io.mounted import Mountable
from flyteplugins_vol.io.mounting import MountOptions
from flyteplugins_vol.io.opened import make_room
from flyteplugins_vol.io.tree import FileTree
from flyteplugins_vol.io.writing import WriteFiles

if TYPE_CHECKING:
    from flyteplugins_vol.io.payload import Known
    from flyteplugins_vol.io.volume import ROVolume, RWVolume


class Publishing(WriteFiles, Mountable):
    """The life of a writable handle: versions as often as it likes, then the last one, or none."""

    if TYPE_CHECKING:

        @property
        def has_changes(self) -> bool: ...
        def _fork(self, name: str | None) -> RWVolume: ...
        def _published(self, record: Known) -> ROVolume: ...

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        self._final: ROVolume | None = None
        self._abandoned = False
        self._ending = False
        self._failure = ""  # why it could not be handed over: SDKs tell little more of it than its repr
        # So that a handle returned twice is finalized once, and one that is being mounted is not passed over.
        self._publishing = self._turn

    def _do_commit(self, message: str | None = None, *, progress: Any = None) -> ROVolume:
        """Publish the volume as it is now as an immutable version; it stays mounted, if it is.

        All that was closed or synced before is in it. Without a message and without changes the last version is
        returned. ``message``: 128 KiB at most. ``progress``: called with dicts that have a ``phase``. Raises
        `NotMountedError`, `UsageError`, `StoreError`, `ConflictError`, `CommitError`; the mount lives on then, and the
        data is kept. `MountFailedError`: it has ended by itself, and the next `mount` takes up what it had.
        """
        with self._publishing:
            self._check_open()
            self._access.check_ours(self.name)
            self._check_not_lost()
            if self._access.writer is not None:
                self._record = record = self._commit_unmounted(message, progress)
            elif self._live().read_only:
                raise UsageError(
                    f"volume {self.name!r} is mounted read-only: there is nothing to commit",
                    hint="finalize() it, and mount the volume without read_only; or fork() it",
                )
            else:
                wire = self._live().client.commit(message, progress, hosts.produced_by())
                self._record = record = VersionRecord.from_wire(wire)
        return self._published(record)

    commit = dual(_do_commit)

    def _do_finalize(self, message: str | None = None, *, progress: Any = None) -> ROVolume:
        """Publish the last version, unmount, and close this handle. A second call returns the same version.

        ``progress``: as of `commit`, and the phase ``in use`` if programs had something open: what they write from then
        on is in no version. Never mounted: publishes what the volume begins with. Raises as `commit`; the mount lives
        on then.
        """
        with self._publishing:
            if self._final is not None:
                return self._final
            self._check_open()
            if self._mounting is None or self._mounting.read_only:
                final = self._published_unmounted(message, progress)
            else:
                self._check_alive(self._mounting)
                final = self._do_commit(message, progress=progress)
            with self._ended_here():
                if self._mounting is not None:
                    told = self._mounting.end(keep=False)
                    if told.get("busy") and progress is not None:
                        progress({"phase": "in use"})
                    if "kept" not in told and not self._mounting.read_only:
                        raise CommitError(
                            "the mount's daemon ended before it said that all is published",
                            hint="what it had not published is kept: mount the volume again, or `flytevol recover`",
                        )
                    wire = told.get("record")
                    if wire is not None:  # of a version with what was written while this one was published
                        self._record = record = VersionRecord.from_wire(wire)
                        final = self._published(record)
                self._access.close()
                self._final = final
            return final

    finalize = dual(_do_finalize)

    def _do_hand_over(self, boundary: hosts.Boundary) -> ROVolume:
        """The version that stands for this handle at a task's boundary: an argument is committed, a result finalized.

        Raises as `commit`. A result's mount then ends as well: its task is over.
        """
        with self._publishing:
            try:
                if boundary == "result" or self._final is not None:
                    return self._do_finalize()
                self._check_open()
                if self._mounting is None or self._mounting.read_only:
                    return self._published_unmounted(None)
                self._check_alive(self._mounting)
                return self._do_commit()
            except VolumeError as error:
                self._failure = self._failure or error.message
                if boundary == "result":
                    self._do_leave()
                raise

    hand_over = dual(_do_hand_over)

    def _published_unmounted(self, message: str | None, progress: Any = None) -> ROVolume:
        self._access.check_ours(self.name)
        if self._access.writer is not None:
            self._record = self._commit_unmounted(message, progress)
        elif not (self._own and message is None and self._record is not None):
            spec = self._spec(MountOptions(resume=False))
            record = publish_fork(spec, message) if self._record is not None and not self._own else None
            if record is None:
                aside = f"{spec.meta_dir}-{new_id()}"  # who has it mounted, or died with it, keeps his workspace
                try:
                    record = publish_unmounted(replace(spec, meta_dir=aside), message)
                except VolumeBusyError:
                    make_room(spec)
                    record = publish_unmounted(replace(spec, meta_dir=aside), message)
            self._record = record
        return self._published(self._record)

    def _do_fork(self, name: str | None = None) -> RWVolume:
        """An independent writable volume that begins as this one is now.

        Mounted for writing, or written to without a mount: commits first. Raises `NothingCommittedError` if there is
        nothing to begin with, `MountFailedError` if the mount has ended by itself.
        """
        if self._final is not None:
            return self._final.fork.sync(name)
        self._check_open()
        self._check_not_lost()
        mounting = self._mounting
        if (mounting is not None and mounting.live and not mounting.read_only) or self.has_changes:
            self._do_commit()
        self._check_committed("fork")
        return self._fork(name)

    fork = dual(_do_fork)

    def _do_leave(self) -> None:
        """End the mount, and close this handle; what the mount has in no version stays on this machine's disk.

        The next mount of the volume takes it up, and `recoverable` has it. What was written without a mount is dropped,
        as by `abandon`. Idempotent.
        """
        with self._ended_here():
            if self._mounting is not None:
                self._mounting.end(keep=True)
            self._access.close()
            self._abandoned = self._final is None

    leave = dual(_do_leave)

    def _do_abandon(self) -> None:
        """End the mount and drop what was not committed. Bounded in time, idempotent; versions stay."""
        self._abandoned = self._final is None  # first: a mount that another thread just makes looks for it
        if self._mounting is not None:
            self._mounting.end(keep=False, abandon=True)
        self._access.close()

    abandon = dual(_do_abandon)

    def _check_open(self) -> None:
        if self._final is not None:
            raise HandleClosedError(
                f"volume {self.name!r} was finalized as {self._final.version}",
                hint="fork that version to go on writing",
            )
        if self._abandoned:
            raise HandleClosedError(
                f"volume {self.name!r} was abandoned", hint="make a new handle: Volume.new, from_name, or a fork"
            )

    @contextmanager
    def _ended_here(self) -> Generator[None]:
        """While this handle ends its mount, and until it is closed, others who look at its files find a version."""
        self._ending = True
        try:
            yield
        finally:
            self._ending = False

    def _check_not_lost(self) -> None:
        """Of a mount for writing that ended by itself, this handle's last version is not all that there is."""
        if self._ending or self._final is not None or self._abandoned:
            return
        if self._mounting is not None and not self._mounting.read_only:
            self._check_alive(self._mounting)

    def _mounted_tree(self) -> FileTree | None:
        tree = super()._mounted_tree()
        if tree is None:
            self._check_not_lost()
        return tree

    def _writer(self) -> Unmounted:
        self._check_not_lost()
        return super()._writer()

    def _check_committed(self, what: str) -> None:
        if self._record is None:
            raise NothingCommittedError(
                f"cannot {what}: volume {self.name!r} has no version yet", hint="commit() or finalize() it first"
            )
