"""A store for the file system tests, and volumes in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flyteplugins_vol.fs import VolumeFileSystem
from flyteplugins_vol.io import RWVolume, Volume


@pytest.fixture
def volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RWVolume]:
    """A new volume ``data`` in the default store."""
    monkeypatch.setenv("FLYTE_VOL_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("FLYTE_VOL_STORE", f"file://{tmp_path}/store")
    made = Volume.new("data")
    yield made
    made.abandon.sync()
    for fs in VolumeFileSystem._cache.values():
        if fs._opened is not None:
            fs._opened.close.sync()
    VolumeFileSystem.clear_instance_cache()
