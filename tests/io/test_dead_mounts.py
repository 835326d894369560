"""A mount for writing whose daemon was killed: its handle does not go back to the last version in silence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from flyteplugins_vol.errors import MountFailedError
from flyteplugins_vol.io import RWVolume, Volume
from tests.io.conftest import World
from tests.io.test_recovery import kill, left_by_a_kill, written

pytestmark = [pytest.mark.fuse, pytest.mark.logs_warnings]


@pytest.fixture
def volume(world: World) -> RWVolume:
    """One version with `a`; the workspace of a mount whose daemon is dead has `b` as well."""
    return left_by_a_kill(world)


USES: dict[str, Callable[[RWVolume], Any]] = {
    "commit": lambda volume: volume.commit.sync(),
    "finalize": lambda volume: volume.finalize.sync(),
    "fork": lambda volume: volume.fork.sync(),
    "ls": lambda volume: volume.ls.sync(),
    "walk": lambda volume: list(volume.walk()),
    "read": lambda volume: volume.read_bytes.sync("a"),
    "write": lambda volume: volume.write_bytes.sync("more", b"3"),
    "open to write": lambda volume: volume.open.sync("a", "ab"),
    "restore": lambda volume: volume.restore.sync("a", volume.locator, overwrite=True),
    "merge": lambda volume: Volume.merge.sync(volume.locator, volume.locator, into=volume),
}


@pytest.mark.parametrize("use", USES)
def test_what_looks_at_the_last_version_alone_is_refused(volume: RWVolume, use: str) -> None:
    with pytest.raises(MountFailedError, match="ended by itself") as caught:
        USES[use](volume)
    assert "mount() again" in caught.value.hint


def test_the_next_mount_has_it_all_and_the_handle_works_again(volume: RWVolume) -> None:
    with pytest.raises(MountFailedError):
        volume.fork.sync()
    volume.mount.sync()
    assert [info.name for info in volume.ls.sync()] == ["a", "b"]
    assert [info.name for info in volume.fork.sync("both").ls.sync()] == ["a", "b"]
    assert [info.name for info in volume.finalize.sync().ls.sync()] == ["a", "b"]


def test_a_read_only_mount_had_nothing_to_lose(world: World) -> None:
    with world.new("line").mounted() as path:
        (path / "a").write_text("1")
    volume = world.keep(Volume.from_name.sync("line", world.store))
    volume.mount.sync(read_only=True)
    kill(volume)
    assert [info.name for info in volume.ls.sync()] == ["a"]
    assert [info.name for info in volume.fork.sync("two").ls.sync()] == ["a"]


@pytest.mark.parametrize("end", ["finalize", "abandon", "leave"])
def test_a_handle_that_ended_its_mount_reads_its_last_version(world: World, end: str) -> None:
    volume = world.new()
    path = volume.mount.sync()
    written(path / "a", "1")
    volume.commit.sync()
    written(path / "b", "2")
    getattr(volume, end).sync()
    assert [info.name for info in volume.ls.sync()] == (["a", "b"] if end == "finalize" else ["a"])
    assert volume.read_bytes.sync("a") == b"1"
