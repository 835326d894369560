"""What is written without a mount: how it becomes versions, who may write beside it, and that nothing is left of it."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from flyteplugins_vol.errors import HandleClosedError, NotMountedError, UsageError, VolumeBusyError
from flyteplugins_vol.io import Volume
from tests.io.conftest import World, names


def test_what_is_written_becomes_a_version(world: World) -> None:
    volume = world.new("line")
    with pytest.raises(NotMountedError):
        volume.commit.sync()
    assert volume.ls.sync() == []
    assert not volume.has_changes
    volume.write_bytes.sync("a", b"1")
    assert volume.has_changes
    first = volume.commit.sync("first")
    assert (first.message, volume.has_changes) == ("first", False)
    assert volume.commit.sync().locator == first.locator
    volume.write_bytes.sync("a", b"2")
    second = volume.finalize.sync("second")
    assert second.parents == (first.locator,)
    assert volume.read_bytes.sync("a") == b"2"
    with pytest.raises(HandleClosedError):
        volume.write_bytes.sync("a", b"3")
    world.forget_caches()
    assert world.load(first.locator).read_bytes.sync("a") == b"1"
    assert world.load(second.locator).read_bytes.sync("a") == b"2"


def test_a_fork_begins_with_what_was_written(world: World) -> None:
    volume = world.new("parent")
    volume.write_bytes.sync("a", b"1")
    fork = volume.fork.sync("child")
    fork.write_bytes.sync("b", b"2")
    child = fork.finalize.sync()
    assert child.parents == (volume.locator,)
    assert names(child) == ["/a", "/b"]
    assert names(volume) == ["/a"]


def test_writers_wait_for_a_commit_and_nothing_is_torn(world: World) -> None:
    volume = world.new()
    volume.mkdir.sync("d")

    def write(number: int) -> None:
        volume.write_bytes.sync(f"d/{number}", b"x" * number)

    with ThreadPoolExecutor(4) as pool:
        writes = [pool.submit(write, number) for number in range(200)]
        versions = [volume.commit.sync(str(number)) for number in range(3)]
        for future in writes:
            future.result()
    for version in versions:
        for info in version.ls.sync("d"):
            assert info.name.startswith(".flytevol-") or info.size in (0, int(info.name))
    assert len(names(volume.finalize.sync(), "d")) == 200


@pytest.mark.fuse
def test_a_mount_and_what_was_written_without_one(world: World) -> None:
    volume = world.new("both")
    volume.write_bytes.sync("a", b"1")
    with pytest.raises(UsageError, match="commit\\(\\) it before"):
        volume.mount.sync(world.path("mnt"))
    volume.commit.sync()
    path = volume.mount.sync(world.path("mnt"))
    assert (path / "a").read_bytes() == b"1"
    (path / "b").write_bytes(b"2")
    assert volume.read_bytes.sync("b") == b"2"
    other = Volume.from_name.sync("both", world.store)
    assert names(other) == ["/a"]
    with pytest.raises(VolumeBusyError, match=str(world.path("mnt"))):
        other.write_bytes.sync("c", b"3")
    version = volume.finalize.sync()
    assert names(version) == ["/a", "/b"]


@pytest.mark.fuse
def test_a_mounted_volume_cannot_be_published_without_the_mount(world: World) -> None:
    world.new("line").finalize.sync()
    mounted = world.keep(Volume.from_name.sync("line", world.store))
    path = mounted.mount.sync(world.path("mnt"))
    (path / "kept").write_text("kept")
    with pytest.raises(VolumeBusyError):
        Volume.from_name.sync("line", world.store).finalize.sync("from elsewhere")
    assert (path / "kept").read_text() == "kept"
    assert list(world.root.glob(f"cache/workspaces/line-{mounted.id}-*/index.db"))


def test_one_writer_at_a_time(world: World) -> None:
    volume = world.new("line")
    volume.write_bytes.sync("a", b"1")
    volume.commit.sync()
    other = Volume.from_name.sync("line", world.store)
    with pytest.raises(VolumeBusyError, match=rf"another handle of this process, .* at {__file__}:\d+") as caught:
        other.write_bytes.sync("b", b"2")
    assert "close()" in caught.value.hint
    volume.close.sync()
    other.write_bytes.sync("b", b"2")
    assert other.finalize.sync().parents == (volume.locator,)


def test_nothing_is_left_behind(world: World) -> None:
    volume = world.new()
    volume.write_bytes.sync("a", b"1")
    file = volume.open.sync("a")
    version = volume.finalize.sync()
    assert names(version) == ["/a"]
    with pytest.raises(HandleClosedError):
        file.read()
    file.close()
    dropped = world.new()
    dropped.write_bytes.sync("a", b"1")
    dropped.abandon.sync()
    version.close.sync()
    left = [path.name for path in (world.root / "cache").iterdir() if any(path.iterdir())]
    assert left == ["cache"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("end", ["sys.exit(0)", "del volume; os._exit(0)"])
def test_the_end_of_a_forked_child_is_not_that_of_what_its_parent_wrote(world: World, end: str) -> None:
    script = f"""
import os, sys, warnings
from flyteplugins_vol.io import Volume
warnings.simplefilter("ignore")
volume = Volume.new("data", {world.store!r})
volume.write_bytes.sync("a", b"1")
volume.commit.sync()
volume.write_bytes.sync("b", bytes(5_000_000))
if os.fork() == 0:
    {end}
os.wait()
volume.write_bytes.sync("c", b"3")
print(*(info.path for info in volume.finalize.sync().ls.sync()))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.stdout.split(), done.returncode) == (["/a", "/b", "/c"], 0), done.stderr
