from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from flyteplugins_vol.errors import FuseMissingError, FusermountError, LocalDirectoryError, MountPathError
from flyteplugins_vol.model import MountSpec
from flyteplugins_vol.mount import preflight
from tests.mount.conftest import REPOSITORY

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")


def test_a_missing_device(tmp_path: Path) -> None:
    with pytest.raises(FuseMissingError, match="there is no") as raised:
        preflight.check_device(str(tmp_path / "fuse"))
    assert "--device /dev/fuse" in raised.value.hint


def test_a_device_that_may_not_be_opened(tmp_path: Path) -> None:
    with pytest.raises(FuseMissingError, match="cannot be opened"):
        preflight.check_device(str(tmp_path))  # a directory cannot be opened for writing, by root neither


def test_a_missing_fusermount() -> None:
    with pytest.raises(FusermountError, match="there is no no-such-fusermount") as raised:
        preflight.check_fusermount("no-such-fusermount", euid=1000)
    assert "fuse3" in raised.value.hint


def test_root_needs_no_fusermount() -> None:
    preflight.check_fusermount("no-such-fusermount", euid=0)


def test_a_fusermount_that_is_not_setuid(tmp_path: Path) -> None:
    program = tmp_path / "fusermount3"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    with pytest.raises(FusermountError, match="not setuid root") as raised:
        preflight.check_fusermount(str(program), euid=1000)
    assert f"chmod u+s {program}" in raised.value.hint


@as_root
def test_a_fusermount_as_it_should_be(tmp_path: Path) -> None:
    program = tmp_path / "fusermount3"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o4755)
    preflight.check_fusermount(str(program), euid=1000)


@pytest.mark.parametrize(
    ("content", "allowed"),
    [("user_allow_other\n", True), ("  user_allow_other  \n", True), ("#user_allow_other\n", False), ("", False)],
)
def test_allow_other_of_an_ordinary_user(tmp_path: Path, content: str, allowed: bool) -> None:
    configuration = tmp_path / "fuse.conf"
    configuration.write_text(content)
    preflight.check_allow_other(str(configuration), euid=0)
    if allowed:
        preflight.check_allow_other(str(configuration), euid=1000)
        return
    with pytest.raises(FusermountError, match="allow_other"):
        preflight.check_allow_other(str(configuration), euid=1000)


def test_a_missing_directory_is_made_private(tmp_path: Path) -> None:
    preflight.check_directory(str(tmp_path / "a" / "b"), "cache")
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_a_directory_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in ("file", "file/below"):
        with pytest.raises(LocalDirectoryError, match="cannot be made"):
            preflight.check_directory(str(tmp_path / path), "cache")


def test_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(LocalDirectoryError, match="MiB free"):
        preflight.check_directory(str(tmp_path), "cache", least_free=1 << 60)


def test_a_read_only_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = SimpleNamespace(f_flag=os.ST_RDONLY, f_bavail=1 << 40, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda path: sizes)
    with pytest.raises(LocalDirectoryError, match="read-only"):
        preflight.check_directory(str(tmp_path), "cache")


@as_root
def test_an_unwritable_directory_of_an_ordinary_user(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    script = f"""
import os, sys
sys.path.insert(0, {str(REPOSITORY)!r})
from flyteplugins_vol.errors import LocalDirectoryError
from flyteplugins_vol.mount import preflight
os.setresuid(1000, 1000, 1000)
for path in ({str(tmp_path)!r}, {str(tmp_path / "below")!r}):
    try:
        preflight.check_directory(path, "cache")
    except LocalDirectoryError as error:
        print(error.message)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == 2, done.stderr


@pytest.mark.fuse
def test_all_that_a_mount_needs(spec: MountSpec) -> None:
    preflight.check(spec)
    preflight.check(replace(spec, allow_other=os.geteuid() == 0))
    assert Path(spec.meta_dir).is_dir()
    assert Path(spec.cache_dir).is_dir()


@pytest.mark.parametrize("what", ["meta_dir", "cache_dir", "log_path", "store_url"])
def test_a_mount_does_not_hide_what_its_daemon_needs(spec: MountSpec, what: str) -> None:
    """A link leads there, too; a name that only begins alike does not."""
    Path(spec.mount_path).mkdir()
    Path(spec.mount_path + "-link").symlink_to(spec.mount_path)
    scheme = "file://" if what == "store_url" else ""
    preflight.check_apart(replace(spec, **{what: f"{scheme}{spec.mount_path}-2/x"}))
    for below in ("", "/x", "-link", "-link/x/y"):
        with pytest.raises(MountPathError, match=f"the mount path {spec.mount_path} would hide the") as caught:
            preflight.check_apart(replace(spec, **{what: f"{scheme}{spec.mount_path}{below}"}))
        assert caught.value.hint.startswith("give another mount path, or ")


@pytest.mark.parametrize("mount_path", ["/", "//"])
def test_nothing_is_beside_the_root_directory(spec: MountSpec, mount_path: str) -> None:
    with pytest.raises(MountPathError, match="would hide"):
        preflight.check_apart(replace(spec, mount_path=mount_path))


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for path in (tmp_path / "missing" / "log", tmp_path, tmp_path / "link"):
        with pytest.raises(LocalDirectoryError, match=f"the log {path} cannot be written: ") as caught:
            preflight.check_log(str(path))
        assert "another path for the log" in caught.value.hint
    preflight.check_log(str(tmp_path / "log"))
    assert not (tmp_path / "elsewhere").exists()


def test_an_ordinary_user_needs_the_mount_table(tmp_path: Path) -> None:
    preflight.check_mount_table(str(tmp_path / "mtab"), euid=0)
    with pytest.raises(FusermountError, match="mtab") as caught:
        preflight.check_mount_table(str(tmp_path / "mtab"), euid=1000)
    assert "ln -s /proc/self/mounts" in caught.value.hint
