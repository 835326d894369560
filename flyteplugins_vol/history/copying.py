"""Copies of versions in another store: containers as they are, then the records, then the refs.

A version's record names its containers, and these name their content, by hashes; nothing but a record's parents holds
a URL. So a copy is the same bytes: a version there has the same name as here, of the same volume, and only what
precedes it in the locator differs. `placing` says which version becomes the newest there, and of a copy under another
name what its record says instead.

The order is that of every writer. What is new here is that a copy gives names that the other store may have seen
before, and relies on what lies there by chance. A collection that is under way may have found just that dead. So once
the records are there the marks are read: what any list in force names may be deleted yet, and then the records go
again. docs/FORMAT.md, section 8, has the rule, docs/design/0004-collecting-garbage.md the reason.
"""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from flyteplugins_vol.config import author, lease_seconds
from flyteplugins_vol.errors import (
    CollectedError,
    ConflictError,
    DamageError,
    ObjectMissingError,
    RecordDamagedError,
    RefMovedError,
    StoreError,
    UsageError,
    VolumeBusyError,
)
from flyteplugins_vol.history.carrying import Item, carry, find_missing
from flyteplugins_vol.history.collect import Tally
from flyteplugins_vol.history.lease import Lease, LeaseKeeper
from flyteplugins_vol.history.lease_wait import LeaseWait
from flyteplugins_vol.history.marks import Marks, read_all_marked, read_marks
from flyteplugins_vol.history.placing import Place, copier, place_copy, place_named
from flyteplugins_vol.history.record import Locator, VersionRecord, load_record
from flyteplugins_vol.history.refs import move_ref, read_ref, ref_key
from flyteplugins_vol.history.rolling import RollingIndex
from flyteplugins_vol.history.roots import in_parallel, packs_of
from flyteplugins_vol.history.tags import set_tag, take_back
from flyteplugins_vol.history.volumes import list_refs, list_versions
from flyteplugins_vol.store.base import ObjectStore
from flyteplugins_vol.store.container import INDEX, MAX_OBJECT, PACK, TRAILER_SIZE

Progress = Callable[[Mapping[str, Any]], None]

_SECONDS = 30.0  # for which the lease is taken where mounts take none: others may
_RELEASE_SECONDS = 3.0
_AGAIN = "copy again: what has arrived is not sent a second time"


@dataclass(frozen=True)
class CopyOutcome:
    """What a copy did. ``record`` is the version as it is there now.

    ``copied``, ``skipped``: packs and index objects that were sent, and that were there, with their bytes before any
    encryption. ``versions``: how many were new there. ``tags``: those that are there now. ``moved``: whether the
    version became the newest there.
    """

    record: VersionRecord
    copied: Tally
    skipped: Tally
    versions: int
    tags: tuple[str, ...]
    moved: bool


def copy_version(
    source: ObjectStore, target: ObjectStore, locator: Locator, *, name: str | None = None, history: bool = False,
    force: bool = False, scratch: str | None = None, progress: Progress | None = None,
) -> CopyOutcome:  # fmt: skip
    """Bring a version to another store, so that all of it is there and its volume's ref ``main`` leads to it. Blocks.

    ``name``: another name for the volume there. ``history``: all versions of the volume that are not newer, and the
    tags that name them; ``force``: also tags that name something else there. ``scratch``: a directory with room for two
    of its indexes.

    Raises `UsageError` for a copy into the same store, `VersionNotFoundError`, `DivergedError`, `VolumeExistsError`,
    `TagExistsError`, `VolumeBusyError` for a volume that is written to there, `CollectedError`, other `ConflictError`,
    `DamageError`, `ObjectMissingError`, `NewerFormatError`, `EncryptionKeyError`, `StoreError`.
    """
    if source.url == target.url:
        raise UsageError(
            f"{target.url} is the store that the version is in",
            hint=f"`flytevol fork` (fork()) makes a volume of it there, without copying: {locator}",
        )
    tell = progress or LeaseWait(locator.volume_name)

    def look() -> Place:
        tell({"phase": "looking"})
        record = load_record(source, locator)
        if name is None or name == record.volume_name:
            return place_copy(source, target, record, history=history, force=force)
        if history:
            raise UsageError(
                "a copy under another name is a volume of its own, with one version",
                hint="leave out the name to bring all versions, or leave out the history",
            )
        return place_named(source, target, record, name)

    place = look()
    if not place.moves or place.ref is None:  # a first ref is created without a lease: nobody writes to the volume yet
        return _Copy(source, target, place, scratch, tell).run(lambda: 0)
    seconds = lease_seconds() or _SECONDS
    volume = place.volume
    lease = Lease(target, volume.name, volume.id, uuid.uuid4().hex, seconds=seconds, user=author(), fresh=False)
    keeper = LeaseKeeper(lease, tell)
    keeper.start()
    try:
        keeper.wait()
        ref = read_ref(target, ref_key(volume.name, volume.id))
        if ref is None or ref.tag != place.ref.tag:  # who had the lease before has published, or its fence is new
            place = look()
        return _Copy(source, target, place, scratch, tell).run(keeper.fence)
    except VolumeBusyError as error:
        error.hint = "end that mount, or wait for its end; or copy under another name (--name, name=)"
        raise
    finally:
        keeper.close(_RELEASE_SECONDS)


class _Copy:
    """One copy, once it is known what goes where."""

    def __init__(
        self, source: ObjectStore, target: ObjectStore, place: Place, scratch: str | None, tell: Progress
    ) -> None:  # fmt: skip
        self._source = source
        self._target = target
        self._place = place
        self._scratch = scratch
        self._tell = tell
        self._created: list[VersionRecord] = []

    def run(self, fence: Callable[[], int]) -> CopyOutcome:
        place, target = self._place, self._target
        items, known = self._items()
        unsure = {key: item for key, item in items.items() if key not in known}
        before, marked = read_all_marked(target)
        self._refuse_collected(key for key in unsure if key in marked)
        missing = find_missing(target, unsure.values())
        fence()  # known before much is sent
        carry(self._source, target, missing, self._tell)
        self._tell({"phase": "version"})
        self._create_records()
        self._check_survival(before, items, unsure)
        if place.moves:
            self._move(fence())
        self._set_tags()
        sent = {item.key for item in missing}
        return CopyOutcome(
            record=place.version,
            copied=Tally.of(item.size for item in missing),
            skipped=Tally.of(item.size for key, item in items.items() if key not in sent),
            versions=len(self._created),
            tags=tuple(sorted(place.tags)),
            moved=place.moves,
        )

    def _items(self) -> tuple[dict[str, Item], set[str]]:
        """All containers that the versions need; and the keys of those that the newest version there names.

        While that is there, it is whole: a ref names it. Of any other, its copy may have been stopped half-way.
        """
        items: dict[str, Item] = {}
        known: set[str] = set()
        with tempfile.TemporaryDirectory(dir=self._scratch, prefix="copy-") as directory:
            index = RollingIndex(self._source, directory)
            for record in self._place.wanted:
                found = _containers(record, index, self._source)
                items.update((item.key, item) for item in found)
            base = self._place.base
            if base is not None:
                known = {item.key for item in _containers(base, index, self._target)}
        return items, known

    def _create_records(self) -> None:
        there = set(list_versions(self._target, self._place.volume))
        for record in self._place.wanted:
            if record.locator in there and record is not self._place.version:
                continue
            if not self._target.create(record.locator.key, record.encode()):
                raise RecordDamagedError(
                    f"{record.locator} is there, but is not whole: it has other bytes under its name",
                    hint="delete that object, and copy again",
                )
            if record.locator not in there:
                self._created.append(record)

    def _check_survival(self, before: Marks | None, items: Mapping[str, Item], unsure: Mapping[str, Item]) -> None:
        """The records are there: who begins to collect now spares what they name. See whether somebody began before."""
        marks = read_marks(self._target)
        if marks is None or (before is not None and marks.tag == before.tag):
            return
        base = self._place.base
        if base is not None and self._target.get_tagged(base.locator.key) is None:
            unsure = items  # nothing is known any more of what it named
        _, marked = read_all_marked(self._target)
        lost = [key for key in unsure if key in marked]
        if not lost:
            keys = list(unsure)
            there = in_parallel(lambda key: self._target.get_tail(key, TRAILER_SIZE) is not None, keys)
            lost = [key for key, is_there in zip(keys, there, strict=True) if not is_there]
        if lost:
            self._withdraw()
            self._refuse_collected(lost)

    def _withdraw(self) -> None:
        """Delete the records that are new, unless somebody who copies the same has let a ref name one meanwhile."""
        with suppress(StoreError):
            refs = list_refs(self._target, self._place.volume).values()
            gone = [one for one in self._created if one.locator.file not in {ref.version for ref in refs}]
            for record in reversed(gone):
                self._target.delete(record.locator.key)
            refs = list_refs(self._target, self._place.volume).values()
            for record in gone:
                if record.locator.file in {ref.version for ref in refs}:
                    self._target.create(record.locator.key, record.encode())

    def _refuse_collected(self, keys: Iterable[str]) -> None:
        lost = list(keys)
        if lost:
            raise CollectedError(
                f"{len(lost)} of the objects that this version needs, such as {lost[0]}, were found to be garbage in "
                f"{self._target.url}, and a collection deletes them or has just done so: nothing is published there",
                hint="copy again when `flytevol gc` has deleted what it marked there, a week or two from now; or copy "
                "to another store",
            )

    def _move(self, fence: int) -> None:
        place, target = self._place, self._target
        volume, version = place.volume, place.version.locator
        key = ref_key(volume.name, volume.id)
        before = place.ref
        writer = copier(self._source.url, place.origin.volume_id)
        if before is not None and before.fence > fence:
            raise _overtaken(place)
        tag = move_ref(target, key, version.file, writer, before.tag if before is not None else None, fence)
        if tag is None:
            there = read_ref(target, key)
            if there is None or there.version != version.file:
                raise _overtaken(place)
        elif target.get(version.key) is None:  # another copy of it found something marked, and took it back
            take_back(target, volume, key, before, tag)
            raise ConflictError(f"another copy of {version} was withdrawn in the same moment", hint=_AGAIN)

    def _set_tags(self) -> None:
        for name, locator in self._place.tags.items():
            set_tag(self._target, locator, name, force=self._place.force)


def _containers(record: VersionRecord, index: RollingIndex, store: ObjectStore) -> list[Item]:
    try:
        index.show(record.index, store)
        packs = packs_of(index.path)
    except (DamageError, ObjectMissingError) as error:
        error.message = f"version {record.locator.file} in {store.url} cannot be read: {error.message}"
        raise
    found = [Item(PACK, name, size) for name, size in packs]
    found += [Item(INDEX, item.name, item.size) for item in record.index.objects]
    wrong = next((item for item in found if not TRAILER_SIZE < item.size <= MAX_OBJECT), None)
    if wrong is not None:
        raise DamageError(
            f"version {record.locator.file} in {store.url} names {wrong.key} of {wrong.size} bytes: none has them",
            hint="use another version; `flytevol verify` tells more",
        )
    return found


def _overtaken(place: Place) -> RefMovedError:
    return RefMovedError(
        f"somebody else published to volume {place.volume} in {place.volume.store_url} meanwhile, so this version does "
        "not become its newest",
        hint=_AGAIN,
    )
