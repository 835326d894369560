"""Mounts for the tests of the mount layer: of a daemon whose workspace is in memory, always unmounted again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from flyteplugins_vol.config import DRIVER_VARIABLE
from flyteplugins_vol.errors import VolumeError
from flyteplugins_vol.model import MountSpec
from flyteplugins_vol.mount import kernel_mounts
from flyteplugins_vol.mount.client import MountClient

DRIVERS = ("wire", "pyfuse3") if find_spec("pyfuse3") else ("wire",)

MEMORY_DAEMON = "tests.mount.memory_daemon"

REPOSITORY = Path(__file__).parents[2]

Mount = Callable[..., MountClient]


@pytest.fixture
def spec(tmp_path: Path) -> MountSpec:
    """A mount of its own, in directories of its own."""
    return MountSpec(
        volume_id="0123456789abcdef",
        volume_name="test",
        store_url="memory://test",
        mount_path=str(tmp_path / "mnt"),
        meta_dir=str(tmp_path / "meta"),
        cache_dir=str(tmp_path / "cache"),
        timeout=30.0,
    )


@pytest.fixture
def driver() -> str:
    """The way to the kernel; modules whose tests are about it run over every one."""
    return "wire"


@pytest.fixture
def mount(spec: MountSpec, driver: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mount]:
    """Mount ``spec`` with changes; whatever happens, it is unmounted at the end of the test."""
    monkeypatch.setenv(DRIVER_VARIABLE, driver)
    with ExitStack() as mounts:

        def start(**changes: Any) -> MountClient:
            client = MountClient.spawn(replace(spec, **changes), daemon=MEMORY_DAEMON)
            mounts.callback(_abandon, client)
            return client

        yield start


def _abandon(client: MountClient) -> None:
    with suppress(VolumeError):
        client.abandon()


def committed(client: MountClient, number: int = 1) -> dict[str, Any]:
    """What the memory daemon's commit has published."""
    return json.loads(Path(client.spec.meta_dir, f"commit-{number}.json").read_text())


def closed(client: MountClient) -> str:
    """How the session of an ended mount was closed."""
    return Path(client.spec.meta_dir, "closed").read_text()


def is_mounted(client: MountClient) -> bool:
    return kernel_mounts.mount_at(str(client.mount_path)) is not None


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def assert_gone(client: MountClient, pid: int) -> None:
    assert not is_running(pid)
    assert not is_mounted(client)
    assert not client.mount_path.exists()
