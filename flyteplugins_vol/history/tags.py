"""Tags: refs that people give to versions. Whatever has one is not pruned, and no commit moves it.

A tag may be given to any version at any moment, also to one that is being deleted. Whoever gives one puts the ref and
then looks for the record; whoever deletes a version deletes its record and then looks at the refs. So one of the two
sees the other: who deletes brings the record back, who tags takes the ref back. docs/FORMAT.md, sections 5 and 8.
"""

from __future__ import annotations

import uuid

from flyteplugins_vol.errors import ConflictError, TagExistsError, UsageError, VersionNotFoundError
from flyteplugins_vol.history.record import Locator, load_record
from flyteplugins_vol.history.refs import MAIN, Ref, move_ref, ref_key
from flyteplugins_vol.history.volumes import VolumeEntry, list_refs
from flyteplugins_vol.store.base import ObjectStore


def list_tags(store: ObjectStore, volume: VolumeEntry) -> dict[str, Locator]:
    """The versions that tags of a volume name, by tag, in order. A listing, and one GET for each ref."""
    refs = list_refs(store, volume)
    return {name: _at(store, volume, ref) for name, ref in sorted(refs.items()) if name != MAIN}


def set_tag(store: ObjectStore, locator: Locator, name: str, *, force: bool = False) -> None:
    """Let the tag name this version. One that does already is left as it is.

    Raises `TagExistsError` if it names another (and not ``force``), `UsageError` for a name that no tag can have,
    `VersionNotFoundError`, also if the version is deleted meanwhile, `ConflictError`, `StoreError`.
    """
    volume = VolumeEntry(store.url, locator.volume_name, locator.volume_id)
    key = _key(volume, name)
    load_record(store, locator)
    refs = list_refs(store, volume)
    there = refs.get(name)
    if there is not None and there.version == locator.file:
        return
    if there is not None and not force:
        raise TagExistsError(
            f"tag {name!r} of volume {volume} names version {there.version.removesuffix('.json')} already",
            hint="choose another name, or let it name this version with --force (force=True)",
        )
    if other := next((one for one in refs if one != name and one.lower() == name.lower()), None):
        raise UsageError(
            f"volume {volume} has a ref {other!r}, which differs in case only",
            hint="choose another name: some stores and disks take the two for one",
        )
    fence = there.fence if there is not None else 0
    tag = move_ref(store, key, locator.file, uuid.uuid4().hex, there.tag if there is not None else None, fence)
    if tag is None:
        raise ConflictError(
            f"somebody else gave, moved or deleted tag {name!r} of volume {volume} in the same moment",
            hint="flytevol tag --list shows what it names now",
        )
    if store.get(locator.key) is None:
        take_back(store, volume, key, there, tag)
        raise VersionNotFoundError(
            f"version {locator} was deleted while it was given the tag {name!r}",
            hint="the tag was taken back; tag another version",
        )


def delete_tag(store: ObjectStore, volume: VolumeEntry, name: str) -> None:
    """Delete a tag, whatever it says, and not what it names.

    Raises `VersionNotFoundError` if there is none, `UsageError`, `StoreError`.
    """
    key = _key(volume, name)
    if store.get_tagged(key) is None:
        raise VersionNotFoundError(
            f"volume {volume} has no tag {name!r}", hint=f"flytevol tag --list {volume.name} shows its tags"
        )
    store.delete(key)


def take_back(store: ObjectStore, volume: VolumeEntry, key: str, before: Ref | None, tag: str) -> None:
    """Let the ref be what it was, if it still is what we wrote and that version was not deleted meanwhile as well."""
    now: str | None = tag
    if before is not None:
        now = move_ref(store, key, before.version, before.writer, tag, before.fence)
        if now is None or store.get(_at(store, volume, before).key) is not None:
            return
    found = store.get_tagged(key)
    if found is not None and found.tag == now:  # no store deletes on a condition: who moves it right now, loses that
        store.delete(key)


def _key(volume: VolumeEntry, name: str) -> str:
    if name == MAIN:
        raise UsageError(f"{MAIN!r} is no tag: it follows the newest version", hint="choose another name")
    if name.isdecimal():
        raise UsageError(
            f"a tag cannot be {name!r}: {volume.name}@{name} is a version by its number", hint=f"try v{name}"
        )
    try:
        return ref_key(volume.name, volume.id, name)
    except UsageError as error:
        raise UsageError(f"{name!r} cannot be a tag", hint=error.hint) from None


def _at(store: ObjectStore, volume: VolumeEntry, ref: Ref) -> Locator:
    return Locator(store.url, volume.name, volume.id, ref.version)
