"""Deleting a version, or a whole volume. docs/FORMAT.md section 8 has the order.

Whoever is killed in the middle leaves a volume that can be deleted again: nothing that is left names what is gone.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable

from flyteplugins_vol.config import author, lease_seconds
from flyteplugins_vol.errors import (
    ConflictError,
    DamageError,
    NewerFormatError,
    ObjectTooLargeError,
    VersionNotFoundError,
    VolumeBusyError,
)
from flyteplugins_vol.history.copies import keep_copy
from flyteplugins_vol.history.holding import lease_key
from flyteplugins_vol.history.lease import Lease, LeaseKeeper, Tell
from flyteplugins_vol.history.lease_wait import LeaseWait
from flyteplugins_vol.history.prune import restore_named
from flyteplugins_vol.history.record import Locator, load_record
from flyteplugins_vol.history.refs import MAIN, Ref
from flyteplugins_vol.history.volumes import VolumeEntry, list_refs, list_versions
from flyteplugins_vol.store.base import ObjectStore

_SECONDS = 30.0  # for which the lease is taken where mounts take none: others may
_RELEASE_SECONDS = 3.0


def delete_version(store: ObjectStore, locator: Locator) -> None:
    """Delete one version's record; its blocks go with a later collection.

    Raises `ConflictError` if a ref names it, or may be about to: a commit that was stopped on its way goes on some day.
    As docs/FORMAT.md section 8 wants it: a copy of the record first, so that what it names lives on for those who may
    be building on it.
    """
    volume = VolumeEntry(locator.store_url, locator.volume_name, locator.volume_id)
    refs = list_refs(store, volume)
    named = [name for name, ref in refs.items() if ref.version == locator.file]
    if named:
        raise ConflictError(
            f"the ref {', '.join(named)} of volume {volume} names this version",
            hint="commit a newer version first, or delete the whole volume"
            if MAIN in named
            else f"flytevol tag --delete {volume.name} {named[0]}",
        )
    if MAIN in refs and _may_become(store, locator, refs[MAIN]):
        raise ConflictError(
            f"version {locator.file} of volume {volume} is not older than the newest, so a commit may be about to "
            "publish it",
            hint="commit a newer version first, or delete the whole volume",
        )
    if not _delete_record(store, locator):
        raise VersionNotFoundError(f"there is no version at {locator}", hint="it was deleted already")
    if not restore_named(store, volume, [locator]):
        raise ConflictError(
            f"somebody gave version {locator.file} of volume {volume} a tag meanwhile, so it stays",
            hint=f"flytevol tag --list {volume.name} shows the tags",
        )


def _may_become(store: ObjectStore, locator: Locator, newest: Ref) -> bool:
    """Whether some commit could move the ref from the newest version to this one."""
    ahead = locator.sequence - int(newest.version.partition("-")[0])
    if ahead:
        return ahead > 0
    try:  # that of a workspace whose last answer was lost, and not that of who lost a race
        return load_record(store, locator).writer == newest.writer
    except (DamageError, VersionNotFoundError, NewerFormatError, ObjectTooLargeError):
        return False


def delete_volume(store: ObjectStore, volume: VolumeEntry, *, force: bool = False, tell: Tell | None = None) -> int:
    """Delete a volume: its refs, all its records, its lease. Returns how many records. Forks of it are not touched.

    Its lease is taken first, so nobody writes to it meanwhile, and whoever does so now is not cut off: that is a
    `VolumeBusyError`. A holder that may be dead is watched, as by a mount; ``tell`` hears of it. ``force``: whoever
    holds it; their commits fail from now on.
    """
    if force:
        deleted = _delete_contents(store, volume)
    else:
        seconds = lease_seconds() or _SECONDS
        lease = Lease(
            store, volume.name, volume.id, uuid.uuid4().hex, seconds=seconds, user=author(), fresh=False
        )  # fmt: skip
        deleted = _holding(LeaseKeeper(lease, tell or LeaseWait(volume.name)), lambda: _delete_contents(store, volume))
    store.delete(lease_key(volume.name, volume.id))
    return deleted


def _holding(keeper: LeaseKeeper, work: Callable[[], int]) -> int:
    keeper.start()
    release = True
    try:
        keeper.wait()
        done = work()
        release = False  # it is about to be deleted, and must not come back
    except VolumeBusyError as error:
        error.hint = "end it there, or wait until it ends; `flytevol delete --force` (force=True) does not ask"
        raise
    finally:
        keeper.close(_RELEASE_SECONDS, release=release)
    return done


def _delete_contents(store: ObjectStore, volume: VolumeEntry) -> int:
    for key in [info.key for info in store.list(f"{volume.prefix}/refs/")]:  # whatever they say
        store.delete(key)
    versions = list_versions(store, volume)
    for locator in reversed(versions):
        _delete_record(store, locator)
    return len(versions)


def _delete_record(store: ObjectStore, locator: Locator) -> bool:
    try:
        if not keep_copy(store, locator):
            return False
    except ObjectTooLargeError:  # nothing can be named by it
        pass
    store.delete(locator.key)
    return True
