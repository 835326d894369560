"""How much space the versions of a volume take, and what would be free without one of them: by their indexes alone.

Packs are shared by versions and by forks, which are volumes of their own, and a fork of a fork that is gone looks like
a stranger. So every version of the store is looked at, as a collection does; of what shares no pack, only its packs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from flyteplugins_vol.errors import DamageError, ObjectMissingError, VersionNotFoundError
from flyteplugins_vol.history.record import Locator, VersionRecord, load_record
from flyteplugins_vol.history.rolling import RollingIndex
from flyteplugins_vol.history.roots import in_parallel
from flyteplugins_vol.history.volumes import VolumeEntry, list_versions, list_volumes
from flyteplugins_vol.index.space import Alone, Counted, Ledger
from flyteplugins_vol.store.base import ObjectStore

Progress = Callable[[Mapping[str, Any]], None]

_NOTHING = Alone(0, 0)


@dataclass(frozen=True)
class VersionSpace:
    """Bytes of one version.

    ``bytes``: its files, as programs see them. ``stored``: the packs and index objects that it refers to, before any
    encryption. ``exclusive``: blocks in these packs that no other version has. ``freed``: packs and index objects that
    no other version refers to, which a collection would delete some time after the version itself is deleted; a pack
    stays as long as one of its blocks is needed.
    """

    locator: Locator
    created: str
    message: str | None
    files: int
    bytes: int
    stored: int
    exclusive: int
    freed: int


@dataclass(frozen=True)
class Space:
    """The space of a volume: that of its versions, the oldest first, and of all of them together, in the same words."""

    versions: tuple[VersionSpace, ...]
    stored: int
    exclusive: int
    freed: int


def measure(
    store: ObjectStore, volume: VolumeEntry, *, scratch: str | None = None, progress: Progress | None = None
) -> Space:
    """Look at every version of the store. Blocks. ``scratch``: a directory with room for the largest index.

    Raises `DamageError`, `NewerFormatError`, `EncryptionKeyError`, `StoreError` where a version cannot be read.
    """
    ours = _records(store, volume)
    others = [one for one in list_volumes(store) if one != volume]
    done, total = 0, len(ours) + len(others)
    with tempfile.TemporaryDirectory(dir=scratch, prefix="space-") as directory:
        ledger, index = Ledger(), RollingIndex(store, directory)
        try:
            counted: list[Counted] = []
            for number, record in enumerate(ours, 1):
                with _named(record):
                    index.show(record.index)
                    counted.append(ledger.enter(number, index.path, _objects(record)))
                done += 1
                _tell(progress, done, total)
            for other in others if ours else ():
                for record in _records(store, other):
                    with _named(record):
                        index.show(record.index)
                        ledger.share(index.path, _objects(record))
                done += 1
                _tell(progress, done, total)
            alone = ledger.alone()
            versions = [
                _version(record, sizes, alone.get(number, _NOTHING))
                for number, (record, sizes) in enumerate(zip(ours, counted, strict=True), 1)
            ]
            return Space(tuple(versions), ledger.stored(), alone[0].blocks, alone[0].containers)
        finally:
            ledger.close()


def _records(store: ObjectStore, volume: VolumeEntry) -> list[VersionRecord]:
    """Of all versions that are there, the oldest first."""
    found = in_parallel(lambda locator: _record(store, locator), list_versions(store, volume))
    return [record for record in found if record is not None]


def _record(store: ObjectStore, locator: Locator) -> VersionRecord | None:
    try:
        return load_record(store, locator)
    except VersionNotFoundError:  # it was deleted meanwhile
        return None


@contextmanager
def _named(record: VersionRecord) -> Generator[None, None, None]:
    """Errors say which version they are about: with many, nobody could tell."""
    try:
        yield
    except (DamageError, ObjectMissingError) as error:
        error.message = f"version {record.locator} cannot be read: {error.message}"
        raise


def _objects(record: VersionRecord) -> Iterator[tuple[bytes, int]]:
    return ((bytes.fromhex(item.name), item.size) for item in record.index.objects)


def _version(record: VersionRecord, sizes: Counted, alone: Alone) -> VersionSpace:
    stored = sizes.packs + sum(item.size for item in record.index.objects)
    return VersionSpace(
        record.locator, record.created, record.message, sizes.files, sizes.bytes, stored, alone.blocks, alone.containers
    )


def _tell(progress: Progress | None, done: int, total: int) -> None:
    if progress is not None:
        progress({"phase": "looking", "done": done, "total": total})
