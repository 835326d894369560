"""A workspace's lock, whose holder may remove it together with the directory."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flyteplugins_vol.errors import VolumeBusyError
from flyteplugins_vol.history.local import WorkspaceDirectory
from flyteplugins_vol.model import MountSpec
from flyteplugins_vol.mount import client, workspace_lock
from tests.mount.test_client import REPOSITORY, until


def opened(path: Path) -> int:
    """How often this process has a file open."""
    found = 0
    for fd in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{fd}").startswith(str(path))
        except FileNotFoundError:
            pass
    return found


def someone_waits(lock: Path, wait: Callable[[], Any]) -> Any:
    """What ``wait`` returns, whose lock was removed, and the directory made anew, after it had opened it."""
    meta = lock.parent
    meta.mkdir()
    lock.touch()
    with lock.open() as looked, ThreadPoolExecutor(1) as pool:
        fcntl.flock(looked, fcntl.LOCK_SH)  # so whoever wants it for himself has to wait
        waits = pool.submit(wait)
        until(lambda: opened(lock) == 2)
        WorkspaceDirectory(str(meta)).remove()
        assert not meta.exists()
        fcntl.flock(looked, fcntl.LOCK_UN)
        return waits.result(20)


def test_who_waited_for_a_lock_that_was_removed_holds_the_one_that_is_there(spec: MountSpec) -> None:
    lock = Path(spec.meta_dir, "lock")
    fd = someone_waits(lock, lambda: workspace_lock.hold(spec, None))
    assert os.path.samestat(os.fstat(fd), lock.stat())
    with pytest.raises(VolumeBusyError):
        workspace_lock.hold(spec, None)
    with workspace_lock.looking_at(spec.meta_dir) as nobody_has_it:
        assert not nobody_has_it
    os.close(fd)


def test_the_lock_goes_last(spec: MountSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as anything is left to be removed, nobody else gets in."""
    fd = workspace_lock.hold(spec, None)
    directory = WorkspaceDirectory(spec.meta_dir)
    for name in ("a", "index.db", "lost-writes.json", "z"):
        Path(spec.meta_dir, name).touch()
    for name in ("control", "staging", "zz"):
        Path(spec.meta_dir, name).mkdir()
    Path(spec.meta_dir, "link").symlink_to("/")
    left: list[set[str]] = []
    unlink = os.unlink

    def seen(path: Any, **how: Any) -> None:
        if str(path) == f"{spec.meta_dir}/lock":
            left.append(set(os.listdir(spec.meta_dir)))
        unlink(path, **how)

    monkeypatch.setattr(os, "unlink", seen)
    directory.remove()
    os.close(fd)
    assert left == [{"lock"}]
    assert not Path(spec.meta_dir).exists()
    assert os.listdir("/")


def test_only_the_last_holder_is_dropped(spec: MountSpec) -> None:
    mine = replace(spec, mount_id="mine")
    assert not workspace_lock.drop(spec.meta_dir, "mine"), "there is nothing"
    fd = workspace_lock.hold(mine, None)
    assert not workspace_lock.drop(spec.meta_dir, "mine"), "it is held"
    os.close(fd)
    for other in (replace(spec, mount_id="another"), spec):
        os.close(workspace_lock.hold(other, None))
        for mount_id in ("mine", ""):
            assert not workspace_lock.drop(spec.meta_dir, mount_id)
    fd = workspace_lock.hold(mine, None)
    workspace_lock.forget(fd)
    os.close(fd)
    assert not workspace_lock.drop(spec.meta_dir, "mine"), "it ended in order"
    os.close(workspace_lock.hold(mine, None))
    Path(spec.meta_dir, "index.db").touch()
    assert workspace_lock.drop(spec.meta_dir, "mine")
    assert not Path(spec.meta_dir).exists()


def test_a_log_is_opened_though_the_directory_went_this_moment(spec: MountSpec, tmp_path: Path) -> None:
    log = Path(spec.meta_dir, "daemon.log")
    os.close(client._opened_log(replace(spec, log_path=str(log))))
    assert log.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileNotFoundError):
        client._opened_log(replace(spec, log_path=str(tmp_path / "nowhere" / "log")))


def test_a_daemon_whose_log_was_removed_goes_on_in_the_one_that_is_there(tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = """
import os, sys
from flyteplugins_vol.mount import logs
logs.stay_at(sys.argv[1])
print("one", file=sys.stderr, flush=True)
os.unlink(sys.argv[1])
logs.stay_at(sys.argv[1])
print("two", file=sys.stderr, flush=True)
print("three", flush=True)
"""
    with log.open("a") as file:
        subprocess.run([sys.executable, "-c", code, log], stdout=file, stderr=file, cwd=REPOSITORY, check=True)
    assert log.read_text() == "two\nthree\n"
    assert log.stat().st_mode & 0o777 == 0o600
