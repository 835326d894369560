"""What the versions of a store refer to, read so that a collection may delete everything else.

Nothing here guesses. What cannot be read, or is not known to this release, is an error, and then nothing is deleted:
a record of a newer format, a damaged index, a key that means nothing to us. Listings are not believed either where
they leave out what a ref or a record names and the store has.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from flyteplugins_vol.errors import (
    DamageError,
    EncryptionKeyError,
    NewerFormatError,
    ObjectMissingError,
    StoreUnavailableError,
    VersionNotFoundError,
    VolumeError,
)
from flyteplugins_vol.history.copies import read_copy
from flyteplugins_vol.history.record import Locator, VersionRecord, load_record, parse_locator
from flyteplugins_vol.history.refs import read_ref
from flyteplugins_vol.history.rolling import RollingIndex
from flyteplugins_vol.index.database import IndexDatabase
from flyteplugins_vol.index.rows import damaged
from flyteplugins_vol.store.base import ObjectStore
from flyteplugins_vol.store.container import INDEX, PACK, object_key
from flyteplugins_vol.store.daemonpool import DaemonPool

_WORKERS = 16
_LOOKS = 3  # at a listing that leaves something out: it may have been written while it was listed
_VOLUME_KEY = re.compile(
    r"volumes/(?P<name>[A-Za-z0-9][A-Za-z0-9._-]{0,62})-(?P<id>[0-9a-f]{16})/"
    r"(?:(?P<kind>versions|deleted)/(?P<file>[0-9]+-[0-9a-f]{40}\.json)|(?P<ref>refs/[^/]+\.json)|lease\.json)"
)
_NOT_KNOWN = ("store.json",)  # keys that are reserved for later releases, whose collections may know better
_UPGRADE = "install a newer release of flyteplugins-vol"

T = TypeVar("T")
S = TypeVar("S")


@dataclass
class Listed:
    """What was found below ``volumes/``: version records, copies of deleted ones with their times, keys of refs."""

    records: set[Locator] = field(default_factory=set[Locator])
    copies: dict[Locator, datetime] = field(default_factory=lambda: {})
    refs: list[str] = field(default_factory=lambda: [])
    newest: datetime | None = None  # time of the last write that was seen


def list_all(store: ObjectStore) -> Listed:
    """Everything below ``volumes/``: two listings, since all records come before any copy of a deleted one.

    Raises `NewerFormatError` for a key that this release does not know, `StoreError`.
    """
    for key in _NOT_KNOWN:
        if store.get_tagged(key) is not None:
            raise _not_known(store, key)
    found = _list_once(store)
    again = _list_once(store)
    found.copies = again.copies
    found.newest = again.newest
    return found


def read_records(
    store: ObjectStore, listed: Listed, known: Mapping[Locator, VersionRecord]
) -> dict[Locator, VersionRecord]:
    """Every record that was listed, with those ``known`` before; and those that are there and the listing left out.

    The latter only where they were written meanwhile: a listing that goes on to leave something out is a
    `StoreUnavailableError`. Of a record that is gone by now it is the copy.
    """
    records = dict(known)
    left_out: list[Locator] = []
    for _ in range(_LOOKS):
        wanted = sorted(listed.records - records.keys(), key=str)
        loaded = in_parallel(lambda locator: _listed(store, locator), wanted)
        records.update(zip(wanted, loaded, strict=True))
        left_out = _left_out(store, listed, records.values())
        if not left_out:
            return records
        again = list_all(store)
        listed.records |= again.records
        listed.copies, listed.refs = again.copies, again.refs
    raise StoreUnavailableError(
        f"listings of {store.url} leave out {left_out[0]}, which is there",
        hint="nothing can be deleted by what such a store lists: look at the proxies and gateways in front of it",
    )


class References:
    """Keys of all containers that the versions refer to that were added. One index file at a time is on local disk."""

    def __init__(self, store: ObjectStore, directory: str) -> None:
        """``directory``: where to keep an index file while it is looked at."""
        self.keys: set[str] = set()
        self._index = RollingIndex(store, directory)

    def add(self, record: VersionRecord) -> None:
        """Add what a version refers to. Brings only what differs from the one before: add neighbours in order."""
        if self._index.show(record.index):
            self.keys.update(object_key(PACK, name) for name, _ in packs_of(self._index.path))
        self.keys.update(object_key(INDEX, item.name) for item in record.index.objects)

    def add_all(self, records: Iterable[VersionRecord]) -> None:
        """Raises what says why one of them cannot be read, and that nothing is deleted therefore."""
        for record in sorted(records, key=lambda one: (one.volume_id, one.sequence, one.locator.file)):
            with_reason(lambda record=record: self.add(record), f"version {record.locator}")


def packs_of(path: str) -> list[tuple[str, int]]:
    """``(name, object size)`` of every pack that a published index names. Raises `IndexDamagedError`."""
    db = IndexDatabase.open(path, read_only=True)
    try:
        rows = db.sql.execute("SELECT name, size FROM pack").fetchall()
        for name, size in rows:
            if not isinstance(name, bytes) or len(name) != 32 or not isinstance(size, int):
                damaged("a pack has no name")
        (strays,) = db.sql.execute("SELECT count(*) FROM block WHERE pack NOT IN (SELECT id FROM pack)").fetchone()
        if strays:
            damaged("a block is in no pack")
        return [(name.hex(), size) for name, size in rows]
    finally:
        db.drop()


def with_reason(read: Callable[[], T], what: str) -> T:
    """What ``read`` returns; its error, where it says that something cannot be read, with what follows from that."""
    try:
        return read()
    except (DamageError, NewerFormatError, ObjectMissingError, EncryptionKeyError) as error:
        error.message = f"nothing was deleted, since {what} cannot be read: {error.message}"
        if isinstance(error, (DamageError, ObjectMissingError)):
            error.hint = "restore what is damaged, or delete that version, and collect again"
        raise


def in_parallel(call: Callable[[T], S], items: Iterable[T]) -> list[S]:
    """``call`` of each item, in order, by several threads; the first error is raised."""
    with DaemonPool(_WORKERS, "look") as pool:
        return [job.result() for job in [pool.submit(call, item) for item in items]]


def _list_once(store: ObjectStore) -> Listed:
    found = Listed()
    for info in store.list("volumes/"):
        at = _VOLUME_KEY.fullmatch(info.key)
        if at is None:
            raise _not_known(store, info.key)
        found.newest = info.modified if found.newest is None else max(found.newest, info.modified)
        if at["file"] is None:
            if at["ref"] is not None:
                found.refs.append(info.key)
            continue
        locator = Locator(store.url, at["name"], at["id"], at["file"])
        _check_locator(store, info.key, locator)
        if at["kind"] == "versions":
            found.records.add(locator)
        else:
            found.copies[locator] = info.modified
    return found


def _check_locator(store: ObjectStore, key: str, locator: Locator) -> None:
    try:
        parse_locator(str(locator))
    except VolumeError as error:
        raise _not_known(store, key) from error


def _not_known(store: ObjectStore, key: str) -> NewerFormatError:
    return NewerFormatError(
        f"nothing was deleted, since {store.url}/{key} is nothing that this release knows", hint=f"{_UPGRADE}, or "
        "remove that object if it is none of a volume's",
    )  # fmt: skip


def _listed(store: ObjectStore, locator: Locator) -> VersionRecord:
    """A record that was there when it was listed: by now perhaps only its copy, which was written after the listing."""
    try:
        return with_reason(lambda: load_record(store, locator), f"version {locator}")
    except VersionNotFoundError:
        copy = with_reason(lambda: read_copy(store, locator), f"the copy of version {locator}")
        if copy is None:
            raise vanished(store, locator) from None
        return copy


def vanished(store: ObjectStore, locator: Locator) -> StoreUnavailableError:
    """The error for a record that is gone without a trace."""
    return StoreUnavailableError(
        f"nothing was deleted: version {locator} was listed, and now neither it nor a copy of it is there",
        hint="if it was deleted by hand, or listings are late, try again in an hour",
    )


def _left_out(store: ObjectStore, listed: Listed, records: Iterable[VersionRecord]) -> list[Locator]:
    """Versions that refs and records name, that were not listed, and that are there."""
    named = set(_parents(store, records))
    for locator in in_parallel(lambda key: _named_by(store, key), listed.refs):
        if locator is not None:
            named.add(locator)
    missing = sorted(named - listed.records, key=str)
    there = in_parallel(lambda locator: store.get_tagged(locator.key) is not None, missing)
    return [locator for locator, is_there in zip(missing, there, strict=True) if is_there]


def _parents(store: ObjectStore, records: Iterable[VersionRecord]) -> Iterator[Locator]:
    for record in records:
        for parent in map(parse_locator, record.parents):
            if parent.store_url == store.url:
                yield parent


def _named_by(store: ObjectStore, key: str) -> Locator | None:
    ref = with_reason(lambda: read_ref(store, key), key)
    if ref is None:
        return None
    at = _VOLUME_KEY.fullmatch(key)
    assert at is not None
    return Locator(store.url, at["name"], at["id"], ref.version)
