"""A handle at a task's boundary, without any SDK: what is published, what stays mounted, what is refused."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import os
import pickle
import signal
from typing import Any

import pytest

from flyteplugins_vol.errors import CommitError, HandleClosedError, MountFailedError, UsageError
from flyteplugins_vol.io import RWVolume, Volume
from flyteplugins_vol.io.payload import payload_of_version, volume_from
from tests.io.conftest import World

pytestmark = pytest.mark.fuse


async def test_an_argument_stays_mounted_and_a_result_does_not(world: World) -> None:
    volume = world.new()
    data = await volume.mount()
    (data / "a").write_text("1")
    first = await volume.hand_over("argument")
    assert (await volume.hand_over("argument")).locator == first.locator
    (data / "a").write_text("2")
    second = await volume.hand_over("result")
    assert volume.mount_path is None
    assert second.parents == (first.locator,)
    for boundary in ("argument", "result"):
        assert (await volume.hand_over(boundary)).locator == second.locator


async def test_a_merge_is_published_when_it_is_handed_over(world: World) -> None:
    base = await world.new().finalize()
    forks = [world.keep(await base.fork()) for _ in range(2)]
    for number, fork in enumerate(forks):
        await fork.write_bytes(f"{number}", b"x")
    parts = [await fork.hand_over("result") for fork in forks]
    version = await world.keep(await Volume.merge(base, *parts)).hand_over("result")
    assert version.parents == (base.locator, *(part.locator for part in parts))
    assert [one.name for one in await version.ls()] == ["0", "1"]


async def test_what_was_never_mounted_is_published_and_can_be_mounted_later(world: World) -> None:
    volume = world.new()
    empty = await volume.hand_over("argument")
    (await volume.mount() / "a").write_text("1")
    assert (await volume.finalize()).parents == (empty.locator,)


async def test_a_handle_finalized_twice_at_once(world: World) -> None:
    volume = world.new()
    (await volume.mount() / "a").write_text("1")
    versions = await asyncio.gather(*(volume.finalize() for _ in range(4)))
    assert len({version.locator for version in versions}) == 1


def test_a_writer_that_only_looked(world: World) -> None:
    with world.new("looked").mounted() as data:
        (data / "a").write_text("1")
    volume = world.keep(Volume.from_name.sync("looked", world.store))
    path = volume.mount.sync(read_only=True)
    assert (path / "a").read_text() == "1"
    locator = volume.locator
    assert volume.finalize.sync().locator == locator
    assert volume.mount_path is None


@pytest.mark.logs_warnings
def test_what_a_dead_mount_left_is_not_passed_over(world: World) -> None:
    volume = world.new()
    with open(volume.mount.sync() / "a", "w") as file:
        file.write("1")
        file.flush()
        os.fsync(file.fileno())
    os.kill(volume.status()["pid"], signal.SIGKILL)
    while volume.mount_path is not None:
        pass
    with pytest.raises(MountFailedError, match="ended by itself") as caught:
        volume.finalize.sync()
    assert "mount() again" in caught.value.hint
    assert (volume.mount.sync() / "a").exists()
    volume.finalize.sync()


def test_publishing_unmounted_leaves_a_live_workspace_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.new("shared").finalize.sync("first")
    writer = world.keep(Volume.from_name.sync("shared", world.store))
    data = writer.mount.sync()
    (data / "a").write_text("not committed")
    monkeypatch.setenv("FLYTE_VOL_LEASE_SECONDS", "0")  # else it would be refused
    Volume.from_name.sync("shared", world.store).finalize.sync("by somebody else")
    assert (data / "a").read_text() == "not committed"
    (data / "b").write_text("goes on")


async def test_a_result_that_cannot_be_committed_ends_its_mount(world: World) -> None:
    volume = world.new()
    (await volume.mount() / "a").write_text("1")
    (world.root / "store").mkdir(exist_ok=True)
    for part in ("packs", "index", "volumes"):
        (world.root / "store" / part).touch()
    with pytest.raises(Exception, match="Not a directory"):
        await volume.hand_over("result")
    assert volume.mount_path is None
    assert "could not be committed" in repr(volume)
    (left,) = RWVolume.recoverable()  # what the task made is not lost with it
    assert (left.left.volume_name, left.left.files) == (volume.name, 2)
    with pytest.raises(HandleClosedError):
        await volume.hand_over("result")
    assert "Not a directory" in repr(volume)


def test_a_daemon_that_ends_without_a_word_is_no_success(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = world.new()
    (volume.mount.sync() / "a").write_text("1")
    mounting: Any = volume._mounting
    end = mounting.end
    monkeypatch.setattr(mounting, "end", lambda **how: end(keep=True) and {})  # what its client hears of one that died
    with pytest.raises(CommitError, match="before it said that all is published") as caught:
        volume.finalize.sync()
    assert "flytevol recover" in caught.value.hint


def test_values(world: World) -> None:
    volume = world.new()
    with pytest.raises(UsageError, match="changes that no version has"):
        payload_of_version(volume)
    version = volume.finalize.sync("said")
    payload = payload_of_version(version)
    assert payload_of_version(volume) == payload
    again = volume_from(payload)
    assert (again.locator, again.message, again.stats, again.parents) == (version.locator, "said", version.stats, ())
    assert payload_of_version(again) == payload
    assert pickle.dumps(version) == pickle.dumps(again)
    assert pickle.dumps(volume) != pickle.dumps(volume)
    assert copy.deepcopy(volume) is volume
    assert {field.name for field in dataclasses.fields(Volume)} == payload.keys()
    with pytest.raises(AttributeError, match="cannot be set"):
        again.locator = "other"
    fork = world.keep(again.fork.sync("fork"))
    assert fork.finalize.sync().content == version.content  # the same files under another name
