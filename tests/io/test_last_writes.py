"""What was answered with success while a mount ended is in the last version."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from flyteplugins_vol.errors import VolumeError
from flyteplugins_vol.history.record import VersionRecord
from flyteplugins_vol.io import RWVolume, Volume
from flyteplugins_vol.mount.live import live_mounts
from tests.io.conftest import World
from tests.waiting import wait_for

pytestmark = pytest.mark.fuse


def write_until_the_end(path: Path, began: threading.Event) -> list[str]:
    """Files one after the other, each fsynced; returns the names of those of which that was answered with success."""
    names: list[str] = []
    device = os.stat(path).st_dev
    while True:
        name = f"{len(names)}"
        try:
            fd = os.open(path / name, os.O_WRONLY | os.O_CREAT)
            try:
                if os.fstat(fd).st_dev != device:  # the directory below
                    os.unlink(path / name)
                    return names
                os.write(fd, name.encode())
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError:
            return names
        names.append(name)
        if len(names) > 50:
            began.set()


@pytest.mark.parametrize("how", ["finalize", "umount"])
def test_nothing_that_was_synced_while_it_was_finalized_is_lost(world: World, how: str) -> None:
    volume = world.new()
    path = volume.mount.sync()
    began, names = threading.Event(), list[str]()
    thread = threading.Thread(target=lambda: names.extend(write_until_the_end(path, began)))
    thread.start()
    assert began.wait(60)
    if how == "finalize":
        last = volume.finalize.sync("the end")
    else:
        (found,) = [mount for mount in live_mounts([str(world.path("cache"))]) if mount.path == str(path)]
        found.commit("the end")
        answer = found.unmount(keep=False)
        assert answer["kept"] is False
        last = world.load(str(VersionRecord.from_wire(answer["record"]).locator))
    thread.join(60)
    assert len(names) > 50
    assert {file.name for file in last.ls.sync("/")} >= set(names)
    for name in names[-20:]:
        assert last.read_bytes.sync(f"/{name}") == name.encode()
    assert not RWVolume.recoverable(str(world.path("cache")))


LOGGER = """
import os, signal, sys
from flyteplugins_vol.io import Volume
volume = Volume.from_name.sync("line", {store!r})
fd = os.open(volume.mount.sync({at!r}, autocommit=3600) / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
os.write(fd, b"one,")
volume.commit.sync()
os.write(fd, b"two")  # answered with success, and the kernel has it: the file stays open to the end
{end}
"""


@pytest.mark.parametrize("end", ["", "sys.exit(3)", "os.kill(os.getpid(), signal.SIGTERM)", "os._exit(0)"])
def test_with_autocommit_a_process_that_ends_leaves_what_its_open_files_have(world: World, end: str) -> None:
    world.new("line").finalize.sync()
    code = LOGGER.format(store=world.store, at=str(world.path("mnt")), end=end)
    subprocess.run([sys.executable, "-c", code], check=False)
    wait_for(lambda: not live_mounts([str(world.path("cache"))]) and not RWVolume.recoverable())
    last = world.keep(Volume.from_name.sync("line", world.store))
    assert last.read_bytes.sync("log") == b"one,two"
    assert last.message == "autocommit at exit"


def test_a_volume_that_nobody_writes_to_has_no_second_version(world: World) -> None:
    volume = world.new()
    path = volume.mount.sync()
    (path / "file").write_bytes(b"x")
    first = volume.commit.sync()
    assert volume.finalize.sync().locator == first.locator


def test_what_a_daemon_leaves_that_was_killed_in_the_end_is_kept(world: World) -> None:
    volume = world.new()
    path = volume.mount.sync()
    (path / "file").write_bytes(b"first")
    volume.commit.sync()
    with (path / "file").open("wb") as file:
        file.write(b"second")
        file.flush()
        os.fsync(file.fileno())
    client = volume._mounting.client
    client._daemon.kill()
    assert volume._mounting.end(keep=False) == {}
    (left,) = RWVolume.recoverable(str(world.path("cache")))
    assert left.commit.sync().read_bytes.sync("/file") == b"second"


def test_what_the_store_refuses_in_the_end_is_kept(world: World) -> None:
    volume = world.new()
    path = volume.mount.sync(timeout=5)
    (path / "file").write_bytes(b"first")
    volume.commit.sync()
    (path / "file").write_bytes(b"second")
    store, away = world.path("store"), world.path("away")
    store.rename(away)
    store.write_text("no directory")
    with pytest.raises(VolumeError):
        volume._mounting.end(keep=False)
    store.unlink()
    away.rename(store)
    (left,) = RWVolume.recoverable(str(world.path("cache")))
    assert left.commit.sync().read_bytes.sync("/file") == b"second"
