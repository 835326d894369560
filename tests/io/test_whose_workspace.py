"""Who ends a mount removes its own workspace, and never one that is another mount's by then."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from flyteplugins_vol.io import RWVolume, Volume
from flyteplugins_vol.mount.live import LiveMount, live_mounts
from tests.io.conftest import World
from tests.io.killed import kill, left_by_a_kill, written
from tests.waiting import wait_for

pytestmark = pytest.mark.fuse


def again(world: World, name: str = "line") -> RWVolume:
    return world.keep(Volume.from_name.sync(name, world.store))


def live(world: World) -> LiveMount:
    (found,) = live_mounts([str(world.root / "cache")])
    return found


def workspaces(world: World) -> list[str]:
    return os.listdir(world.root / "cache" / "workspaces")


def ended_from_outside(world: World, volume: RWVolume, *, keep: bool) -> None:
    """As by ``flytevol umount``."""
    live(world).unmount(keep=keep)
    wait_for(lambda: volume.mount_path is None)


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def test_a_body_that_fails_after_its_mount_was_ended_leaves_the_next_mount_alone(world: World) -> None:
    world.new("line").finalize.sync()
    first, second = again(world), again(world)
    with pytest.raises(RuntimeError), first.mounted(world.path("first")) as path:
        written(path / "a", "1")
        ended_from_outside(world, first, keep=False)
        second = again(world)
        data = second.mount.sync(world.path("second"))
        written(data / "precious", "2")
        raise RuntimeError
    assert (data / "precious").read_text() == "2"
    version = second.finalize.sync()
    assert sorted(info.path for info in version.ls.sync()) == ["/a", "/precious"]


def test_what_another_mount_took_up_and_left_is_not_dropped_either(world: World) -> None:
    """It is the same workspace, with the same writer in its state."""
    first = left_by_a_kill(world)
    second = again(world)
    written(second.mount.sync(world.path("second")) / "precious", "2")
    kill(second)
    first.abandon.sync()
    (one,) = RWVolume.recoverable()
    assert one.left.files == 4
    assert sorted(info.path for info in one.commit.sync().ls.sync()) == ["/a", "/b", "/precious"]


def test_what_was_looked_at_without_a_mount_is_not_dropped_either(world: World) -> None:
    first = left_by_a_kill(world)
    (one,) = RWVolume.recoverable()
    one.check_next.sync()
    first.abandon.sync()
    assert RWVolume.recoverable() == [one]


def test_abandon_drops_what_its_own_killed_daemon_left(world: World) -> None:
    left_by_a_kill(world).abandon.sync()
    assert RWVolume.recoverable() == []
    assert workspaces(world) == []


def test_abandon_leaves_what_an_end_in_order_has_kept(world: World) -> None:
    world.new("line").finalize.sync()
    first = again(world)
    written(first.mount.sync(world.path("first")) / "kept", "1")
    ended_from_outside(world, first, keep=True)
    first.abandon.sync()
    (one,) = RWVolume.recoverable()
    assert one.left.files == 2


@pytest.mark.parametrize("how", ["finalize", "abandon", "umount", "killed and abandoned"])
def test_nothing_is_left_of_a_workspace_that_holds_nothing(world: World, how: str) -> None:
    volume = world.new()
    written(volume.mount.sync(world.path("mnt")) / "a", "1")
    assert len(workspaces(world)) == 1
    if how == "umount":
        ended_from_outside(world, volume, keep=False)
    elif how == "killed and abandoned":
        os.kill(volume.status()["pid"], signal.SIGKILL)
        wait_for(lambda: volume.mount_path is None)
        volume.abandon.sync()
    else:
        getattr(volume, how).sync()
    assert workspaces(world) == []


def test_nothing_is_left_of_a_mount_for_reading(world: World) -> None:
    version = world.keep(world.new().finalize.sync())
    version.mount.sync(world.path("mnt"))
    version.unmount.sync()
    assert os.listdir(world.root / "cache" / "mounts") == []


@pytest.mark.parametrize("how", ["commit", "discard"])
def test_nothing_is_left_of_what_was_recovered(world: World, how: str) -> None:
    left_by_a_kill(world)
    (one,) = RWVolume.recoverable()
    getattr(one, how).sync()
    assert workspaces(world) == []
