"""What lies on local disk is this user's alone, and no link leads a write elsewhere."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from flyteplugins_vol.errors import LocalDirectoryError
from flyteplugins_vol.history.local import WorkspaceDirectory
from flyteplugins_vol.io import Volume
from flyteplugins_vol.model import MountSpec
from flyteplugins_vol.mount import control_server, workspace_lock
from flyteplugins_vol.mount.client import MountClient
from flyteplugins_vol.mount.preflight import check_directory
from flyteplugins_vol.portable import make_private, private_directory


@pytest.fixture(autouse=True)
def _open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache root that is not there yet, nor what is above it."""
    root = tmp_path / "above" / "cache"
    monkeypatch.setenv("FLYTE_VOL_CACHE_DIR", str(root))
    return root


def assert_private(root: Path) -> None:
    found = [root.parent, root, *root.rglob("*")]
    assert len(found) > 8
    for path in found:
        status = path.lstat()
        wanted = 0o700 if stat.S_ISDIR(status.st_mode) else 0o600
        assert stat.S_IMODE(status.st_mode) == wanted, (path, oct(status.st_mode))
        assert status.st_uid == os.geteuid()


def test_files_without_a_mount(root: Path, tmp_path: Path) -> None:
    volume = Volume.new("private", f"file://{tmp_path}/store")
    volume.write_bytes.sync("/a", b"x" * 100_000)
    volume.commit.sync("one")
    volume.write_bytes.sync("/b", b"y" * 100_000)
    assert_private(root)
    reader = Volume.from_name.sync("private", f"file://{tmp_path}/store")
    assert reader.read_bytes.sync("/a") == b"x" * 100_000
    assert_private(root)


@pytest.mark.fuse
def test_files_and_socket_of_a_mount(root: Path, tmp_path: Path) -> None:
    volume = Volume.new("private", f"file://{tmp_path}/store")
    where = volume.mount.sync(tmp_path / "mnt")
    try:
        (where / "a").write_bytes(b"x" * 100_000)
        volume.commit.sync("one")
        (where / "b").write_bytes(b"x" * 100_000)
        assert_private(root)
        assert any(path.is_socket() for path in root.rglob("*"))
        (line,) = (line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(where) in line)
        assert {"nosuid", "nodev"} <= set(line.split()[5].split(","))
    finally:
        volume.abandon.sync()


def test_directories_are_made_private_with_all_above_them(tmp_path: Path) -> None:
    make_private(str(tmp_path / "a" / "b" / "c"))
    assert [stat.S_IMODE(path.stat().st_mode) for path in sorted((tmp_path / "a").rglob("*"))] == [0o700, 0o700]
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError):
        make_private(str(tmp_path / "file" / "below"))
    with pytest.raises(FileExistsError):
        make_private(str(tmp_path / "file"))


def test_rights_of_others_are_taken_away_where_the_name_is_ours(tmp_path: Path) -> None:
    for ours, left in ((True, 0o700), (False, 0o777)):
        path = tmp_path / str(ours)
        path.mkdir(0o777)
        private_directory(str(path), ours=ours)
        assert stat.S_IMODE(path.stat().st_mode) == left


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_somebody_else_is_refused(root: Path, tmp_path: Path) -> None:
    """Who owned it could put an index there, with hashes that fit."""
    (root / "cache" / "index").mkdir(parents=True)
    os.chown(root / "cache" / "index", 1234, 1234)
    volume = Volume.new("private", f"file://{tmp_path}/store")
    with pytest.raises(LocalDirectoryError, match="belongs to user 1234"):
        volume.write_bytes.sync("/a", b"x")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give a link away")
@pytest.mark.parametrize("name", ["cache/index", "cache/blocks", "workspaces", "unmounted"])
def test_a_link_of_somebody_else_is_refused(root: Path, tmp_path: Path, name: str) -> None:
    """In a cache directory that others can write to; it could lead to a directory of ours for something else."""
    precious = tmp_path / "precious"
    precious.mkdir(0o755)
    databases = [precious / f"{number}.db" for number in range(20)]
    for path in databases:
        path.write_bytes(b"of mine")
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).symlink_to(precious)
    os.lchown(root / name, 1234, 1234)
    volume = Volume.new("private", f"file://{tmp_path}/store")
    if name == "workspaces":
        with pytest.raises(LocalDirectoryError, match="was put there by user 1234"):
            check_directory(str(root / "workspaces" / "x"), "staging")
    with pytest.raises(LocalDirectoryError, match="was put there by user 1234"):
        volume.write_bytes.sync("/a", b"x")
        WorkspaceDirectory(str(root / "workspaces" / "x"))
        volume.commit.sync()
    assert stat.S_IMODE(precious.stat().st_mode) == 0o755
    assert sorted(precious.iterdir()) == sorted(databases)
    os.unlink(root / name)
    (root / name).symlink_to(precious)  # one of our own is followed: a cache may well lie on another disk
    WorkspaceDirectory(str(root / "workspaces" / "x"))
    volume.close.sync()


def test_a_link_where_the_socket_goes_is_replaced_and_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"of somebody")
    (tmp_path / "control").mkdir()
    path = tmp_path / "control" / "5.sock"
    path.symlink_to(elsewhere)
    listening = control_server.Listening(str(path))
    assert stat.S_ISSOCK(path.lstat().st_mode)
    assert stat.S_IMODE(path.lstat().st_mode) == 0o600
    assert elsewhere.read_bytes() == b"of somebody"
    listening.close()
    assert not path.is_symlink()


@pytest.mark.fuse
def test_a_link_where_log_or_lock_go_is_refused(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"of somebody")
    spec = MountSpec(
        "0" * 16, "x", "memory://x", str(tmp_path / "mnt"), str(tmp_path / "meta"), str(tmp_path / "cache")
    )
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "lock").symlink_to(elsewhere)
    with pytest.raises(OSError):
        workspace_lock.hold(spec, None)
    (tmp_path / "meta" / "daemon.log").symlink_to(elsewhere)
    with pytest.raises(LocalDirectoryError, match="symbolic links"):
        MountClient.spawn(spec)
    assert elsewhere.read_bytes() == b"of somebody"


def test_another_user_is_not_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)

    class Stream:
        def __init__(self, end: socket.socket) -> None:
            self.socket = end

    with ours, theirs:
        assert control_server._is_allowed(Stream(ours))  # type: ignore[arg-type]
        monkeypatch.setattr(os, "geteuid", lambda: 1234)
        allowed = control_server._is_allowed(Stream(ours))  # type: ignore[arg-type]
        assert allowed == (os.getuid() == 0)  # root may, as everywhere
