"""Moves and copies of whole directories, at the top of a volume and below: as fsspec's local files have them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flyteplugins_vol.errors import VolumeError
from flyteplugins_vol.fs import VolumeFileSystem
from flyteplugins_vol.io import RWVolume


@pytest.fixture
def fs(volume: RWVolume, tmp_path: Path) -> VolumeFileSystem:
    local = tmp_path / "local"
    (local / "full" / "deep").mkdir(parents=True)
    (local / "full" / "deep" / "file").write_text("precious")
    (local / "empty").mkdir()
    (local / "file").write_text("file")
    (local / "link").symlink_to("full")
    (local / "full" / "round").symlink_to(".")
    with volume.batch_upload() as batch:
        batch.put_directory(local, "/")
    volume.finalize.sync()
    return VolumeFileSystem("data")


@pytest.mark.parametrize("recursive", [False, True])
@pytest.mark.parametrize(("source", "kind"), [("full", "directory"), ("empty", "directory"), ("file", "file")])
def test_a_move_keeps_what_it_is(fs: VolumeFileSystem, source: str, kind: str, recursive: bool) -> None:
    before = fs.info(source)
    fs.mv(source, "moved", recursive=recursive)
    assert not fs.exists(source)
    after = fs.info("moved")
    assert (after["type"], after["ino"], after["mode"]) == (kind, before["ino"], before["mode"])
    fs.mv("moved", "new/below/it", recursive=recursive)
    assert fs.info("new/below/it")["ino"] == before["ino"]


def test_a_symlink_is_moved_and_not_what_it_leads_to(fs: VolumeFileSystem) -> None:
    fs.mv("link", "old")
    assert fs.info("old")["destination"] == "full"
    assert fs.cat_file("old/deep/file") == b"precious"
    assert not fs.exists("link")


@pytest.mark.parametrize("recursive", [False, True])
@pytest.mark.parametrize("target", ["full/deep", "full/deep/new", "full"])
def test_a_directory_is_not_moved_into_itself(fs: VolumeFileSystem, target: str, recursive: bool) -> None:
    with pytest.raises((OSError, VolumeError)):
        fs.mv("full", target, recursive=recursive)
    assert VolumeFileSystem("data").cat_file("full/deep/file") == b"precious"


def test_a_directory_takes_it_inside_and_nothing_is_replaced_there(fs: VolumeFileSystem) -> None:
    fs.mv("file", "empty")
    assert fs.cat_file("empty/file") == b"file"
    fs.pipe_file("file", b"another")
    with pytest.raises(FileExistsError):
        fs.mv("file", "empty")
    with pytest.raises(FileExistsError):  # as it is there already
        fs.mv("full/deep", "full", recursive=True)
    fs.mv("file", "empty/file")
    assert fs.cat_file("empty/file") == b"another"
    fs.mv("empty/file", "empty/file")
    assert fs.cat_file("empty/file") == b"another"


def test_a_directory_at_the_top_is_fetched_as_itself(fs: VolumeFileSystem, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    (mine / "deep").mkdir(parents=True)
    (mine / "deep" / "file").write_text("mine")
    fs.rm("full/round")
    fs.get("full", str(mine), recursive=True)
    assert (mine / "deep" / "file").read_text() == "mine"
    assert (mine / "full" / "deep" / "file").read_text() == "precious"
    fs.get("full/", str(tmp_path / "other"), recursive=True)
    assert (tmp_path / "other" / "deep" / "file").read_text() == "precious"
    fs.get("fi*", str(mine))
    assert (mine / "file").read_text() == "file"
    fs.get(["file", "full/deep/file"], [str(tmp_path / "1"), str(tmp_path / "2")])
    assert (tmp_path / "2").read_text() == "precious"
    assert os.listdir(mine / "full") == ["deep"]


def test_a_directory_at_the_top_is_copied_as_itself(fs: VolumeFileSystem) -> None:
    fs.rm("full/round")
    fs.pipe_file("target/deep/file", b"mine")
    fs.cp("full", "target", recursive=True)
    assert fs.cat_file("target/deep/file") == b"mine"
    assert fs.cat_file("target/full/deep/file") == b"precious"
    fs.cp("full", "fresh", recursive=True)
    assert fs.cat_file("fresh/deep/file") == b"precious"


def test_a_link_into_its_own_directory_leads_nowhere_new(fs: VolumeFileSystem) -> None:
    assert sorted(fs.find("")) == ["file", "full/deep/file", "link/deep/file"]
    assert [here for here, _, _ in fs.walk("full")] == ["full", "full/deep"]
    assert [here for here, _, _ in fs.walk("full", topdown=False)] == ["full/deep", "full"]
