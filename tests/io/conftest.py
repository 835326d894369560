"""Volumes for tests of the public types: real stores, real mounts, nothing left behind."""

from __future__ import annotations

import dataclasses
import gc
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from flyteplugins_vol.io import ROVolume, RWVolume, Volume
from tests.io.two_mounts import Pair

ROOT = Path(__file__).parents[2]


@dataclasses.dataclass
class World:
    """A store, local directories, and every handle that a test made."""

    root: Path
    store: str
    handles: list[Volume]

    def new(self, name: str = "demo", store: str | None = None) -> RWVolume:
        return self.keep(Volume.new(name, store or self.store))

    def keep(self, volume):
        self.handles.append(volume)
        return volume

    def load(self, locator: str | None) -> ROVolume:
        assert locator is not None
        return self.keep(Volume.from_locator.sync(locator))

    def path(self, name: str) -> Path:
        return self.root / name

    def forget_caches(self) -> None:
        """Whatever is read next comes from the store."""
        shutil.rmtree(self.root / "cache", ignore_errors=True)

    def objects(self, kind: str) -> list[Path]:
        """Files of a file:// store below ``packs``, ``index`` or ``volumes``, but for leases."""
        found = (path for path in (self.root / "store" / kind).rglob("*") if path.is_file())
        return sorted(path for path in found if path.name != "lease.json")

    @property
    def live(self) -> list[Volume]:
        return [handle for handle in self.handles if handle.mount_path is not None]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("FLYTE_VOL_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    world = World(tmp_path, f"file://{tmp_path}/store", [])
    yield world
    for handle in world.live:
        handle.abandon.sync()


@pytest.fixture
def no_open_files() -> Iterator[None]:
    """Files of a failed test must not keep its mounts busy."""
    yield
    gc.collect()


@pytest.fixture
def pair(no_open_files: None, world: World) -> Pair:
    return Pair(world)


@pytest.fixture(params=["unmounted", pytest.param("mounted", marks=pytest.mark.fuse)])
def volume(request: pytest.FixtureRequest, world: World) -> Iterator[RWVolume]:
    """A volume to write to: in this process, or through a mount."""
    volume = world.new("files")
    if request.param == "mounted":
        volume.mount.sync(world.path("mnt"))
    yield volume
    volume.abandon.sync()


def names(volume: Volume, path: str = "/", **options) -> list[str]:
    """Paths of what is in a directory."""
    return [info.path for info in volume.ls.sync(path, **options)]


def committed(world: World, *messages: str) -> RWVolume:
    """A volume with a version for each message."""
    volume = world.new()
    for message in messages:
        commit(volume, message)
    return volume


def commit(volume: RWVolume, message: str) -> None:
    """Publish a version, which has its message in a file as well."""
    volume.write_bytes.sync("a", message.encode())
    volume.commit.sync(message)


def run_elsewhere(system: str, world: World, code: str) -> None:
    """Run code, which finds the store's URL as ``STORE``, as on another system: see `elsewhere`."""
    head = f"from tests.io.elsewhere import pretend\npretend({system!r})\nSTORE = {world.store!r}\n"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FLYTE_VOL_STORE": world.store}
    command = [sys.executable, "-W", "error", "-c", head + textwrap.dedent(code)]
    done = subprocess.run(command, env=environment, cwd=world.root, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
