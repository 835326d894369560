"""The space of versions, against what their indexes say one by one, and against what deletions really free."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest

from flyteplugins_vol.errors import IndexDamagedError, ObjectMissingError
from flyteplugins_vol.history import space as space_module
from flyteplugins_vol.history.deletion import delete_version, delete_volume
from flyteplugins_vol.history.record import Locator, VersionRecord, load_record
from flyteplugins_vol.history.segments import checkout_segments
from flyteplugins_vol.history.space import Space, measure
from flyteplugins_vol.index.database import IndexDatabase
from flyteplugins_vol.index.index import Index
from flyteplugins_vol.index.space import Alone, Ledger
from flyteplugins_vol.store.container import INDEX, object_key
from tests.driven import Driven
from tests.history.world import World

Blocks = dict[tuple[bytes, int], int]


def space(world: World, volume: Driven) -> Space:
    return measure(world.store, world.entry(volume), scratch=str(world.root))


def containers(world: World) -> int:
    """Bytes of all packs and index objects in the store."""
    keys = world.objects("packs/") | world.objects("index/")
    return sum(len(world.store.inner.get(key) or b"") for key in keys)


def blocks(world: World, locator: Locator) -> tuple[Blocks, int]:
    """Stored bytes of each block of a version, by pack and offset; and bytes of its packs."""
    path = world.root / f"{locator.hash}.db"
    checkout_segments(world.store, load_record(world.store, locator).index, str(path))
    db = IndexDatabase.open(str(path), read_only=True)
    rows = db.sql.execute("SELECT p.name, b.offset, b.stored FROM block b JOIN pack p ON p.id=b.pack").fetchall()
    (packs,) = db.sql.execute("SELECT coalesce(sum(size), 0) FROM pack").fetchone()
    db.drop()
    path.unlink()
    return {(name, offset): stored for name, offset, stored in rows}, packs


def history(world: World, seed: int) -> list[Driven]:
    """Two lines and forks of theirs, with files that come and go; each commit is one or several packs."""
    rng = random.Random(seed)
    volumes = [world.open(volume_name="one"), world.open(volume_name="two")]
    records: list[VersionRecord] = []
    for number in range(14):
        volume = rng.choice(volumes)
        for _ in range(rng.randint(0, 4)):
            world.write(volume, rng.choice((b"a", b"b", b"c", b"d", b"e")), rng.randint(1, 60_000))
        records.append(volume.commit(f"{number}"))
        if len(volumes) < 4 and rng.random() < 0.3:
            volumes.append(world.fork(rng.choice(records), volume_name=f"fork-{number}"))
    return volumes


@pytest.mark.parametrize("seed", range(3))
def test_against_the_indexes_and_against_what_deletions_free(world: World, seed: int) -> None:
    volumes = history(world, seed)
    world.collect_all()
    every = {locator: blocks(world, locator) for locator in world.versions()}
    contents, before = world.store.contents(), containers(world)
    for volume in volumes:
        found = space(world, volume)
        mine = [one.locator for one in found.versions]
        assert mine == [at for at in every if at.volume_id == volume.spec.volume_id]
        foreign: Blocks = {}
        for locator in every.keys() - set(mine):
            foreign.update(every[locator][0])
        together = {place: stored for locator in mine for place, stored in every[locator][0].items()}
        assert found.exclusive == sum(stored for place, stored in together.items() if place not in foreign)
        for one in found.versions:
            record = load_record(world.store, one.locator)
            others = {place for locator in every if locator != one.locator for place in every[locator][0]}
            here, packs = every[one.locator]
            assert one.exclusive == sum(stored for place, stored in here.items() if place not in others)
            assert one.stored == packs + sum(item.size for item in record.index.objects)
            assert (one.files, one.bytes) == (record.stats["files"], record.stats["bytes"])
            assert (one.created, one.message) == (record.created, record.message)
            if one is not found.versions[-1]:
                delete_version(world.store, one.locator)
                world.collect_all()
                assert before - containers(world) == one.freed
                world.store.put_back(contents)
        if mine:
            delete_volume(world.store, world.entry(volume), force=True)
            world.collect_all()
            assert before - containers(world) == found.freed
            world.store.put_back(contents)


def test_what_a_fork_has_is_neither_exclusive_nor_freed(world: World) -> None:
    volume = world.open()
    world.write(volume, b"a", 50_000)
    first = volume.commit("one")
    alone = space(world, volume)
    assert alone.versions[0].exclusive == alone.exclusive >= 50_000
    assert alone.freed == alone.stored == containers(world)
    fork = world.fork(first)
    fork.commit("forked")
    shared = space(world, volume)
    assert (shared.exclusive, shared.freed, shared.stored) == (0, 0, alone.stored)
    delete_volume(world.store, world.entry(volume), force=True)
    assert space(world, volume) == Space((), 0, 0, 0)
    assert space(world, fork).freed == alone.stored


def test_a_pack_stays_for_one_block(world: World) -> None:
    volume = world.open()
    for name in (b"a", b"b"):
        world.write(volume, name, 50_000)
    volume.commit("one pack")
    world.write(volume, b"a", 1)
    volume.commit("without a")
    first, second = space(world, volume).versions
    assert first.exclusive >= 50_000
    assert first.freed < 50_000, "its part of the index at most"
    assert second.stored > 100_000


def test_no_data_is_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = world.open()
    for number in range(3):
        world.write(volume, b"%d" % number)
        volume.commit()
    read: list[str] = []
    monkeypatch.setattr(world.store, "get_range", _telling(world.store.get_range, read))
    monkeypatch.setattr(world.store, "get_tail", _telling(world.store.get_tail, read))
    space(world, volume)
    assert read
    assert not [key for key in read if key.startswith("packs/")]


def _telling(call, read: list[str]):
    def get(key: str, *arguments: int):
        read.append(key)
        return call(key, *arguments)

    return get


def test_a_version_that_cannot_be_read_is_named(world: World) -> None:
    volume = world.open()
    world.write(volume, b"a")
    record = volume.commit()
    for item in record.index.objects:
        world.store.inner.delete(object_key(INDEX, item.name))
    other = world.open()
    world.write(other, b"b")
    other.commit()
    for one in (volume, other):
        with pytest.raises(ObjectMissingError, match=record.locator.file):
            space(world, one)


def test_one_that_is_deleted_meanwhile_does_not_count(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = world.open()
    world.write(volume, b"a")
    first = volume.commit().locator
    world.write(volume, b"a")
    volume.commit()
    listed = space_module.list_versions(world.store, world.entry(volume))
    delete_version(world.store, first)
    monkeypatch.setattr(space_module, "list_versions", lambda *_: listed)
    assert [one.locator for one in space(world, volume).versions] == listed[1:]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE pack SET size=1 << 62",
        "UPDATE block SET stored=1 << 62",
        "UPDATE block SET offset=-1",
        "UPDATE pack SET name=x'00'",
    ],
)
def test_an_index_that_lies_is_refused(world: World, tmp_path: Path, statement: str) -> None:
    volume = world.open()
    world.write(volume, b"a")
    record = volume.commit()
    path = str(tmp_path / "lying.db")
    checkout_segments(world.store, record.index, path)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA journal_mode=DELETE")
        db.execute(statement)
    db.close()
    ledger = Ledger()
    with pytest.raises(IndexDamagedError):
        ledger.enter(1, path, [])
    ledger.close()


def test_of_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "empty.db")
    Index.create(path, uid=0, gid=0).close()
    ledger = Ledger()
    assert ledger.enter(1, path, [(b"x" * 32, 7)]) == (1, 0, 0)
    ledger.share(path, [])
    assert ledger.alone() == {0: Alone(0, 7), 1: Alone(0, 7)}
    ledger.share(path, [(b"x" * 32, 7)])
    assert ledger.alone() == {0: Alone(0, 0)}
    assert ledger.stored() == 7
    ledger.close()
