"""The volumes of a store and the versions of a volume: list, find, follow back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from flyteplugins_vol.errors import ObjectMissingError, VersionNotFoundError
from flyteplugins_vol.history.record import Locator, VersionRecord, load_record, parse_locator, volume_prefix
from flyteplugins_vol.history.refs import MAIN, Ref, read_ref, ref_key
from flyteplugins_vol.store.base import ObjectStore

_DIRECTORY = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]{0,62})-(?P<id>[0-9a-f]{16})")


@dataclass(frozen=True)
class VolumeEntry:
    """One volume of a store. ``str()`` of it names it and no other."""

    store_url: str
    name: str
    id: str

    @property
    def prefix(self) -> str:
        return volume_prefix(self.name, self.id)

    def __str__(self) -> str:
        return f"{self.name}-{self.id}"


def list_volumes(store: ObjectStore) -> list[VolumeEntry]:
    """Every volume that has a version, by name."""
    found = [volume for volume in _directories(store) if _has_versions(store, volume)]
    return sorted(found, key=lambda volume: (volume.name, volume.id))


def find_volumes(store: ObjectStore, text: str) -> list[VolumeEntry]:
    """The volumes that a text may mean: those of this name, or the one of this name and id."""
    found = [volume for volume in _directories(store) if text in (volume.name, str(volume))]
    return [volume for volume in found if _has_versions(store, volume)]


def list_versions(store: ObjectStore, volume: VolumeEntry) -> list[Locator]:
    """Versions that are in the store, the oldest first; also those that lost a race and that no ref leads to."""
    prefix = f"{volume.prefix}/versions/"
    keys = (info.key.removeprefix(prefix) for info in store.list(prefix))
    found = [Locator(store.url, volume.name, volume.id, file) for file in keys if _is_record(store.url, volume, file)]
    return sorted(found, key=lambda locator: (int(locator.file.partition("-")[0]), locator.file))


def list_refs(store: ObjectStore, volume: VolumeEntry) -> dict[str, Ref]:
    """Refs by name."""
    prefix = f"{volume.prefix}/refs/"
    names = [info.key.removeprefix(prefix).removesuffix(".json") for info in store.list(prefix)]
    found = {name: read_ref(store, ref_key(volume.name, volume.id, name)) for name in names if "/" not in name}
    return {name: ref for name, ref in found.items() if ref is not None}


def head(store: ObjectStore, volume: VolumeEntry, ref: str = MAIN) -> Locator | None:
    """The version that a ref names; None if there is no such ref."""
    found = read_ref(store, ref_key(volume.name, volume.id, ref))
    return Locator(store.url, volume.name, volume.id, found.version) if found is not None else None


def follow_back(store: ObjectStore, record: VersionRecord) -> Iterator[VersionRecord]:
    """The record, its first parent, and so on, also into the volumes that it was forked from.

    Goes on with `older` where a parent was deleted, and ends without an error where it is in another store. One GET for
    each, and a listing of each volume in which one is gone.
    """
    listed: dict[str, list[Locator]] = {}
    records = [record]
    while records:
        yield from records
        records = _before(store, records[0], listed)


def older(versions: Iterable[Locator], gone: Locator) -> list[Locator]:
    """Of these versions of its volume, what is taken for the parent of one that is gone: the next by its number.

    With its record it went who led to it. Two, where one of them lost a race and nothing says which.
    """
    below = [locator for locator in versions if locator.sequence < gone.sequence]
    newest = max((locator.sequence for locator in below), default=0)
    return [locator for locator in below if locator.sequence == newest]


def _before(store: ObjectStore, record: VersionRecord, listed: dict[str, list[Locator]]) -> list[VersionRecord]:
    wanted = [parse_locator(parent) for parent in record.parents[:1]]
    while wanted and wanted[0].store_url == store.url:
        found = [read for locator in wanted if (read := _read(store, locator)) is not None]
        if found:
            return sorted(found, key=lambda read: read.created, reverse=True)
        volume = VolumeEntry(store.url, wanted[0].volume_name, wanted[0].volume_id)
        if str(volume) not in listed:
            listed[str(volume)] = list_versions(store, volume)
        wanted = older(listed[str(volume)], wanted[0])
    return []


def _read(store: ObjectStore, locator: Locator) -> VersionRecord | None:
    try:
        return load_record(store, locator)
    except (VersionNotFoundError, ObjectMissingError):
        return None


def _directories(store: ObjectStore) -> list[VolumeEntry]:
    found = (_DIRECTORY.fullmatch(directory) for directory in store.list_dirs("volumes/"))
    return sorted((VolumeEntry(store.url, m["name"], m["id"]) for m in found if m), key=str)


def _has_versions(store: ObjectStore, volume: VolumeEntry) -> bool:
    """Whether anything but copies of deleted records is left of it."""
    return next(iter(store.list(f"{volume.prefix}/versions/")), None) is not None


def _is_record(store_url: str, volume: VolumeEntry, file: str) -> bool:
    try:
        return parse_locator(f"{store_url}/{volume.prefix}/versions/{file}").file == file
    except ValueError:
        return False
