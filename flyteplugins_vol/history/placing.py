"""Where a copied version goes in the other store: what its volume is there, and whether it becomes the newest.

Copied as it is, it stays a version of its volume, which the other store has as well from then on. Its ref ``main`` goes
to the version if what it names is one that the version came from; it never goes back, and where somebody has committed
there, or the volumes have gone different ways otherwise, nothing is moved at all.

Who came from whom is said by the records' parents. Some of them may have been pruned on both sides; then it counts that
the ref was put by an earlier copy from the same store: commits put refs under names of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from blake3 import blake3

from flyteplugins_vol.errors import DivergedError, TagExistsError, VersionNotFoundError, VolumeExistsError
from flyteplugins_vol.history.record import (
    Locator,
    VersionRecord,
    check_name,
    decode_record,
    load_record,
    parse_locator,
)
from flyteplugins_vol.history.refs import Ref, read_ref, ref_key
from flyteplugins_vol.history.roots import in_parallel
from flyteplugins_vol.history.tags import list_tags
from flyteplugins_vol.history.volumes import VolumeEntry, find_volumes, list_refs, list_versions
from flyteplugins_vol.store.base import ObjectStore


@dataclass(frozen=True)
class Place:
    """Records are as they are, or are to be, in the other store. ``version`` is the last of ``wanted``.

    ``ref``: what ``main`` is there now, and ``base`` the version that it names. ``moves``: whether it is to name
    ``version``. ``tags``: the versions that tags are to name. ``origin``: the record as it is in the source.
    """

    volume: VolumeEntry
    origin: VersionRecord
    version: VersionRecord
    wanted: tuple[VersionRecord, ...]
    ref: Ref | None
    base: VersionRecord | None
    moves: bool
    tags: Mapping[str, Locator] = field(default_factory=dict[str, Locator])
    force: bool = False


def place_copy(
    source: ObjectStore, target: ObjectStore, record: VersionRecord, *, history: bool, force: bool
) -> Place:  # fmt: skip
    """The place of a version that is copied as it is.

    Raises `DivergedError`, `VolumeExistsError`, `TagExistsError`, and what reading raises.
    """
    volume = VolumeEntry(target.url, record.volume_name, record.volume_id)
    ref, base = _newest(target, volume)
    moves = _becomes_newest(source, target, record, ref, base)
    others = _older(source, record) if history else []
    wanted = [decode_record(one.encode(), target.url) for one in [*others, record]]
    tags: dict[str, Locator] = {}
    if history:
        tags = _tags(source, target, volume, {one.locator.file for one in wanted}, force=force)
    return Place(volume, record, wanted[-1], tuple(wanted), ref, base, moves, tags, force)


def place_named(source: ObjectStore, target: ObjectStore, record: VersionRecord, name: str) -> Place:
    """The place of a version that becomes one of a volume with another name: its own, as a fork's is.

    Its id follows from where it comes from, so that a later copy, or a second try of this one, finds it. Raises as
    `place_copy`, and `VolumeNameError`.
    """
    record.check_writable()
    mark = f"{source.url}\0{record.volume_id}\0{target.url}\0{check_name(name)}"
    volume = VolumeEntry(target.url, name, blake3(mark.encode()).hexdigest()[:16])
    ref, base = _newest(target, volume)
    if base is not None and str(record.locator) in base.parents:
        return Place(volume, record, base, (base,), ref, base, moves=False)
    if base is not None and not _continues(source, base, record):
        raise DivergedError(
            f"volume {volume} in {target.url} is no copy of an earlier version of {record.volume_name}: its newest "
            f"version is {base.locator.file.removesuffix('.json')}",
            hint="choose another name; what is there stays as it is",
        )
    made = replace(
        record,
        volume_name=volume.name,
        volume_id=volume.id,
        sequence=base.sequence + 1 if base is not None else 1,
        parents=(*([str(base.locator)] if base is not None else []), str(record.locator)),
        writer=copier(source.url, record.volume_id),
        store_url=target.url,
        software="",
    )
    version = decode_record(made.encode(), target.url)
    return Place(volume, record, version, (version,), ref, base, moves=True)


def copier(source_url: str, volume_id: str) -> str:
    """Who puts refs for copies of this volume out of this store: the same each time, and no workspace."""
    return blake3(f"copy\0{source_url}\0{volume_id}".encode()).hexdigest()[:32]


def _newest(target: ObjectStore, volume: VolumeEntry) -> tuple[Ref | None, VersionRecord | None]:
    ref = read_ref(target, ref_key(volume.name, volume.id))
    if ref is not None:
        return ref, load_record(target, Locator(target.url, volume.name, volume.id, ref.version))
    other = next((one for one in find_volumes(target, volume.name) if one.id != volume.id), None)
    if other is not None:
        raise VolumeExistsError(
            f"there is another volume {volume.name!r} in {target.url}: {other}",
            hint="copy under another name (--name, name=)",
        )
    return None, None


def _becomes_newest(
    source: ObjectStore, target: ObjectStore, record: VersionRecord, ref: Ref | None, base: VersionRecord | None
) -> bool:
    if ref is None or base is None:
        return True
    file = record.locator.file
    if ref.version == file:
        return False
    is_ahead = record.sequence > base.sequence
    if is_ahead:
        follows = _came_from(record, ref.version, (source, target))
    else:
        follows = _came_from(base, file, (target, source))
    if follows or (follows is None and ref.writer == copier(source.url, record.volume_id)):
        return is_ahead
    raise DivergedError(
        f"volume {record.volume_name} in {target.url} has gone on by itself: its newest version, {_short(base)}, and "
        f"{_short(record)} "
        + ("do not follow each other" if follows is False else "cannot be told to follow each other"),
        hint="copy under another name (--name, name=); nothing there was changed",
    )


def _short(record: VersionRecord) -> str:
    return f"{record.volume_name}@{record.sequence} ({record.locator.hash[:10]})"


def _continues(source: ObjectStore, base: VersionRecord, record: VersionRecord) -> bool:
    """Whether a copy under another name is of a version that the record came from."""
    for parent in map(parse_locator, base.parents):
        if (parent.store_url, parent.volume_id) == (source.url, record.volume_id):
            if parent.sequence >= record.sequence:
                return False
            follows = _came_from(record, parent.file, (source,))
            return base.writer == copier(source.url, record.volume_id) if follows is None else follows
    return False


def _came_from(record: VersionRecord, file: str, stores: Sequence[ObjectStore]) -> bool | None:
    """Whether a version's first parents lead to the one of this file name, of the same volume; None: not known.

    One GET for each version between the two.
    """
    sequence = int(file.partition("-")[0])
    while True:
        parent = parse_locator(record.parents[0]) if record.parents else None
        if parent is None or parent.volume_id != record.volume_id or parent.sequence < sequence:
            return False
        if parent.sequence == sequence:
            return parent.file == file
        found = _find(stores, parent)
        if found is None:
            return None
        record = found


def _find(stores: Sequence[ObjectStore], locator: Locator) -> VersionRecord | None:
    for store in stores:
        try:
            return load_record(store, replace(locator, store_url=store.url))
        except VersionNotFoundError:
            pass
    return None


def _older(source: ObjectStore, record: VersionRecord) -> list[VersionRecord]:
    """All versions of its volume that are not newer, the oldest first; also those that lost a race."""
    volume = VolumeEntry(source.url, record.volume_name, record.volume_id)
    listed = list_versions(source, volume)
    wanted = [one for one in listed if one.sequence <= record.sequence and one != record.locator]
    found = in_parallel(lambda locator: _find((source,), locator), wanted)
    return [one for one in found if one is not None]  # else it was deleted meanwhile


def _tags(
    source: ObjectStore, target: ObjectStore, volume: VolumeEntry, files: set[str], *, force: bool
) -> dict[str, Locator]:  # fmt: skip
    """Tags of the source that name one of these versions, as they are to be in the target."""
    there = list_refs(target, volume)
    found: dict[str, Locator] = {}
    for name, locator in list_tags(source, replace(volume, store_url=source.url)).items():
        if locator.file not in files:
            continue
        if name in there and there[name].version != locator.file and not force:
            raise TagExistsError(
                f"tag {name!r} of volume {volume} in {target.url} names another version, "
                f"{there[name].version.removesuffix('.json')}",
                hint="let it name the same as here with --force (force=True)",
            )
        found[name] = replace(locator, store_url=target.url)
    return found
