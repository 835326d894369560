"""Upkeep by the public types: awaited and blocking."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from flyteplugins_vol.errors import NothingCommittedError, UsageError
from flyteplugins_vol.io import Retention, RWVolume, Volume
from tests.io.conftest import World, run_elsewhere


def three_versions(world: World) -> RWVolume:
    volume = world.new()
    for number in range(3):
        volume.write_bytes.sync("a", b"%d" % number * 5000)
        volume.commit.sync(f"{number}")
    return volume


def test_verify_of_every_kind_of_handle(world: World) -> None:
    volume = three_versions(world)
    told: list[object] = []
    assert volume.verify.sync(deep=True, progress=told.append).ok
    assert told
    version = world.load(volume.locator)
    assert asyncio.run(version.verify()).locator == volume.locator
    fork = world.keep(version.fork.sync())
    assert fork.verify.sync().locator == volume.locator, "what it begins as"
    for pack in world.objects("packs"):
        pack.unlink()
    found = version.verify.sync()
    assert not found.ok
    assert found.files[0].paths == ("a",)
    assert list((world.root / "cache" / "scratch").iterdir()) == []


def test_there_is_nothing_to_verify_before_the_first_commit(world: World) -> None:
    with pytest.raises(NothingCommittedError):
        world.new().verify.sync()


def test_prune_while_the_volume_is_being_written(world: World) -> None:
    volume = three_versions(world)
    with pytest.raises(UsageError):
        volume.prune.sync(Retention())
    plan = volume.prune.sync(Retention(last=2), dry_run=True)
    assert [record.sequence for record in plan.removed] == [1]
    assert len(world.objects("volumes")) == 4
    assert asyncio.run(volume.prune(Retention(last=1))).removed[0].locator == plan.removed[0].locator
    volume.write_bytes.sync("b", b"x")
    assert volume.commit.sync().version
    assert volume.read_bytes.sync("a") == b"2" * 5000


def test_space_of_a_volume(world: World) -> None:
    volume = three_versions(world)
    told: list[object] = []
    found = volume.space.sync(progress=told.append)
    assert told
    assert [one.message for one in found.versions] == ["0", "1", "2"]
    assert found.freed == found.stored > max(one.stored for one in found.versions)
    fork = world.keep(world.load(volume.locator).fork.sync("other"))
    fork.finalize.sync()
    shared = asyncio.run(volume.space())
    assert (shared.versions[-1].exclusive, shared.versions[-1].freed) == (0, 0)
    assert shared.freed < found.freed
    assert list((world.root / "cache" / "scratch").iterdir()) == []
    assert world.new("empty").space.sync().versions == ()


def test_gc_of_a_store(world: World) -> None:
    three_versions(world)
    found = asyncio.run(Volume.gc(world.store, dry_run=True))
    assert (found.dry_run, found.versions, found.marked.objects) == (True, 3, 0)
    assert Volume.gc.sync(world.store, grace=timedelta(days=30)).deleted.objects == 0


@pytest.mark.parametrize("system", ["macos", "windows"])
def test_on_other_systems(world: World, system: str) -> None:
    code = """
        from flyteplugins_vol.io import Retention, Volume

        volume = Volume.new("x", STORE)
        for number in range(3):
            volume.write_bytes.sync("a", bytes(number * 5000))
            volume.commit.sync()
        assert volume.verify.sync(True).ok
        assert len(volume.space.sync().versions) == 3
        assert len(volume.prune.sync(Retention(last=1)).removed) == 2
        assert Volume.gc.sync(STORE).versions == 1
    """
    run_elsewhere(system, world, code)
