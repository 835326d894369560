"""Every error a user can meet, grouped by what the catcher does about it.

    VolumeError
    ├── UsageError                  the call was wrong: change the call
    │   ├── LocatorError            this string is not a locator
    │   ├── VolumeNameError         this name cannot name a volume
    │   ├── UnknownSchemeError      no store speaks this URL scheme
    │   ├── NotMountedError         the call needs a mounted volume
    │   ├── AlreadyMountedError     this handle is mounted already
    │   ├── NothingCommittedError   there is no version yet to fork or to name
    │   ├── WritableMountError      this can be done with a read-only mount alone
    │   ├── OtherVolumeError        the version is one of another volume
    │   ├── OtherStoreError         the version is in another store
    │   ├── EncryptionKeyError      the secret of an encrypted store is missing, or another, or not called for
    │   ├── ForkedHandleError       the handle is written through by the process that this one was forked from
    │   └── HandleClosedError       the handle was finalized or abandoned
    ├── SetupError                  this machine is not ready: repair it
    │   ├── FuseMissingError        no /dev/fuse, or it may not be opened
    │   ├── FusermountError         no fusermount3, or one that is not setuid
    │   ├── MountPathError          the mount path cannot be mounted on
    │   ├── LocalDirectoryError     a cache or staging directory is missing, unwritable or full
    │   └── MountFailedError        the daemon could not serve the mount, or died
    ├── StoreError                  the store did not do it
    │   ├── StoreAccessError        no rights, no credentials, wrong region
    │   ├── StoreUnavailableError   faults or time-outs that outlived every retry: try again
    │   ├── ObjectMissingError      an object that must exist does not
    │   └── ObjectTooLargeError     an answer is larger than what was asked for can be
    ├── ConflictError               somebody else was there first
    │   ├── VolumeBusyError         the volume is mounted read-write elsewhere
    │   ├── TagExistsError          the tag names another version already
    │   ├── VolumeExistsError       another volume has that name there
    │   ├── DivergedError           the copy in the other store has gone on by itself
    │   ├── CollectedError          what a copy needs is being collected as garbage in the other store
    │   ├── MergeConflictError      versions that are to be merged changed the same files differently
    │   ├── LeaseLostError          somebody else writes to the volume by now: this writer was paused or cut off
    │   └── RefMovedError           the ref no longer names the version that this commit builds on
    ├── DamageError                 stored bytes are not what was written
    │   ├── RecordDamagedError      a version record is altered or malformed
    │   ├── IndexDamagedError       an index object or database is altered, cut short or malformed
    │   └── PackDamagedError        a pack is altered or cut short
    ├── NewerFormatError            written by a newer release: upgrade
    ├── VersionNotFoundError        the locator's version was deleted, or never existed
    └── CommitError                 a commit did not happen; the mount lives on and the data is kept
        └── LostWritesError         what programs wrote had no room on the local disk: their files are not whole

Each class has a stable ``kind`` for programs and logs. ``hint`` says what a person does next. An error crosses
from the daemon to its client by `to_wire` and `from_wire`, as itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, cast


class VolumeError(Exception):
    """Base of all errors of this package: ``str(error)`` is the message, with the hint on its own line."""

    kind: ClassVar[str] = "volume"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message

    def to_wire(self) -> dict[str, Any]:
        return {"kind": self.kind, "message": self.message, "hint": self.hint}


class UsageError(VolumeError):
    kind = "usage"


class LocatorError(UsageError, ValueError):
    kind = "locator"


class VolumeNameError(UsageError, ValueError):
    kind = "volume-name"


class UnknownSchemeError(UsageError, ValueError):
    kind = "unknown-scheme"


class NotMountedError(UsageError):
    kind = "not-mounted"


class AlreadyMountedError(UsageError):
    kind = "already-mounted"


class NothingCommittedError(UsageError):
    kind = "nothing-committed"


class WritableMountError(UsageError):
    kind = "writable-mount"


class OtherVolumeError(UsageError):
    kind = "other-volume"


class OtherStoreError(UsageError):
    kind = "other-store"


class EncryptionKeyError(UsageError):
    kind = "encryption-key"


class ForkedHandleError(UsageError):
    kind = "forked-handle"


class HandleClosedError(UsageError):
    kind = "handle-closed"


class SetupError(VolumeError):
    kind = "setup"


class FuseMissingError(SetupError):
    kind = "fuse-missing"


class FusermountError(SetupError):
    kind = "fusermount"


class MountPathError(SetupError):
    kind = "mount-path"


class LocalDirectoryError(SetupError):
    kind = "local-directory"


class MountFailedError(SetupError):
    kind = "mount-failed"


class StoreError(VolumeError):
    kind = "store"


class StoreAccessError(StoreError):
    kind = "store-access"


class StoreUnavailableError(StoreError):
    kind = "store-unavailable"


class ObjectMissingError(StoreError):
    kind = "object-missing"


class ObjectTooLargeError(StoreError):
    kind = "object-too-large"


class ConflictError(VolumeError):
    kind = "conflict"


class VolumeBusyError(ConflictError):
    kind = "volume-busy"


class TagExistsError(ConflictError):
    kind = "tag-exists"


class VolumeExistsError(ConflictError):
    kind = "volume-exists"


class DivergedError(ConflictError):
    kind = "diverged"


class CollectedError(ConflictError):
    kind = "collected"


class MergeConflictError(ConflictError):
    """``conflicts``: all of them (`io.MergeConflict`), in the order of a walk."""

    kind = "merge-conflict"

    def __init__(self, message: str, *, hint: str = "", conflicts: Sequence[Any] = ()) -> None:
        super().__init__(message, hint=hint)
        self.conflicts = tuple(conflicts)


class LeaseLostError(ConflictError):
    kind = "lease-lost"


class RefMovedError(ConflictError):
    kind = "ref-moved"


class DamageError(VolumeError):
    kind = "damage"


class RecordDamagedError(DamageError):
    kind = "record-damaged"


class IndexDamagedError(DamageError):
    kind = "index-damaged"


class PackDamagedError(DamageError):
    kind = "pack-damaged"


class NewerFormatError(VolumeError):
    kind = "newer-format"


class VersionNotFoundError(VolumeError):
    kind = "version-not-found"


class CommitError(VolumeError):
    kind = "commit"


class LostWritesError(CommitError):
    kind = "lost-writes"


def from_wire(wire: Any) -> VolumeError:
    """The error that `VolumeError.to_wire` described; an unknown kind, or no description, is a plain `VolumeError`."""
    if not isinstance(wire, dict):
        return VolumeError(f"unknown error: {wire!r}"[:1000])
    wire = cast("dict[str, Any]", wire)
    cls = _by_kind(VolumeError).get(str(wire.get("kind", "")), VolumeError)
    return cls(str(wire.get("message", "unknown error")), hint=str(wire.get("hint", "")))


def _by_kind(cls: type[VolumeError]) -> dict[str, type[VolumeError]]:
    found = {cls.kind: cls}
    for child in cls.__subclasses__():
        found.update(_by_kind(child))
    return found
