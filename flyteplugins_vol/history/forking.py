"""The first version of a fork to which nothing was written: a record with its parent's index, and a ref.

No index is brought here, and no workspace is made, so it costs the same whatever the volume holds.
"""

from __future__ import annotations

import uuid
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timezone

from flyteplugins_vol.config import StoreOptions
from flyteplugins_vol.errors import CommitError, StoreError
from flyteplugins_vol.history.announcing import Found, announce
from flyteplugins_vol.history.record import VersionRecord, check_message, load_record, parse_locator
from flyteplugins_vol.history.refs import move_ref, read_ref, ref_key
from flyteplugins_vol.history.survival import Survival
from flyteplugins_vol.model import MountSpec
from flyteplugins_vol.store.base import ObjectStore
from flyteplugins_vol.store.open import open_store

_NONE_NEW = {"new_pack_bytes": 0, "new_index_bytes": 0}


def publish_fork(spec: MountSpec, message: str | None) -> VersionRecord | None:
    """Publish what the spec's base holds as the first version of another volume. Blocks. Raises `VolumeError`.

    None, and nothing published, where it takes a workspace: the volume has other versions already, or garbage was
    collected that the base needs.
    """
    assert spec.base is not None
    check_message(message)
    store = open_store(spec.store_url, StoreOptions.from_wire(spec.store_options))
    try:
        base = load_record(store, parse_locator(spec.base))
        base.check_writable()
        record = replace(
            base,
            volume_name=spec.volume_name,
            volume_id=spec.volume_id,
            sequence=1,
            parents=(str(base.locator),),
            created=datetime.now(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            message=message,
            author=spec.author,
            produced_by=spec.produced_by,
            stats={**base.stats, **_NONE_NEW},
            writer=uuid.uuid4().hex,
            store_url=store.url,
            software="",
        )
        if _named(store, record, base, announce(store, record, _nothing)):
            return record
        return _published_before(store, record)
    finally:
        store.close()


def _nothing() -> None:
    """Of a volume that nobody knows of yet there is no ref."""


def _named(store: ObjectStore, record: VersionRecord, base: VersionRecord, found: Found) -> bool:
    """Let the volume's ref name the record.

    Where that is certainly not to be, the record goes again: nobody knows of it. After any other error the ref may name
    it, or may yet.
    """
    try:
        Survival(store).check(record, base, (), _gone, is_base_there=False, marks=found.marks)
        ref = ref_key(record.volume_name, record.volume_id)
        named = move_ref(store, ref, record.locator.file, record.writer, None) is not None
    except CommitError:
        named = False
    if not named:
        with suppress(StoreError):
            store.delete(record.locator.key)
    return named


def _published_before(store: ObjectStore, record: VersionRecord) -> VersionRecord | None:
    """The volume's version if it is this one in all but time and writer: of an earlier try whose answer was lost."""
    ref = read_ref(store, ref_key(record.volume_name, record.volume_id))
    if ref is None:
        return None
    there = load_record(store, replace(record.locator, file=ref.version))
    same = (there.parents, there.index, there.message) == (record.parents, record.index, record.message)
    return there if same and there.sequence == record.sequence else None


def _gone() -> tuple[str, ...]:
    raise CommitError("the version that the fork begins with was deleted", hint="publish it from a workspace")
