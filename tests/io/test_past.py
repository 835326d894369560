"""Versions of a volume, and volumes of a store, by the public types."""

from __future__ import annotations

import asyncio
import pickle
from dataclasses import replace

import pytest

from flyteplugins_vol.errors import RecordDamagedError, VersionNotFoundError
from flyteplugins_vol.history.deletion import delete_version, delete_volume
from flyteplugins_vol.history.record import load_record, parse_locator
from flyteplugins_vol.history.volumes import VolumeEntry
from flyteplugins_vol.io import Retention, Volume
from flyteplugins_vol.store.open import open_store
from tests.io.conftest import World, commit, committed


def test_log_is_the_newest_first(world: World) -> None:
    volume = committed(world, "one", "two", "three")
    assert [one.message for one in volume.log.sync()] == ["three", "two", "one"]
    assert [one.message for one in asyncio.run(volume.log(2))] == ["three", "two"]
    older = volume.log.sync()[1]
    assert [one.locator for one in older.log.sync()] == [one.locator for one in volume.log.sync()[1:]]
    assert not older.writable


def test_log_goes_on_before_a_fork(world: World) -> None:
    volume = committed(world, "one", "two")
    fork = world.keep(volume.log.sync()[1].fork.sync("other"))
    assert [one.message for one in fork.log.sync()] == ["one"], "it has no version of its own so far"
    commit(fork, "mine")
    assert [(one.name, one.message) for one in fork.log.sync()] == [("other", "mine"), ("demo", "one")]


def test_log_of_a_handle_that_came_from_elsewhere(world: World) -> None:
    version = world.load(committed(world, "one", "two").locator)
    assert [one.message for one in pickle.loads(pickle.dumps(version)).log.sync()] == ["two", "one"]


def test_log_goes_on_behind_what_was_pruned(world: World) -> None:
    volume = committed(world, *"12345678")
    eight, seven, six, _, four, _, two, one = volume.log.sync()
    for version in (seven, four, one):
        version.tag.sync(f"v{version.message}")
    fork = world.keep(six.fork.sync("other"))
    commit(fork, "mine")
    assert len(volume.prune.sync(Retention(last=1)).removed) == 4
    assert [version.message for version in volume.log.sync()] == ["8", "7", "4", "1"]
    assert [version.message for version in volume.log.sync(3)] == ["8", "7", "4"]
    assert [version.message for version in world.load(four.locator).log.sync()] == ["4", "1"]
    assert [version.message for version in fork.log.sync()] == ["mine", "4", "1"]
    with pytest.raises(VersionNotFoundError):
        world.load(two.locator)
    volume.close.sync()
    with open_store(world.store) as store:
        delete_volume(store, VolumeEntry(world.store, eight.name, eight.id))
    assert [version.message for version in fork.log.sync()] == ["mine"]


def test_log_has_who_lost_a_race_only_where_nothing_tells_him_from_who_won(world: World) -> None:
    volume = committed(world, *"12345")
    _, four, three, two, _ = [parse_locator(str(version.locator)) for version in volume.log.sync()]
    with open_store(world.store) as store:
        lost = replace(load_record(store, two), message="lost", writer="another", created="2020-01-01T00:00:00.000000Z")
        assert store.create(lost.locator.key, lost.encode())
        delete_version(store, four)
        assert [version.message for version in volume.log.sync()] == ["5", "3", "2", "1"]
        delete_version(store, three)
        assert [version.message for version in volume.log.sync()] == ["5", "2", "lost", "1"]


def test_log_does_not_pass_over_damage(world: World) -> None:
    volume = committed(world, "one", "two", "three")
    first, second, _ = world.objects("volumes")[-3:]
    first.write_bytes(first.read_bytes() + b" ")
    with pytest.raises(RecordDamagedError):
        volume.log.sync()
    second.unlink()
    with pytest.raises(RecordDamagedError):
        volume.log.sync()
    first.unlink()
    assert [one.message for one in volume.log.sync()] == ["three"]


def test_there_is_no_log_before_the_first_commit(world: World) -> None:
    assert world.new().log.sync() == []


def test_list_of_a_store(world: World) -> None:
    assert Volume.list.sync(world.store) == []
    volume = committed(world, "one", "two")
    other = world.new("another")
    commit(other, "theirs")
    found = asyncio.run(Volume.list(world.store))
    assert [(one.name, one.id, one.store) for one in found] == [
        ("another", other.id, other.store), ("demo", volume.id, volume.store),
    ]  # fmt: skip
    newest = found[1].newest
    assert newest is not None
    assert (newest.locator, newest.message) == (volume.locator, "two")
    assert str(found[1]) == f"demo-{volume.id}"
    commit(world.new("demo-2"), "by name, and not by name and id")
    assert [one.name for one in Volume.list.sync(world.store)] == ["another", "demo", "demo-2"]


def test_a_damaged_volume_does_not_hide_the_others(world: World) -> None:
    volume = committed(world, "one")
    commit(world.new("another"), "theirs")
    for path in world.objects(f"volumes/demo-{volume.id}/versions"):
        path.write_bytes(path.read_bytes() + b" ")
    another, demo = Volume.list.sync(world.store)
    assert another.newest is not None
    assert demo.newest is None
    assert isinstance(demo.error, RecordDamagedError)
    for path in world.objects(f"volumes/demo-{volume.id}/versions"):
        path.rename(path.with_name(path.name.replace("1-", "2-")))
    assert isinstance(Volume.list.sync(world.store)[1].error, VersionNotFoundError)
