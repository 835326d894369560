"""A volume in a store of its own, whose versions tests copy to the store of their world."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

from flyteplugins_vol.errors import VolumeError
from flyteplugins_vol.history.copying import CopyOutcome, copy_version
from flyteplugins_vol.history.record import VersionRecord
from flyteplugins_vol.history.volumes import VolumeEntry, head
from flyteplugins_vol.store.base import ObjectStore
from flyteplugins_vol.store.faulty import Faulty
from flyteplugins_vol.store.memory import MemoryStore
from tests.driven import Driven
from tests.history.world import World


class Origin:
    """A volume in a store of its own. Copies go to ``world.store``, which collections and time pass over."""

    def __init__(self, world: World, **spec: Any) -> None:
        self.world = world
        self.store = Faulty(MemoryStore(f"memory://{uuid4().hex}"))
        self.directory = world.root / uuid4().hex[:8]
        self.directory.mkdir()
        self.volume = Driven.new(self.directory, self.store, cache_dir=str(world.root / "cache"), **spec)

    def commit(self, message: str, files: int = 1) -> VersionRecord:
        """A version with other bytes in so many of its files."""
        for number in range(files):
            self.world.write(self.volume, b"%d" % number)
        return self.volume.commit(message)

    def copy(self, record: VersionRecord, target: ObjectStore | None = None, **options: Any) -> CopyOutcome:
        target = target or self.world.store
        return copy_version(self.store, target, record.locator, scratch=str(self.world.root), **options)

    @property
    def entry(self) -> VolumeEntry:
        """The volume as the target has it."""
        return VolumeEntry(self.world.store.url, self.volume.spec.volume_name, self.volume.spec.volume_id)

    def objects(self, prefix: str = "") -> set[str]:
        return {info.key for info in self.store.inner.list(prefix)}

    def newest(self) -> str | None:
        found = head(self.world.store, self.entry)
        return found.file if found is not None else None

    def writer(self, **spec: Any) -> Driven:
        """Somebody who writes to the copy."""
        newest = head(self.world.store, self.entry)
        assert newest is not None
        return self.world.open(volume_id=self.entry.id, base=str(newest), **spec)


def data(world: World) -> dict[str, bytes]:
    return world.store.contents()[0]


def bytes_of(store: ObjectStore, keys: set[str]) -> dict[str, bytes | None]:
    return {key: store.get(key) for key in keys}


def around(world: World, contents: Any, work: Any, other: Any) -> Iterator[tuple[int, bool, VolumeError | None]]:
    """Do the one, with the other at each of its calls, before or after it; yields the call and how the one ended."""
    now = world.store.now
    for after in (False, True):
        for call in range(1, 400):
            world.store.put_back(contents)
            world.store.now = now
            start = world.store.calls
            ran: list[bool] = []

            def run(ran: list[bool] = ran) -> None:
                ran.append(True)
                other()

            world.store.interrupt(call, run, after=after)
            error: VolumeError | None = None
            try:
                work()
            except VolumeError as caught:
                error = caught
            world.store.restart()
            if not ran:
                assert world.store.calls - start < call
                break
            yield call, after, error
        else:
            raise AssertionError("it never ends")
