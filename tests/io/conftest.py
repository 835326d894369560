"""Volumes for tests of the public types: real stores, real mounts, nothing left behind."""

from __future__ import annotations

import dataclasses
import gc
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from flyteplugins_vol.io import ROVolume, RWVolume, Volume
from tests.io.two_mounts import Pair


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
