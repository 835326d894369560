"""Tasks of both SDKs in scratch directories: a home, a working directory and a store of their own for each test."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import fuse_mounts


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the test may do as it likes; the user's default store and cache are in it. No mount may be left in it."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("FLYTE_VOL_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    deadline = time.monotonic() + 60
    while (ending := _forgotten()) or fuse_mounts(tmp_path):
        assert time.monotonic() < deadline, (ending, fuse_mounts(tmp_path))
        time.sleep(0.05)


def _forgotten() -> list[str]:
    """Ends that are under way of volumes that a task forgot."""
    gc.collect()  # a handle that a task forgot may hang in a cycle of the event loop's
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("end of ")]


def versions_in(scratch: Path) -> list[Path]:
    """Version records in the user's default store."""
    return sorted((scratch / "home/.local/share/flytevol/volumes").glob("*/versions/*.json"))


def sessions_in(scratch: Path) -> list[Path]:
    """Volumes that are open in this process without a mount, and locks that it holds on their workspaces."""
    return sorted([*(scratch / "cache/unmounted").glob("*"), *(scratch / "cache/workspaces").glob("*")])
