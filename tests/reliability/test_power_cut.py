"""A power cut, for real: the local state lies on an XFS image that is shut down under a busy mount.

``xfs_io -x -c shutdown`` drops everything that is not on disk yet. What fsync and rename had answered before must be
there when the image is mounted again and the workspace is resumed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flyteplugins_vol.io import RWVolume, Volume
from tests.io.conftest import World

pytestmark = [
    pytest.mark.fuse,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounts an XFS image: needs root"),
    pytest.mark.skipif(shutil.which("xfs_io") is None, reason="needs the package xfsprogs"),
]

WRITERS = 4
ROUNDS = int(os.environ.get("POWER_CUTS", "2"))
SECONDS = float(os.environ.get("POWER_CUT_SECONDS", "4"))


class Disk:
    """An XFS image on a loop device that can lose its power."""

    def __init__(self, root: Path) -> None:
        self.image = root / "disk.img"
        self.path = root / "disk"
        self.path.mkdir()
        with open(self.image, "wb") as file:
            file.truncate(2 << 30)
        _run("mkfs.xfs", "-q", str(self.image))
        self.plug_in()

    def plug_in(self) -> None:
        _run("mount", "-o", "loop", str(self.image), str(self.path))

    def cut(self) -> None:
        _run("xfs_io", "-x", "-c", "shutdown", str(self.path))

    def unplug(self) -> None:
        deadline = time.monotonic() + 20
        while subprocess.run(["umount", str(self.path)], capture_output=True, check=False).returncode:
            if time.monotonic() > deadline:
                _run("umount", "-l", str(self.path))
                return
            time.sleep(0.05)
        while subprocess.run(["losetup", "-j", str(self.image)], capture_output=True, check=False).stdout:
            assert time.monotonic() < deadline, "somebody still holds the image"
            time.sleep(0.05)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path)
    yield disk
    if os.path.ismount(disk.path):
        disk.unplug()


class Writer(threading.Thread):
    """Writes files one after the other, each made durable and then named; ``acknowledged`` is what it was promised."""

    def __init__(self, root: Path, number: int) -> None:
        super().__init__(daemon=True)
        self.directory = root / f"w{number}"
        self.directory.mkdir()
        self.acknowledged: dict[str, bytes] = {}

    def run(self) -> None:
        try:
            directory = os.open(self.directory, os.O_RDONLY)
            for number in range(1_000_000):
                content = b"%d " % number * (1 + number * 37 % 700)
                with open(self.directory / "new", "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                name = f"f{number % 500}"  # names come again: a rename over a file must be the old or the new one
                os.rename(self.directory / "new", self.directory / name)
                os.fsync(directory)
                self.acknowledged[f"{self.directory.name}/{name}"] = content
        except OSError:
            return  # the power is gone


@pytest.mark.parametrize("writeback", [True, False])
def test_nothing_acknowledged_is_lost(world: World, disk: Disk, writeback: bool) -> None:
    with world.new("line").mounted(world.path("mnt"), meta_dir=disk.path, cache_dir=disk.path / "cache") as path:
        (path / "start").write_text("start")
    total = 0
    for _ in range(ROUNDS):
        volume = _mount(world, disk, writeback)
        assert volume.mount_path is not None
        writers = [Writer(volume.mount_path, number) for number in range(WRITERS) if _fresh(volume, number)]
        for writer in writers:
            writer.start()
        time.sleep(SECONDS)
        daemon = volume.status()["pid"]
        disk.cut()
        os.kill(daemon, signal.SIGKILL)
        for writer in writers:
            writer.join(20)
        _forget(volume)
        disk.unplug()
        disk.plug_in()

        volume = _mount(world, disk, writeback)
        assert volume.mount_path is not None
        for writer in writers:
            for name, content in writer.acknowledged.items():
                found = (volume.mount_path / name).read_bytes()
                # the rename that was under way when the power went may have happened too
                assert found == content or _later(found, content), name
            total += len(writer.acknowledged)
        version = volume.commit.sync("after the power cut")
        assert version.locator is not None
        volume.finalize.sync()
    assert total > 100 * ROUNDS
    print(f"{total} names acknowledged in {ROUNDS} rounds, none lost")


def _fresh(volume: RWVolume, number: int) -> bool:
    assert volume.mount_path is not None
    shutil.rmtree(volume.mount_path / f"w{number}", ignore_errors=True)
    return True


def _later(found: bytes, content: bytes) -> bool:
    def number(data: bytes) -> int:
        return int(data.split(b" ", 1)[0])

    return number(found) > number(content) and found == b"%d " % number(found) * (1 + number(found) * 37 % 700)


def _mount(world: World, disk: Disk, writeback: bool) -> RWVolume:
    volume = world.keep(Volume.from_name.sync("line", world.store))
    volume.mount.sync(world.path("mnt"), meta_dir=disk.path, cache_dir=disk.path / "cache", writeback=writeback)
    return volume


def _forget(volume: RWVolume) -> None:
    """As a machine that comes back: no daemon, no mount, the files as they are on disk."""
    assert volume._mounting is not None
    volume._mounting.end(keep=True)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
