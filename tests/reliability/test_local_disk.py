"""The local disk: full and free again, shared by mounts of which one crashes, damaged, and under a killed database."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from flyteplugins_vol.errors import LostWritesError, VolumeError
from flyteplugins_vol.io import ROVolume, RWVolume, Volume
from tests.io.conftest import World
from tests.posix.conftest import ALL

pytestmark = [pytest.mark.fuse, pytest.mark.slow]


def noise(seed: int, size: int = 300_000) -> bytes:
    return random.Random(seed).randbytes(size)


def published(world: World, count: int) -> str:
    """Locator of a version with so many files."""
    volume = world.new()
    path = volume.mount.sync(world.path("first"))
    for number in range(count):
        (path / str(number)).write_bytes(noise(number))
    locator = volume.finalize.sync().locator
    assert locator is not None
    return locator


def kill_daemon(volume: RWVolume | ROVolume) -> None:
    """SIGKILL, and what a new process would do: take the dead mount away."""
    os.kill(volume.status()["pid"], signal.SIGKILL)
    assert volume._mounting is not None
    volume._mounting.end(keep=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Hardly more than a mount asks for, and less than one file of Staging may hold."""
    where = tmp_path / "small"
    where.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=72m", "tmpfs", str(where)], capture_output=True).returncode:
        pytest.skip("only root may mount a tmpfs")
    yield where
    subprocess.run(["umount", "-l", str(where)], check=True)


def test_a_full_disk_refuses_that_write_and_takes_the_next_when_there_is_room(small_disk: Path, world: World) -> None:
    volume = world.new()
    volume.mount.sync(world.path("mnt"), meta_dir=small_disk / "meta", writeback=False, upload_delay=3600.0)
    assert volume.mount_path is not None
    ballast = os.open(small_disk / "ballast", os.O_RDWR | os.O_CREAT)
    os.posix_fallocate(ballast, 0, 40 << 20)
    fd = os.open(volume.mount_path / "file", os.O_RDWR | os.O_CREAT)
    expected = fill(fd)
    assert 5 << 20 < len(expected) < 30 << 20
    assert os.pread(fd, len(expected), 0) == expected
    volume.commit.sync("what was taken")
    expected += fill(fd)  # what is sealed has left the disk
    assert len(expected) > 10 << 20
    os.ftruncate(ballast, 0)
    os.close(ballast)
    assert os.write(fd, b"the end") == 7
    os.close(fd)
    version = volume.finalize.sync()
    with world.load(version.locator).mounted(world.path("ro"), cache_dir=world.path("elsewhere")) as path:
        assert (path / "file").read_bytes() == expected + b"the end"


@pytest.mark.skipif("passthrough" not in ALL, reason="needs CAP_SYS_ADMIN, and Linux 6.9")
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_disk_that_the_kernel_filled_by_itself_has_room_for_the_index(world: World, kind: str) -> None:
    """Rows that SQLite could not commit would be lost, with all that programs do until the next mount."""
    image, disk = world.path("image"), world.path("disk")
    with image.open("wb") as file:
        file.truncate(400 << 20)
    if shutil.which(f"mkfs.{kind}") is None:
        pytest.skip(f"there is no mkfs.{kind}")
    subprocess.run([f"mkfs.{kind}", "-q", image], check=True)
    disk.mkdir()
    subprocess.run(["mount", "-o", "loop", image, disk], check=True)
    try:
        volume = world.new()
        path = volume.mount.sync(world.path("mnt"), passthrough=True, meta_dir=disk / "meta", upload_delay=3600.0)
        for number in range(3_000):  # the index grows by some 100 bytes for each
            (path / f"{number}").write_bytes(b"%d" % number)
        with (path / "large").open("wb", buffering=0) as large:
            for piece in (1 << 20, 4096):
                with suppress(OSError):
                    while True:
                        large.write(noise(1, piece))
            with suppress(VolumeError):
                volume.commit.sync()
            with suppress(OSError):  # ENOSPC, if a small file beside it found no room
                os.fsync(large.fileno())
            assert large.seek(0, os.SEEK_END) > 100 << 20
            large.truncate(1 << 20)
            (path / "more").write_bytes(b"more")
            os.fsync(large.fileno())
            volume.commit.sync()
        version = volume.finalize.sync()
        assert version.read_bytes.sync("more") == b"more"
        assert version.read_bytes.sync("large") == noise(1, 1 << 20)
    finally:
        if volume.mount_path is not None:
            volume.abandon.sync()
        subprocess.run(["umount", disk], check=True)


def test_what_a_full_disk_cut_off_is_not_published_unsaid(small_disk: Path, world: World) -> None:
    volume = world.new()
    path = volume.mount.sync(world.path("mnt"), meta_dir=small_disk / "meta", upload_delay=3600.0)
    whole = noise(1, 80 << 20)
    world.path("whole").write_bytes(whole)
    assert subprocess.run(["cp", world.path("whole"), path / "copy"], capture_output=True).returncode
    with pytest.raises(LostWritesError, match="'/copy' is not as programs wrote it"):
        volume.commit.sync()
    (path / "copy").unlink()
    (path / "other").write_bytes(noise(2))
    version = volume.finalize.sync()
    assert [info.path for info in version.ls.sync()] == ["/other"]


@pytest.mark.parametrize("end", ["orderly", "killed"])
def test_what_is_lost_is_known_to_the_next_mount_and_a_copy_of_it_is_whole(
    small_disk: Path, world: World, end: str
) -> None:
    volume = world.new()
    path = volume.mount.sync(world.path("mnt"), meta_dir=small_disk / "meta", upload_delay=3600.0)
    (small_disk / "ballast").write_bytes(bytes(44 << 20))
    world.path("whole").write_bytes(noise(1, 16 << 20))
    assert subprocess.run(["cp", world.path("whole"), path / "copy"], capture_output=True).returncode
    (small_disk / "ballast").unlink()
    assert (path / "copy").read_bytes() == noise(1, 16 << 20)  # in the kernel's cache
    subprocess.run(["cp", path / "copy", path / "second"], check=True)
    if end == "killed":
        while not list(small_disk.glob("meta/workspaces/*/lost-writes.json")):
            time.sleep(0.05)
        kill_daemon(volume)
    assert volume._mounting is not None
    volume._mounting.end(keep=True)
    subprocess.run(["mount", "-o", "remount,size=200m", str(small_disk)], check=True)
    path = volume.mount.sync(world.path("mnt"), meta_dir=small_disk / "meta", upload_delay=3600.0)
    with pytest.raises(LostWritesError, match="'/copy' is not"):
        volume.commit.sync()
    assert (path / "second").read_bytes() == noise(1, 16 << 20)
    (path / "second").rename(path / "copy")
    version = volume.finalize.sync()
    assert version.read_bytes.sync("copy") == noise(1, 16 << 20)


def fill(fd: int) -> bytes:
    """Append until the disk is full; what was taken."""
    taken: list[bytes] = []
    with pytest.raises(OSError) as caught:
        for number in range(100):
            data = noise(number, 1 << 20)
            taken.append(data[: os.write(fd, data)])
    assert caught.value.errno == errno.ENOSPC
    return b"".join(taken)


def test_two_mounts_share_a_cache_with_one_that_is_killed(world: World) -> None:
    locator = published(world, 20)
    world.forget_caches()
    mounts = [world.load(locator) for _ in range(3)]
    for number, mount in enumerate(mounts):
        mount.mount.sync(world.path(f"mnt{number}"))
    wrong: list[str] = []

    def read_all(mount: ROVolume, order: int) -> None:
        names = random.Random(order).sample(range(20), 20)
        with suppress(OSError):  # of the one that is killed
            root = Path(str(mount.mount_path))
            read = ((number, (root / str(number)).read_bytes()) for number in names)
            wrong.extend(f"{number} in {root}" for number, content in read if content != noise(number))

    threads = [threading.Thread(target=read_all, args=(mount, order)) for order, mount in enumerate(mounts)]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    kill_daemon(mounts[2])
    for thread in threads:
        thread.join(30)
    assert not wrong
    for mount in mounts[:2]:
        for number in range(20):
            assert (Path(str(mount.mount_path)) / str(number)).read_bytes() == noise(number)


def test_a_bit_that_flips_in_the_cache_is_fetched_again(world: World) -> None:
    locator = published(world, 5)
    with world.load(locator).mounted(
        world.path("before")
    ) as path:  # a store on the cache's disk is cached when it is read
        assert all((path / str(number)).read_bytes() == noise(number) for number in range(5))
    mirrors = [path for path in world.path("cache").rglob("blocks/*/*") if path.is_file()]
    assert mirrors
    for mirror in mirrors:
        with open(mirror, "r+b") as file:
            for at in range(1000, mirror.stat().st_size, 200_000):
                file.seek(at)
                byte = file.read(1)
                file.seek(at)
                file.write(bytes([byte[0] ^ 4]))
    volume = world.load(locator)
    with volume.mounted(world.path("again")) as path:
        for number in range(5):
            assert (path / str(number)).read_bytes() == noise(number)
        assert volume.status()["fetch_requests"] > 0


DATABASE = """
import sqlite3, sys
sql = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
sql.execute("PRAGMA journal_mode=" + sys.argv[2])
sql.execute("PRAGMA synchronous=FULL")
sql.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, text TEXT)")
for n in range(1_000_000):
    sql.execute("INSERT INTO t VALUES (?, ?)", (n, str(n) * (n % 300)))
    print(n, flush=True)
"""


@pytest.mark.parametrize("journal", ["WAL", "DELETE"])
def test_a_database_on_a_mount_whose_daemon_is_killed(world: World, journal: str) -> None:
    volume = world.new("db")
    volume.mount.sync(world.path("mnt"))
    volume.commit.sync("empty")
    command = [sys.executable, "-c", DATABASE, str(world.path("mnt") / "db"), journal]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert writer.stdout is not None
    for _ in range(30):
        writer.stdout.readline()
    kill_daemon(volume)
    said = writer.stdout.read().split()
    writer.stdout.close()
    assert writer.wait(20) != 0

    again = world.keep(Volume.from_name.sync("db", world.store))
    again.mount.sync(world.path("mnt"))
    with closing(sqlite3.connect(world.path("mnt") / "db")) as sql:
        assert sql.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        numbers = [n for (n,) in sql.execute("SELECT n FROM t ORDER BY n")]
        assert all(text == str(n) * (n % 300) for n, text in sql.execute("SELECT n, text FROM t"))
    assert numbers == list(range(len(numbers)))
    assert len(numbers) >= 30 + len(said) - 1
    again.finalize.sync()
