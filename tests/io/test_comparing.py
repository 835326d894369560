"""What differs between two versions, by the public types."""

from __future__ import annotations

import asyncio
import shutil

import pytest

from flyteplugins_vol.errors import HandleClosedError, LocatorError, NothingCommittedError, VersionNotFoundError
from flyteplugins_vol.io import Difference, FileState, ROVolume, RWVolume, Volume
from tests.io.conftest import World, run_elsewhere


@pytest.fixture
def volume(world: World) -> RWVolume:
    """In its first version ``a`` and ``dir`` with two files; then ``a`` is another, ``dir`` is gone, and one is new."""
    volume = world.new()
    volume.mkdir.sync("dir")
    for name in ("a", "dir/b", "dir/c"):
        volume.write_bytes.sync(name, name.encode() * 1000)
    volume.commit.sync("one")
    volume.write_bytes.sync("a", b"other")
    volume.remove.sync("dir", recursive=True)
    volume.write_bytes.sync("new\udcff", b"x")
    volume.commit.sync("two")
    return volume


def versions(volume: RWVolume) -> tuple[ROVolume, ROVolume]:
    second, first = volume.log.sync()
    return first, second


def told(found: Difference) -> list[tuple[str, str]]:
    with found:
        return [(one.path, one.change) for one in found]


def test_of_two_versions(world: World, volume: RWVolume) -> None:
    first, second = versions(volume)
    for pack in world.objects("packs"):
        pack.unlink()
    with asyncio.run(Volume.diff(first, second)) as found:
        assert (found.old, found.new) == (first.locator, second.locator)
        assert len(found) == 5
        a, directory, b, c, new = found
    assert (a.path, a.change, a.old, a.new) == (
        "/a", "changed", FileState("file", 0o644, 1000), FileState("file", 0o644, 5),
    )  # fmt: skip
    assert (directory.path, directory.change, directory.new) == ("/dir", "removed", None)
    assert directory.old is not None
    assert directory.old.kind == "directory"
    assert [(b.path, b.change), (c.path, c.change)] == [("/dir/b", "removed"), ("/dir/c", "removed")]
    assert (new.path, new.change, new.old, new.new) == ("/new\udcff", "added", None, FileState("file", 0o644, 1))
    assert found.files == {"added": 1, "removed": 2, "changed": 1, "attributes": 0}
    assert (found.old_bytes["removed"], found.old_bytes["changed"], found.new_bytes["changed"]) == (10_000, 1000, 5)
    with pytest.raises(HandleClosedError):
        list(found)


def test_of_a_version_with_itself(volume: RWVolume) -> None:
    assert told(Volume.diff.sync(volume, volume)) == []
    assert not len(Volume.diff.sync(str(volume.locator), volume))


def test_of_a_fork_and_its_parent_and_back(world: World, volume: RWVolume) -> None:
    fork = world.keep(versions(volume)[1].fork.sync("other"))
    assert told(Volume.diff.sync(volume, fork)) == [], "what it begins as"
    fork.write_bytes.sync("mine", b"m")
    fork.commit.sync()
    assert told(Volume.diff.sync(volume, fork)) == [("/mine", "added")]
    assert told(Volume.diff.sync(str(fork.locator), str(volume.locator))) == [("/mine", "removed")]


def test_of_two_that_have_nothing_to_do_with_each_other(world: World, volume: RWVolume) -> None:
    other = world.new("else", f"file://{world.root}/store2")
    other.write_bytes.sync("a", b"other")
    other.write_bytes.sync("b", b"b")
    other.commit.sync()
    assert told(Volume.diff.sync(volume, other)) == [("/a", "attributes"), ("/b", "added"), ("/new\udcff", "removed")]


def test_of_what_is_not_there(world: World, volume: RWVolume) -> None:
    with pytest.raises(NothingCommittedError):
        Volume.diff.sync(volume, world.new())
    with pytest.raises(LocatorError):
        Volume.diff.sync(volume, "nonsense")
    locator = str(volume.locator)
    shutil.rmtree(world.root / "store" / "volumes")
    with pytest.raises(VersionNotFoundError):
        Volume.diff.sync(volume, locator)


@pytest.mark.parametrize("system", ["macos", "windows"])
def test_on_other_systems(world: World, system: str) -> None:
    code = """
        from flyteplugins_vol.io import Volume

        volume = Volume.new("x", STORE)
        volume.write_bytes.sync("a", b"1")
        first = volume.commit.sync()
        volume.write_bytes.sync("a", b"2")
        volume.commit.sync()
        with Volume.diff.sync(first, volume) as found:
            assert [(one.path, one.change) for one in found] == [("/a", "changed")]
        assert len(Volume.list.sync(STORE)) == 1
    """
    run_elsewhere(system, world, code)
