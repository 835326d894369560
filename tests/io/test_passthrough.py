"""A mount whose new files the kernel writes by itself: real programs, real commits, real kills."""

from __future__ import annotations

import mmap
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flyteplugins_vol.io import RWVolume, Volume
from flyteplugins_vol.mount.wire_passthrough import may_pass_through
from tests.io.conftest import World
from tests.io.killed import kill
from tests.waiting import wait_for

pytestmark = [
    pytest.mark.fuse,
    pytest.mark.skipif(not may_pass_through(), reason="needs CAP_SYS_ADMIN"),
    pytest.mark.skipif(
        tuple(map(int, os.uname().release.split(".")[:2])) < (6, 9), reason="the kernel has no passthrough"
    ),
]

MEGABYTE = 1 << 20


def noise(seed: int, size: int = MEGABYTE) -> bytes:
    return random.Random(seed).randbytes(size)


@pytest.fixture
def volume(world: World, no_open_files: None) -> RWVolume:
    volume = world.new("large")
    volume.mount.sync(world.path("mnt"), passthrough=True)
    assert volume.status()["passthrough"]
    volume.commit.sync("empty")
    return volume


@pytest.fixture
def root(volume: RWVolume) -> Path:
    assert volume.mount_path is not None
    return volume.mount_path


def test_a_large_file_is_three_requests(volume: RWVolume, root: Path) -> None:
    (root / "warm").write_bytes(b"x")  # what a mount asks only once
    wait_for(lambda: volume.status()["requests"].get("release", 0) == 1)
    before = volume.status()["requests"]
    with (root / "file").open("wb", buffering=0) as file:
        for number in range(64):
            file.write(noise(number))
    wait_for(lambda: volume.status()["requests"].get("release", 0) > before.get("release", 0))
    after = volume.status()["requests"]
    asked = {name: count - before.get(name, 0) for name, count in after.items() if count != before.get(name, 0)}
    assert asked == {"lookup": 1, "create": 1, "release": 1}
    assert (root / "file").read_bytes() == b"".join(map(noise, range(64)))


def test_a_version_has_what_was_written_to_files_that_are_open(world: World, volume: RWVolume, root: Path) -> None:
    with (root / "file").open("wb", buffering=0) as file:
        file.write(noise(1))
        first = volume.commit.sync()
        file.write(noise(2))
        second = volume.commit.sync()
    third = volume.finalize.sync()
    wanted = [noise(1), noise(1) + noise(2), noise(1) + noise(2)]
    assert [version.read_bytes.sync("file") for version in (first, second, third)] == wanted


def test_nothing_new_is_no_version(volume: RWVolume, root: Path) -> None:
    with (root / "file").open("wb", buffering=0) as file:
        file.write(noise(1))
        os.utime(file.fileno(), ns=(1, 1))  # long ago, so the file's times tell
        first = volume.commit.sync()
        assert volume.commit.sync().locator == first.locator


def test_a_file_that_was_just_closed_has_no_limits_of_the_local_disk(root: Path) -> None:
    for number in range(50):
        path = root / f"{number}"
        path.write_bytes(b"x")
        fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
        assert os.read(fd, 3) == b"x", "of the local disk's that would be a read without alignment"
        os.close(fd)
        path.write_bytes(b"x")
        os.truncate(path, 2**63 - 1)
        assert path.stat().st_size == 2**63 - 1
    with (root / "open").open("wb") as file, pytest.raises(OSError, match="too large"):
        file.truncate(2**62)  # of this one they are


def test_readers_and_writers_of_one_file_see_each_other(root: Path) -> None:
    path = root / "file"
    with path.open("wb", buffering=0) as writer, path.open("rb", buffering=0) as reader:
        writer.write(b"one")
        assert reader.read() == b"one"
        assert path.stat().st_size == 3
        with path.open("r+b", buffering=0) as other:
            other.write(b"ONE")
        assert os.pread(reader.fileno(), 10, 0) == b"ONE"
        writer.truncate(1)
        assert os.pread(reader.fileno(), 10, 0) == b"O"
        assert [entry.stat().st_size for entry in os.scandir(root)] == [1]
    assert path.read_bytes() == b"O"
    with path.open("ab") as file:
        file.write(b"!")
    assert path.read_bytes() == b"O!"
    path.write_bytes(b"anew")
    assert path.read_bytes() == b"anew"


def test_what_is_stored_through_a_mapping_is_in_the_next_version(volume: RWVolume, root: Path) -> None:
    with (root / "file").open("w+b", buffering=0) as file:
        file.truncate(MEGABYTE)
        with mmap.mmap(file.fileno(), MEGABYTE) as mapping:
            mapping[:5] = b"first"
            first = volume.commit.sync()
            mapping[:5] = b"other"  # to a page that is dirty already: no time tells of it
            (root / "more").write_bytes(b"")
            second = volume.commit.sync()
    assert first.read_bytes.sync("file")[:5] == b"first"
    assert second.read_bytes.sync("file")[:5] == b"other"


def test_what_fsync_answered_is_there_after_a_kill(world: World, volume: RWVolume, root: Path) -> None:
    with (root / "large").open("wb", buffering=0) as large, (root / "small").open("wb", buffering=0) as small:
        for number in range(70):
            large.write(noise(number))
        small.write(b"small")
        os.fsync(small.fileno())  # of one file is of all
        kill(volume)
    volume = world.keep(Volume.from_name.sync("large", world.store))
    root = volume.mount.sync(world.path("mnt"), passthrough=True)
    assert (root / "large").read_bytes() == b"".join(map(noise, range(70)))
    assert (root / "small").read_bytes() == b"small"
    version = volume.finalize.sync()
    assert version.verify.sync(deep=True).ok


@pytest.mark.parametrize("flag", [os.O_SYNC, os.O_DSYNC], ids=["O_SYNC", "O_DSYNC"])
def test_a_write_that_is_to_be_durable_is_there_after_a_kill(
    world: World, volume: RWVolume, root: Path, flag: int
) -> None:
    fd = os.open(root / "file", os.O_WRONLY | os.O_CREAT | flag)
    os.write(fd, b"durable")
    kill(volume)
    os.close(fd)
    volume = world.keep(Volume.from_name.sync("large", world.store))
    root = volume.mount.sync(world.path("mnt"))
    assert (root / "file").read_bytes() == b"durable"


def test_unmounting_keeps_what_a_program_still_has_open(world: World, volume: RWVolume, root: Path) -> None:
    file = (root / "file").open("wb", buffering=0)
    file.write(noise(1))
    version = volume.finalize.sync()
    file.close()
    assert version.read_bytes.sync("file") == noise(1)


def test_files_that_wait_for_their_upload_leave_descriptors_for_all_else(world: World) -> None:
    """The soft limit is 1,024 on many a machine, and the hard one on some. Here it is 200."""
    code = """
import resource, sys
from flyteplugins_vol.io import Volume
resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
volume = Volume.new("many", sys.argv[2])
root = volume.mount.sync(sys.argv[1], passthrough=True, upload_delay=3600)
for number in range(300):
    (root / str(number)).write_bytes(b"%d," % number + bytes(1_100_000))
assert volume.status()["passthrough"]
print(volume.finalize.sync().locator)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, world.path("mnt"), world.store], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    version = world.load(done.stdout.strip())
    assert [version.read_bytes.sync(f"{number}")[:5] for number in (0, 299)] == [b"0,\0\0\0", b"299,\0"]


def test_a_program_that_is_stopped_in_the_middle_loses_nothing(world: World, volume: RWVolume, root: Path) -> None:
    writer = subprocess.Popen(["dd", "if=/dev/zero", f"of={root}/file", "bs=1M", "status=none"])
    wait_for(lambda: (root / "file").exists() and (root / "file").stat().st_size > 30 * MEGABYTE)
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    size = (root / "file").stat().st_size
    version = volume.finalize.sync()
    assert size % MEGABYTE == 0
    assert version.stat.sync("file").size == size


@pytest.mark.logs_warnings
def test_where_the_disk_does_not_tell_of_mappings_a_mount_is_as_without_it(world: World, no_open_files: None) -> None:
    """An overlay counts descriptors only: a file could change after its last close, and nobody would know."""
    layers = {name: world.path(f"disk/{name}") for name in ("lower", "upper", "work", "merged")}
    for path in layers.values():
        path.mkdir(parents=True)
    options = f"lowerdir={layers['lower']},upperdir={layers['upper']},workdir={layers['work']}"
    subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", layers["merged"]], check=True)
    try:
        volume = world.new("overlaid")
        root = volume.mount.sync(world.path("mnt"), passthrough=True, meta_dir=layers["merged"] / "meta")
        assert not volume.status()["passthrough"]
        (root / "file").write_bytes(noise(1))
        assert volume.finalize.sync().read_bytes.sync("file") == noise(1)
    finally:
        subprocess.run(["umount", layers["merged"]], check=True)


def test_autocommit_notices_what_the_kernel_writes(world: World) -> None:
    volume = world.new("automatic")
    root = volume.mount.sync(world.path("mnt"), passthrough=True, autocommit_bytes=8 * MEGABYTE)
    with (root / "file").open("wb", buffering=0) as file:
        for number in range(9):
            file.write(noise(number))
        wait_for(lambda: volume.status()["base"] is not None)
    version = volume.finalize.sync()
    assert version.read_bytes.sync("file") == b"".join(map(noise, range(9)))


def test_autocommit_notices_what_an_fsync_has_noticed_before(world: World, no_open_files: None) -> None:
    volume = world.new("automatic")
    root = volume.mount.sync(world.path("mnt"), passthrough=True, autocommit=0.2)
    with (root / "file").open("wb", buffering=0) as file:
        wait_for(lambda: volume.status()["base"] is not None)
        first = volume.status()["base"]
        file.write(b"x")
        changed = os.fstat(file.fileno()).st_mtime_ns
        wait_for(lambda: time.time_ns() - changed > 50_000_000)  # so old that the file's times tell all
        os.fsync(file.fileno())
        wait_for(lambda: volume.status()["base"] != first)
    assert world.load(volume.status()["base"]).read_bytes.sync("file") == b"x"


def test_workspaces_go_on_with_and_without_it(world: World, volume: RWVolume, root: Path) -> None:
    (root / "one").write_bytes(noise(1, 3 * MEGABYTE))
    volume.leave.sync()
    volume = world.keep(Volume.from_name.sync("large", world.store))
    root = volume.mount.sync(world.path("mnt"))
    assert not volume.status()["passthrough"]
    assert (root / "one").read_bytes() == noise(1, 3 * MEGABYTE)
    with (root / "one").open("r+b") as file:
        file.write(b"changed")
    version = volume.finalize.sync()
    assert version.read_bytes.sync("one") == b"changed" + noise(1, 3 * MEGABYTE)[7:]
