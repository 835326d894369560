"""A power cut, for real: the local state lies on an XFS or ext4 image that is shut down under a busy mount.

The shutdown (``xfs_io -x -c shutdown`` does the same) drops everything that is not on disk yet. What fsync had answered
before it began must be there when the image is mounted again and the workspace is resumed.

ext4 keeps more from the disk than XFS does: it shares no blocks between files, so a copy is only in memory at first.

*Before it began*: while XFS goes down, an fdatasync that has passed its check for a shutdown can find its inode
already unpinned by the abort of the log, and returns 0 for what is lost. On bare XFS, without any of our code, four
threads that append and fdatasync got 224 such late answers in 300 cuts, and 40 of them were false; of 93,558 answers
that came before a cut began, none was; on ext4 it is the same. A real power cut has no such moment: nobody hears a
machine without power.

``POWER_CUTS`` rounds of ``POWER_CUT_SECONDS`` each; 20 rounds of 10 seconds are the long profile.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from flyteplugins_vol.io import RWVolume, Volume
from tests.io.conftest import World
from tests.servers import S3Server

pytestmark = [
    pytest.mark.fuse,
    pytest.mark.s3,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounts an image: needs root"),
    pytest.mark.skipif(shutil.which("mkfs.xfs") is None, reason="needs the package xfsprogs"),
]

WRITERS = 4
ROUNDS = int(os.environ.get("POWER_CUTS", "1"))
SECONDS = float(os.environ.get("POWER_CUT_SECONDS", "1.2"))
GOING_DOWN = 0x8004587D  # XFS_IOC_GOINGDOWN, EXT4_IOC_SHUTDOWN
NO_LOG_FLUSH = 2


class Disk:
    """An image on a loop device, of XFS or ext4, that can lose its power, and comes back as a copy.

    A mount namespace that anybody makes meanwhile takes the mount along, and with it the device: where the image itself
    is mounted again, two devices may be on it at once.
    """

    def __init__(self, root: Path, kind: str) -> None:
        self._root = root
        self._options = "loop,nouuid" if kind == "xfs" else "loop"
        self._lives = 0
        self.image = root / "disk-0.img"
        self.path = root / "disk"
        self.path.mkdir()
        with open(self.image, "wb") as file:
            file.truncate(2 << 30)
        _run(f"mkfs.{kind}", "-q", str(self.image))
        self._plug_in()

    def cut(self) -> float:
        """Take the power away; returns when (`time.monotonic`) that began."""
        fd = os.open(self.path, os.O_RDONLY)
        try:
            began = time.monotonic()
            fcntl.ioctl(fd, GOING_DOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(fd)
        return began

    def restart(self) -> None:
        """Power again, and the file system as it was left."""
        self.unplug()
        old, self._lives = self.image, self._lives + 1
        self.image = self._root / f"disk-{self._lives}.img"
        _run("cp", "--sparse=always", str(old), str(self.image))
        old.unlink()
        self._plug_in()

    def unplug(self) -> None:
        deadline = time.monotonic() + 20
        while subprocess.run(["umount", str(self.path)], capture_output=True, check=False).returncode:
            assert time.monotonic() < deadline, "somebody still uses the disk"
            time.sleep(0.05)

    def _plug_in(self) -> None:
        _run("mount", "-o", self._options, str(self.image), str(self.path))


@pytest.fixture
def disk(tmp_path: Path, kind: str) -> Iterator[Disk]:
    disk = Disk(tmp_path, kind)
    yield disk
    if os.path.ismount(disk.path):
        disk.unplug()


def content(number: int) -> bytes:
    """Mostly some KB; each twentieth is a few hundred, and may be as it lies on the local disk (passthrough)."""
    return b"%d " % number * (1 + number * 37 % 700) * (1 if number % 20 else 150)


class Writer(threading.Thread):
    """Writes files one after the other, each made durable and then named. The last few stay open.

    ``acknowledged`` has the time of each answer, the file's name, and the number that is its content.
    """

    def __init__(self, root: Path, number: int) -> None:
        super().__init__(daemon=True)
        self.directory = root / f"w{number}"
        self.directory.mkdir()
        self.acknowledged: list[tuple[float, str, int]] = []

    def run(self) -> None:
        directory = os.open(self.directory, os.O_RDONLY)
        still_open: list[int] = []
        try:
            for number in range(1_000_000):
                fd = os.open(self.directory / "new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                still_open.append(fd)
                if len(still_open) > 5:
                    os.close(still_open.pop(0))
                os.write(fd, content(number))
                os.fsync(fd)
                name = f"f{number % 500}"  # names come again: a rename over a file must be the old or the new one
                os.rename(self.directory / "new", self.directory / name)
                os.fsync(directory)
                self.acknowledged.append((time.monotonic(), f"{self.directory.name}/{name}", number))
        except OSError:
            return  # the power is gone
        finally:
            for fd in [*still_open, directory]:
                with suppress(OSError):
                    os.close(fd)


@pytest.mark.timeout(60 + 60 * ROUNDS)
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("xfs", {}), ("xfs", {"writeback": False}), ("ext4", {}),
        ("xfs", {"passthrough": True}), ("ext4", {"passthrough": True}),
    ],
)  # fmt: skip
def test_nothing_acknowledged_is_lost(
    world: World, disk: Disk, s3_environment: S3Server, options: dict[str, bool], capsys: pytest.CaptureFixture[str]
) -> None:
    world.store = s3_environment.new_bucket_url()
    with world.new("line").mounted(world.path("mnt"), meta_dir=disk.path, cache_dir=disk.path / "cache") as path:
        (path / "start").write_text("start")
    promised = late = 0
    for _ in range(ROUNDS):
        volume = _mount(world, disk, options)
        writers = [_writer(volume, number) for number in range(WRITERS)]
        for writer in writers:
            writer.start()
        time.sleep(SECONDS)
        daemon = volume.status()["pid"]
        cut = disk.cut()
        os.kill(daemon, signal.SIGKILL)
        for writer in writers:
            writer.join(20)
        _forget(volume)
        disk.restart()

        volume = _mount(world, disk, options)
        assert volume.mount_path is not None
        lost: list[str] = []
        for writer in writers:
            in_time = [answer for answer in writer.acknowledged if answer[0] < cut]
            promised += len(in_time)
            late += len(writer.acknowledged) - len(in_time)
            lost += _lost(volume.mount_path, in_time)
        assert not lost, f"{len(lost)} of {promised} lost, among them {lost[:5]}"
        version = volume.commit.sync("after the power cut")
        assert version.locator is not None
        volume.finalize.sync()
    assert promised > 50 * ROUNDS
    with capsys.disabled():
        print(f" {promised} operations acknowledged in {ROUNDS} rounds ({late} more while the power went): none lost")


def _writer(volume: RWVolume, number: int) -> Writer:
    assert volume.mount_path is not None
    shutil.rmtree(volume.mount_path / f"w{number}", ignore_errors=True)
    return Writer(volume.mount_path, number)


def _lost(root: Path, acknowledged: list[tuple[float, str, int]]) -> list[str]:
    """Names that are absent, older than was acknowledged, or wrong. A rename that was under way may have happened."""
    lost: list[str] = []
    for name, number in {name: number for _, name, number in acknowledged}.items():
        try:
            found = (root / name).read_bytes()
            there = int(found.split(b" ", 1)[0])
        except (FileNotFoundError, ValueError):
            lost.append(f"{name} is not there or empty, {number} wanted")
            continue
        if there < number or found != content(there):
            lost.append(f"{name} has {there}, {number} wanted")
    return lost


def _mount(world: World, disk: Disk, options: dict[str, bool]) -> RWVolume:
    volume = world.keep(Volume.from_name.sync("line", world.store))
    volume.mount.sync(world.path("mnt"), meta_dir=disk.path, cache_dir=disk.path / "cache", **options)
    return volume


def _forget(volume: RWVolume) -> None:
    """As a machine that comes back: no daemon, no mount, the files as they are on disk."""
    assert volume._mounting is not None
    volume._mounting.end(keep=True)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
