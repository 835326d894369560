"""Mounts whose daemon was killed, and what is left of them."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from flyteplugins_vol.io import RWVolume
from tests.io.conftest import World
from tests.waiting import wait_for


def kill(volume: RWVolume) -> None:
    """The daemon dies as it stands; its mount goes with it."""
    os.kill(volume.status()["pid"], signal.SIGKILL)
    wait_for(lambda: volume.mount_path is None)
    assert volume._mounting is not None
    volume._mounting.forget()  # programs saw errors there until now, and no empty directory


def written(path: Path, text: str) -> None:
    with path.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def left_by_a_kill(world: World, name: str = "line") -> RWVolume:
    """A volume with one version, and a workspace with more than that."""
    volume = world.new(name)
    data = volume.mount.sync(world.path("mnt"))
    written(data / "a", "1")
    volume.commit.sync("one")
    written(data / "b", "2")
    kill(volume)
    return volume
