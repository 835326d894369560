"""Deleting by the public types."""

from __future__ import annotations

import asyncio

import pytest

from flyteplugins_vol.errors import (
    ConflictError,
    LocatorError,
    UsageError,
    VersionNotFoundError,
    VolumeBusyError,
    VolumeError,
)
from flyteplugins_vol.io import Volume
from tests.io.conftest import World, commit, committed


def test_a_volume_goes_and_its_fork_stays(world: World) -> None:
    volume = committed(world, "one", "two")
    locators = tuple(str(version.locator) for version in reversed(volume.log.sync()))
    volume.tag.sync("v1")
    fork = world.keep(volume.fork.sync("fork"))
    commit(fork, "three")
    volume.close.sync()
    assert Volume.delete.sync("demo", world.store) == locators
    for locator in locators:
        with pytest.raises(VersionNotFoundError):
            Volume.from_locator.sync(locator)
    assert [one.name for one in Volume.list.sync(world.store)] == ["fork"]
    world.forget_caches()
    assert world.load(fork.locator).read_bytes.sync("a") == b"three"
    with pytest.raises(VersionNotFoundError, match="no volume 'demo'"):
        Volume.delete.sync("demo", world.store)


def test_one_version(world: World) -> None:
    volume = committed(world, "one", "two", "three", "four")
    first, second = (str(version.locator) for version in reversed(volume.log.sync()[2:]))
    assert asyncio.run(Volume.delete("demo@1", world.store)) == (first,)
    assert Volume.delete.sync(second) == (second,)
    assert [version.message for version in volume.log.sync()] == ["four", "three"]
    for address in ("demo@1", "demo@9"):
        with pytest.raises(VersionNotFoundError, match="has no version"):
            Volume.delete.sync(address, world.store)
    with pytest.raises(VersionNotFoundError, match="no version at"):
        Volume.delete.sync(second)


def test_what_is_named_stays(world: World) -> None:
    volume = committed(world, "one", "two", "three")
    volume.log.sync()[1].tag.sync("v2")
    for address in ("demo@v2", "demo@2", "demo@main", str(volume.locator)):
        with pytest.raises(ConflictError, match="names this version") as caught:
            Volume.delete.sync(address, world.store)
        assert caught.value.hint
    assert len(volume.log.sync()) == 3


def test_a_volume_that_is_written_to_stays_unless_that_is_meant(world: World) -> None:
    committed(world, "one").close.sync()
    volume = world.keep(Volume.from_name.sync("demo", world.store))
    volume.write_bytes.sync("b", b"more")
    with pytest.raises(VolumeBusyError) as caught:
        Volume.delete.sync("demo", world.store)
    assert "force=True" in caught.value.hint
    assert Volume.find.sync("demo", world.store).message == "one"
    Volume.delete.sync("demo", world.store, force=True)
    assert Volume.list.sync(world.store) == []
    with pytest.raises(VolumeError):
        volume.commit.sync()


def test_several_of_a_name(world: World) -> None:
    one, other = committed(world, "one"), world.new("demo")
    other.finalize.sync()
    one.close.sync()
    with pytest.raises(UsageError, match="2 volumes"):
        Volume.delete.sync("demo", world.store)
    Volume.delete.sync(f"demo-{one.id}", world.store)
    assert Volume.find.sync("demo", world.store).id == other.id


def test_what_is_no_volume(world: World) -> None:
    committed(world, "one")
    with pytest.raises(LocatorError):
        Volume.delete.sync(f"{world.store}/volumes")
    with pytest.raises(VersionNotFoundError):
        Volume.delete.sync("", world.store)
    assert len(Volume.list.sync(world.store)) == 1
