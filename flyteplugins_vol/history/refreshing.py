"""Another version for a read-only session that is in use: brought and compared beside it, then taken over.

All but `Session.take` happens in a worker thread while the owner serves the version before; a failure changes nothing.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from flyteplugins_vol.errors import (
    IndexDamagedError,
    OtherVolumeError,
    VersionNotFoundError,
    WritableMountError,
)
from flyteplugins_vol.history.checkout import IndexCache, disk_error
from flyteplugins_vol.history.record import Locator, VersionRecord, load_record, parse_locator
from flyteplugins_vol.history.refs import read_known_ref, ref_key
from flyteplugins_vol.index.changes import Changes
from flyteplugins_vol.index.index import Index
from flyteplugins_vol.model import ROOT_INO, MountSpec
from flyteplugins_vol.workspace.subtree import subtree
from flyteplugins_vol.workspace.workspace import Workspace

if TYPE_CHECKING:
    from flyteplugins_vol.history.session import Session


class NewVersion:
    """A version that is ready to be shown, and what differs from the one before. `discard` it if it is not taken.

    ``view`` is the workspace as the mount shows it. ``root`` and ``root_before``: inodes that the mounts' roots are.
    ``numbered`` and ``numbered_before``: every inode ever made up to either version has a smaller number.
    """

    def __init__(self, record: VersionRecord, whole: Workspace, before: Workspace, spec: MountSpec) -> None:
        self.record = record
        self.whole = whole
        self.view = whole if spec.subdir is None else subtree(whole, spec.subdir)
        self.root = self.view.getattr(ROOT_INO).ino
        self.root_before = ROOT_INO if spec.subdir is None else subtree(before, spec.subdir).getattr(ROOT_INO).ino
        self.numbered = whole.index.next_ino
        self.numbered_before = before.index.next_ino
        self.changes = Changes(before.index.db.path, whole.index.db.path)

    def discard(self) -> None:
        self.changes.close()
        self.whole.close()


def newest(session: Session) -> Locator:
    """What the ref ``main`` of the session's volume names. One GET. Raises `VersionNotFoundError`."""
    shown = shown_version(session).locator
    ref = read_known_ref(session.store, ref_key(shown.volume_name, shown.volume_id))
    if ref is None:
        raise VersionNotFoundError(
            f"volume {shown.volume_name!r} has no ref main any more",
            hint="was it deleted? The mount goes on with the version that it has; refresh to a locator",
        )
    return Locator(shown.store_url, shown.volume_name, shown.volume_id, ref.version)


def find_version(session: Session, to: str | None) -> VersionRecord | None:
    """The version at a locator, or the newest one; None if it is shown already.

    Raises `WritableMountError`, `LocatorError`, `OtherVolumeError`, `VersionNotFoundError`, `StoreError`.
    """
    shown = shown_version(session).locator
    wanted = newest(session) if to is None else parse_locator(to)
    if (wanted.store_url, wanted.volume_id) != (shown.store_url, shown.volume_id):
        raise OtherVolumeError(
            f"{wanted} is not a version of volume {shown.volume_name!r} ({shown.volume_id}), which is mounted here",
            hint="mount the other volume at a path of its own",
        )
    return None if wanted == shown else load_record(session.store, wanted)


def shown_version(session: Session) -> VersionRecord:
    """The version that a read-only session shows. Raises `WritableMountError`."""
    if session.opened is None or not session.workspace.read_only:
        raise WritableMountError(
            "this mount is for writing: it is the newest version, and shows no other",
            hint="mount the volume read-only, at another path, to look at its versions",
        )
    return session.opened


def prepare(session: Session, spec: MountSpec, record: VersionRecord) -> NewVersion:
    """Bring the index of a version, as far as it differs from the one that is shown, and compare the two. Blocks.

    Raises `StoreError`, `IndexDamagedError`, `NewerFormatError`, `LocalDirectoryError`; `UsageError` if it has not the
    ``subdir`` that the mount shows.
    """
    try:
        return _prepared(session, spec, record)
    except sqlite3.DatabaseError as error:
        raise IndexDamagedError(
            f"the index of {record.locator} cannot be used: {error}", hint="verify the volume"
        ) from error
    except OSError as error:
        raise disk_error(error, spec.cache_dir) from error


def _prepared(session: Session, spec: MountSpec, record: VersionRecord) -> NewVersion:
    indexes, shown = IndexCache(spec.cache_dir), shown_version(session)
    # The cache is every mount's: what the workspace was opened from may be gone from it.
    before_path = indexes.checkout(session.store, shown)[0]
    after_path = indexes.checkout(session.store, record, near=shown)[0]
    before = Workspace(Index.open(before_path, read_only=True), None, session.cache)
    try:
        whole = Workspace(Index.open(after_path, read_only=True), None, session.cache)
        try:
            return NewVersion(record, whole, before, spec)
        except BaseException:
            whole.close()
            raise
    finally:
        before.close()
