"""How a mount ends, for each cause: what is kept, committed or dropped, and who is waited for."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from flyteplugins_vol.errors import (
    CommitError,
    NotMountedError,
)
from flyteplugins_vol.model import MountSpec
from flyteplugins_vol.mount import kernel_mounts
from flyteplugins_vol.mount.client import MountClient
from flyteplugins_vol.mount.control import request
from tests.mount.conftest import (
    Mount,
    assert_gone,
    closed,
    committed,
    is_running,
)
from tests.waiting import wait_for

pytestmark = pytest.mark.fuse


def test_abandon_drops_what_was_not_committed(mount: Mount) -> None:
    client = mount()
    pid = client.status()["pid"]
    (client.mount_path / "file").write_text("hello")
    client.abandon()
    assert_gone(client, pid)
    assert closed(client) == "abandoned"


def test_abandon_does_not_wait_for_a_commit_that_hangs(mount: Mount) -> None:
    client = mount(store_options={"hang-in-commit": True})
    pid = client.status()["pid"]
    frozen = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        commit = pool.submit(client.commit, None, lambda event: frozen.set() if event["stage"] == "frozen" else None)
        assert frozen.wait(20)
        client.abandon()
        with pytest.raises(NotMountedError):
            commit.result(20)
    assert_gone(client, pid)


@pytest.mark.parametrize("end", ["unmount", "abandon"])
def test_a_mount_in_use_is_detached(mount: Mount, end: str) -> None:
    client = mount()
    pid = client.status()["pid"]
    file = (client.mount_path / "file").open("wb", buffering=0)
    file.write(b"dirty")
    getattr(client, end)()
    assert_gone(client, pid)
    with pytest.raises(OSError):
        os.fsync(file.fileno())
    try:
        file.close()
    except OSError:
        pass


def test_what_an_open_file_has_is_kept_when_the_mount_is_detached(mount: Mount) -> None:
    client = mount(store_options={"keep-tree": True})
    file = (client.mount_path / "file").open("wb", buffering=0)
    file.write(b"dirty")
    client.unmount(keep=True)
    assert (Path(client.spec.meta_dir) / "tree").read_text() == "{'file': 'ZGlydHk='}"
    try:
        file.close()
    except OSError:
        pass


def test_a_mount_that_was_unmounted_from_outside(mount: Mount) -> None:
    client = mount()
    pid = client.status()["pid"]
    kernel_mounts.unmount(str(client.mount_path))
    wait_for(lambda: not is_running(pid))
    assert closed(client) == "keep=True"
    client.unmount()
    assert_gone(client, pid)


@pytest.fixture
def overtaken(mount: Mount, spec: MountSpec) -> Iterator[tuple[MountClient, MountClient]]:
    """A mount that was ended from outside, with a commit that hangs, and another one that has the same path by now."""
    first = mount(store_options={"hang-in-commit": True})
    frozen = threading.Event()
    ask = {"request": "commit", "message": None}
    commit = threading.Thread(target=lambda: _suppressed(request, first._control, ask, lambda _: frozen.set(), None))
    commit.start()
    assert frozen.wait(20)
    kernel_mounts.unmount(spec.mount_path, lazy=True)
    os.rmdir(spec.mount_path)
    second = mount(meta_dir=f"{spec.meta_dir}-2")
    assert second.mount_path == first.mount_path
    (second.mount_path / "file").write_text("hello")
    yield first, second
    first.abandon()
    commit.join(20)


def _suppressed(function: Callable[..., Any], *args: Any) -> None:
    try:
        function(*args)
    except Exception:
        pass


def test_the_end_of_a_daemon_leaves_another_mount_at_its_path_alone(
    overtaken: tuple[MountClient, MountClient],
) -> None:
    first, second = overtaken
    pid = int(Path(first._control).stem)
    request(first._control, {"request": "abandon"}, None, 20)
    wait_for(lambda: not is_running(pid))
    assert (second.mount_path / "file").read_text() == "hello"
    assert second.commit()["number"] == 1


@pytest.mark.parametrize("how", ["abandon", "unmount"])
def test_the_end_of_a_client_leaves_another_mount_at_its_path_alone(
    overtaken: tuple[MountClient, MountClient], how: str
) -> None:
    first, second = overtaken
    os.kill(int(Path(first._control).stem), signal.SIGKILL)
    getattr(first, how)()
    assert (second.mount_path / "file").read_text() == "hello"
    assert second.commit()["number"] == 1
    second.unmount()
    assert not second.mount_path.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("autocommit", [None, 3600.0])
def test_a_signal_keeps_or_commits(mount: Mount, number: int, autocommit: float | None) -> None:
    client = mount(autocommit=autocommit)
    pid = client.status()["pid"]
    (client.mount_path / "file").write_text("hello")
    os.kill(pid, number)
    wait_for(lambda: not is_running(pid))
    assert closed(client) == "keep=True"
    if autocommit:
        assert committed(client)["tree"] == {"file": "aGVsbG8="}
    else:
        assert not Path(client.spec.meta_dir, "commit-1.json").exists()
    client.unmount()
    assert_gone(client, pid)


def test_a_store_that_hangs_does_not_hold_up_the_end(mount: Mount) -> None:
    client = mount(autocommit=3600.0, store_options={"hang-in-commit": True, "hurry": True})
    pid = client.status()["pid"]
    (client.mount_path / "file").write_text("hello")
    os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not is_running(pid))
    assert closed(client) == "keep=True"
    assert "is given up: what was written is kept" in Path(client.spec.log_path or "").read_text()
    client.unmount()
    assert_gone(client, pid)


def test_a_store_that_hangs_while_the_rest_is_published_is_an_error_and_the_rest_is_kept(mount: Mount) -> None:
    client = mount(store_options={"hang-in-commit": True, "hurry": True})
    pid = client.status()["pid"]
    (client.mount_path / "file").write_text("hello")
    with pytest.raises(CommitError, match="after the last commit could not be published") as caught:
        client.unmount(keep=False)
    assert "it is kept" in caught.value.hint
    wait_for(lambda: not is_running(pid))
    assert closed(client) == "keep=True"


def test_a_disk_that_fails_while_the_rest_is_published_is_an_error_and_the_rest_is_kept(mount: Mount) -> None:
    client = mount(store_options={"disk-fails": True})
    (client.mount_path / "file").write_text("hello")
    with pytest.raises(CommitError, match="in no version"):
        client.unmount(keep=False)
    assert closed(client) == "keep=True"


@pytest.mark.parametrize("how", ["leave", "unmount"])
def test_only_who_leaves_has_autocommit_publish(mount: Mount, how: str) -> None:
    client = mount(autocommit=3600.0)
    (client.mount_path / "file").write_text("hello")
    getattr(client, how)()
    assert Path(client.spec.meta_dir, "commit-1.json").exists() == (how == "leave")
    assert closed(client) == "keep=True"


def test_what_an_earlier_process_left_is_published_with_the_rest(mount: Mount) -> None:
    client = mount(autocommit=3600.0, store_options={"resumed": True})
    client.leave()
    assert Path(client.spec.meta_dir, "commit-1.json").exists()


@pytest.mark.parametrize("how", ["leave", "terminate"])
def test_what_comes_after_the_commit_at_exit_is_published_too(mount: Mount, how: str) -> None:
    client = mount(autocommit=3600.0, store_options={"write-after-commit": 1})
    pid = client.status()["pid"]
    (client.mount_path / "file").write_text("hello")
    if how == "leave":
        client.leave()
    else:
        os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not is_running(pid))
    assert committed(client)["tree"] == {"file": "aGVsbG8="}
    assert committed(client, 2)["tree"] == {"file": "aGVsbG8=", "late": "bGF0ZQ=="}
    assert committed(client, 2)["message"] == "autocommit at exit"
    assert not Path(client.spec.meta_dir, "commit-3.json").exists()
    assert closed(client) == "keep=True"


def test_nothing_comes_after_the_commit_at_exit_if_nobody_writes(mount: Mount) -> None:
    client = mount(autocommit=3600.0)
    (client.mount_path / "file").write_text("hello")
    client.leave()
    assert committed(client)["message"] == "autocommit at exit"
    assert not Path(client.spec.meta_dir, "commit-2.json").exists()
