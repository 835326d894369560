"""Which commands are sure not to run, and which may come with the volume."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flyteplugins_vol.cli.lookup import NOT_FOUND, NOT_RUNNABLE, refused


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Programs in a directory of the search path, and a mount path where nothing is yet."""
    for name, mode in (("runs", 0o755), ("does-not", 0o644)):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).touch(mode)
    (tmp_path / "bin" / "directory").mkdir()
    (tmp_path / "bin" / "dangling").symlink_to("nowhere")
    (tmp_path / "bin" / "of-the-volume").symlink_to(tmp_path / "mnt" / "bin" / "tool")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{tmp_path}/bin/runs:{tmp_path}/missing")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def code(command: str, at: str | None = "mnt", *, chdir: bool = False) -> int:
    found = refused(command, at=at, chdir=chdir)
    if found is None:
        return 0
    assert repr(command) in found[1]
    return found[0]


def test_by_the_search_path(place: Path) -> None:
    assert code("runs") == 0
    assert code("does-not") == code("directory") == NOT_RUNNABLE
    assert code("pyhton") == code("dangling") == NOT_FOUND


def test_by_a_path(place: Path) -> None:
    assert code("bin/runs") == code(f"{place}/bin/runs") == code("./bin/runs") == 0
    assert code("bin/does-not") == code(str(place)) == NOT_RUNNABLE
    assert code("bin/missing") == code("bin/runs/below") == code("./runs") == NOT_FOUND


def test_what_may_come_with_the_volume(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for at in ("mnt", f"{place}/mnt", f"{place}/mnt/"):
        assert code("mnt/job.sh", at) == code(f"{place}/mnt/a/b", at) == code("of-the-volume", at) == 0
    assert code("mnt/job.sh", "other") == code("mnt-2/job.sh") == NOT_FOUND
    assert code("./job.sh", chdir=True) == 0
    assert code("/job.sh", chdir=True) == code("pyhton", chdir=True) == NOT_FOUND
    monkeypatch.setenv("PATH", f"{place}/mnt/bin{os.pathsep}bin")
    assert code("pyhton") == 0
    assert code("pyhton", "other") == NOT_FOUND
    assert code("pyhton", "other", chdir=True) == 0


def test_what_may_come_with_a_volume_at_the_path_by_default(place: Path) -> None:
    for name in ("flyte-volume", "flyte-volume-data", "flyte-volume-data-2"):
        assert code(f"{name}/job.sh", None) == 0
    assert code("elsewhere/job.sh", None) == NOT_FOUND
