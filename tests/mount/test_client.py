"""The beginning of a mount, well or badly, and a daemon that dies."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flyteplugins_vol.errors import (
    MountFailedError,
    MountPathError,
    NotMountedError,
    VersionNotFoundError,
    VolumeBusyError,
)
from flyteplugins_vol.model import MountSpec
from flyteplugins_vol.mount import client as client_module
from flyteplugins_vol.mount import kernel_mounts
from flyteplugins_vol.mount.client import MountClient
from flyteplugins_vol.mount.live import live_mounts
from tests.mount.conftest import (
    MEMORY_DAEMON,
    REPOSITORY,
    Mount,
    assert_gone,
    closed,
    is_mounted,
)
from tests.waiting import wait_for

pytestmark = pytest.mark.fuse


def test_from_spawn_to_unmount(mount: Mount) -> None:
    heard: list[Any] = []
    client = mount()
    pid = client.status()["pid"]
    (client.mount_path / "file").write_text("hello")
    record = client.commit("a message", heard.append)
    assert record == {"number": 1, "message": "a message", "files": 1}
    assert heard == [{"stage": "flush"}, {"stage": "frozen"}]
    assert client.is_alive
    client.unmount(keep=False)
    assert_gone(client, pid)
    assert closed(client) == "keep=False"
    assert not client.is_alive


def test_the_end_is_idempotent_and_later_requests_say_so(mount: Mount) -> None:
    client = mount()
    client.unmount()
    client.unmount()
    client.abandon()
    assert closed(client) == "keep=True"
    with pytest.raises(NotMountedError):
        client.commit()
    with pytest.raises(NotMountedError):
        client.status()


def test_a_mount_path_that_was_there_stays(mount: Mount, spec: MountSpec) -> None:
    Path(spec.mount_path).mkdir()
    client = mount()
    client.unmount()
    assert list(Path(spec.mount_path).iterdir()) == []


def test_whoever_sees_a_mount_finds_its_daemon(mount: Mount, spec: MountSpec) -> None:
    """A script that waits until the path is mounted, and then wants to commit."""
    meta_dir = Path(spec.mount_path).parent / "workspaces" / "test-0123"
    with ThreadPoolExecutor() as threads:
        mounting = threads.submit(mount, meta_dir=str(meta_dir), store_options={"slow-look": 1.0})
        wait_for(lambda: kernel_mounts.mount_at(spec.mount_path) is not None)
        (found,) = live_mounts([str(meta_dir.parents[1])])
        assert found.commit("seen")["message"] == "seen"
        assert found.path == str(mounting.result().mount_path)


def test_eight_mounts_at_once_in_one_home(spec: MountSpec, tmp_path: Path) -> None:
    from flyteplugins_vol.mount.mount_paths import claim

    def start(number: int) -> MountClient:
        place = claim(None, volume_name="data", home=str(tmp_path))
        own = replace(spec, mount_path=place.path, meta_dir=str(tmp_path / f"meta-{number}"))
        return MountClient.spawn(own, place=place, daemon=MEMORY_DAEMON)

    with ThreadPoolExecutor(8) as pool:
        clients = list(pool.map(start, range(8)))
        try:
            paths = {client.mount_path.name for client in clients}
            assert paths == {"flyte-volume", "flyte-volume-data"} | {f"flyte-volume-data-{n}" for n in range(2, 8)}
            for client in clients:
                (client.mount_path / "file").write_text(client.mount_path.name)
            assert all((client.mount_path / "file").read_text() == client.mount_path.name for client in clients)
        finally:
            list(pool.map(MountClient.abandon, clients))


def test_the_client_imports_neither_trio_nor_pyfuse3() -> None:
    script = "import sys, flyteplugins_vol.mount.client; print({'trio', 'pyfuse3', 'asyncio'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_daemons_own_error_is_the_clients(mount: Mount, spec: MountSpec) -> None:
    with pytest.raises(VersionNotFoundError, match="as asked") as raised:
        mount(store_options={"fail": "version-not-found"})
    assert raised.value.hint == "do not ask"
    assert not Path(spec.mount_path).exists()


def test_a_daemon_that_crashes_while_starting_shows_its_log(mount: Mount, spec: MountSpec) -> None:
    with pytest.raises(MountFailedError, match="died while starting") as raised:
        mount(store_options={"die": True})
    assert "Fatal Python error: Aborted" in raised.value.message
    assert f"{spec.meta_dir}/daemon.log" in raised.value.hint
    assert not Path(spec.mount_path).exists()


def test_a_daemon_that_cannot_even_start_shows_why(spec: MountSpec) -> None:
    with pytest.raises(MountFailedError, match="No module named"):
        MountClient.spawn(spec, daemon="tests.mount.no_such_daemon")


def test_a_daemon_that_says_nothing_is_given_up(mount: Mount, spec: MountSpec) -> None:
    with pytest.raises(MountFailedError, match=r"said nothing for 1 s"):
        mount(timeout=1.0, store_options={"hang": True})
    assert not Path(spec.mount_path).exists()


def test_a_volume_is_mounted_for_writing_once(mount: Mount, spec: MountSpec, tmp_path: Path) -> None:
    client = mount()
    with pytest.raises(VolumeBusyError) as raised:
        mount(mount_path=str(tmp_path / "second"))
    assert str(client.mount_path) in raised.value.message
    assert f"by process {os.getpid()}" in raised.value.message
    mount(mount_path=str(tmp_path / "reader"), read_only=True)
    client.unmount()
    mount(mount_path=str(tmp_path / "third"))


def test_a_path_is_mounted_on_once(mount: Mount, tmp_path: Path) -> None:
    mount()
    with pytest.raises(MountPathError):
        mount(meta_dir=str(tmp_path / "other"))


def test_nothing_of_the_credentials_is_seen(mount: Mount) -> None:
    client = mount(store_options={"config": {"secret_access_key": "hunter2hunter2"}, "fail-log": "hunter2hunter2"})
    pid = client.status()["pid"]
    for name in ("cmdline", "environ"):
        assert b"hunter2" not in Path(f"/proc/{pid}/{name}").read_bytes()
    log = Path(client.spec.log_path or "")
    assert "hunter2" not in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600


def test_the_death_of_the_daemon_is_seen_at_once_with_its_log(mount: Mount) -> None:
    client = mount()
    os.kill(client.status()["pid"], signal.SIGSEGV)
    with pytest.raises(MountFailedError, match="has died") as raised:
        client.commit()
    assert "Segmentation fault" in raised.value.message
    assert not client.is_alive
    client.unmount()
    assert not is_mounted(client)
    assert not client.mount_path.exists()


def test_a_commit_under_way_sees_the_death_of_the_daemon(mount: Mount) -> None:
    client = mount(store_options={"hang-in-commit": True})
    pid = client.status()["pid"]
    with pytest.raises(MountFailedError, match="has died"):
        client.commit(None, lambda event: os.kill(pid, signal.SIGKILL) if event["stage"] == "frozen" else None)


def test_what_a_killed_daemon_left_is_replaced(mount: Mount, spec: MountSpec) -> None:
    first = mount()
    os.kill(first.status()["pid"], signal.SIGKILL)
    wait_for(lambda: not first.is_alive)
    assert is_mounted(first)
    first._place.release()  # as if its client were gone as well
    second = mount()
    (second.mount_path / "file").write_text("works")


def test_a_daemon_whose_directory_was_removed_is_not_called_dead(mount: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by ``rm -rf ~/.cache``: nobody can ask it for anything any more."""
    monkeypatch.setattr(client_module, "_END_SECONDS", 1000.0)
    client = mount()
    pid = client.status()["pid"]
    shutil.rmtree(client.spec.meta_dir)
    with pytest.raises(MountFailedError, match="somebody has removed"):
        client.commit()
    assert is_mounted(client)
    client.abandon()
    assert_gone(client, pid)
