"""A workspace's lock, whose holder may remove it together with the directory."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flyteplugins_vol.errors import VolumeBusyError
from flyteplugins_vol.history.local import WorkspaceDirectory
from flyteplugins_vol.model import MountSpec
from flyteplugins_vol.mount import client, workspace_lock
from tests.mount.conftest import REPOSITORY


def test_who_opened_a_lock_that_was_then_removed_holds_the_one_that_is_there(
    spec: MountSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = Path(spec.meta_dir, "lock")
    opened, removed = workspace_lock._opened, list[int]()

    def removed_at_once(meta_dir: str) -> int:
        fd = opened(meta_dir)
        if not removed:
            WorkspaceDirectory(meta_dir).remove()
            removed.append(fd)
        return fd

    monkeypatch.setattr(workspace_lock, "_opened", removed_at_once)
    lock.parent.mkdir()
    lock.touch()
    fd = workspace_lock.hold(spec, None)
    assert removed
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
