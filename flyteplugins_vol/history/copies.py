"""Copies of version records that are deleted: what they name lives on for a week, for those who may build on it."""

from __future__ import annotations

from blake3 import blake3

from flyteplugins_vol.errors import ConflictError, RecordDamagedError
from flyteplugins_vol.history.record import Locator, VersionRecord, decode_record, volume_prefix
from flyteplugins_vol.store.base import ObjectStore

_TRIES = 5


def copy_key(locator: Locator) -> str:
    """Key of the copy that is kept of a record when it is deleted."""
    return f"{volume_prefix(locator.volume_name, locator.volume_id)}/deleted/{locator.file}"


def keep_copy(store: ObjectStore, locator: Locator) -> bool:
    """Copy a record, which is to be deleted within the hour. False: there is no such record.

    A copy of an earlier try is written anew, since its age counts, and is never missing meanwhile: another deleter may
    be at work. Raises `ConflictError`, `StoreError`.
    """
    for _ in range(_TRIES):
        data = store.get(locator.key)
        if data is None:
            return False
        there = store.get_tagged(copy_key(locator))
        if there is not None and there.data == data:
            data += b"\n"  # other bytes, or it might stay as old as it is
        if store.replace(copy_key(locator), data, there.tag if there is not None else None) is not None:
            return True
    raise ConflictError(f"others are deleting {locator} at the same time", hint="try again")


def read_copy(store: ObjectStore, locator: Locator) -> VersionRecord | None:
    """The copy of a deleted record; None if there is none. Raises `RecordDamagedError`, `NewerFormatError`."""
    data = store.get(copy_key(locator))
    if data is None:
        return None
    data = data.rstrip(b"\n")
    if blake3(data).hexdigest()[: len(locator.hash)] != locator.hash:
        raise RecordDamagedError(
            f"the copy of the deleted record {locator} was altered: it does not match its name",
            hint="it does no harm a week after it was written; or delete the object, if nobody builds on that version",
        )
    return decode_record(data, locator.store_url)
