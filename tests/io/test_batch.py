"""Files and directories in and out: whole or not at all, whoever else writes and whatever fails."""

from __future__ import annotations

import errno
import io
import os
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from flyteplugins_vol.errors import UsageError
from flyteplugins_vol.io import RWVolume, Volume
from tests.io.conftest import World, names


def test_directories_in_and_out(volume: RWVolume, world: World) -> None:
    source = world.path("source")
    (source / "deep" / "er").mkdir(parents=True)
    (source / "deep" / "er" / "data").write_bytes(os.urandom(5_000_000))
    (source / "run.sh").write_text("#!/bin/sh\n")
    (source / "run.sh").chmod(0o755)
    (source / "empty").mkdir()
    (source / "link").symlink_to("run.sh")
    os.utime(source / "run.sh", ns=(10**18, 10**18 + 7))
    with volume.batch_upload() as batch:
        batch.put_directory(source, "/in")
        batch.put_file(source / "run.sh", "/bin/")
        batch.put_file(io.BytesIO(b"object"), "obj/one", mode=0o600)
    assert volume.read_bytes.sync("bin/run.sh") == b"#!/bin/sh\n"
    assert volume.stat.sync("obj/one").mode == 0o600
    assert volume.stat.sync("in/run.sh").mtime == 10**18 + 7
    assert set(names(volume, "in", recursive=True)) == {
        "/in/deep", "/in/deep/er", "/in/deep/er/data", "/in/empty", "/in/link", "/in/run.sh",
    }  # fmt: skip
    events = []
    target = volume.download.sync("in", world.path("out"), progress=events.append)
    assert target == world.path("out")
    assert subprocess.run(["diff", "-r", source, target]).returncode == 0
    assert (target / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (target / "run.sh").stat().st_mtime_ns == 10**18 + 7
    assert os.readlink(target / "link") == "run.sh"
    assert sum(event["bytes"] for event in events) == 5_000_010
    with pytest.raises(FileExistsError):
        volume.download.sync("in/run.sh", target)
    assert volume.download.sync("in/run.sh", target, force=True) == target / "run.sh"
    assert volume.download.sync("in", target) == target / "in"
    assert sorted(path.name for path in world.root.rglob(".flytevol-*")) == []


def test_existing_targets_need_force(volume: RWVolume, world: World) -> None:
    local = world.path("local")
    local.write_text("new")
    volume.write_bytes.sync("there", b"old")
    with pytest.raises(FileExistsError) as caught, volume.batch_upload() as batch:
        batch.put_file(local, "there")
    assert caught.value.filename == "/there"
    assert volume.read_bytes.sync("there") == b"old"
    with volume.batch_upload(force=True) as batch:
        batch.put_file(local, "there")
    assert volume.read_bytes.sync("there") == b"new"


def test_a_batch_comes_in_at_its_end_or_not_at_all(volume: RWVolume, world: World) -> None:
    with pytest.raises(RuntimeError, match="body"), volume.batch_upload() as batch:
        batch.put_file(io.BytesIO(b"x"), "x")
        raise RuntimeError("body")
    assert names(volume) == []
    batch = volume.batch_upload()
    with pytest.raises(FileNotFoundError):
        batch.put_file(world.path("nowhere"), "x")
    os.mkfifo(world.path("fifo"))
    with pytest.raises(OSError, match="is a fifo"), volume.batch_upload() as batch:
        batch.put_file(world.path("fifo"), "x")
    with pytest.raises(FileNotFoundError):
        batch.put_directory(world.path("nowhere"), "x")
    with pytest.raises(UsageError, match="names no file"):
        batch.put_file(io.BytesIO(), "dir/")


def test_a_batch_that_may_not_replace_what_is_there_changes_nothing(volume: RWVolume, world: World) -> None:
    local = world.path("local")
    (local / "a" / "deep").mkdir(parents=True)
    for name in ("a/deep/z", "m"):
        (local / name).write_text("new")
    (local / "link").symlink_to("m")
    volume.mkdir.sync("m/link", parents=True)
    volume.write_bytes.sync("file", b"old")
    volume.mkdir.sync("into/a/deep", parents=True)
    volume.write_bytes.sync("into/a/deep/z", b"old")
    before = names(volume, recursive=True)
    for kind, force, puts in (
        (FileExistsError, False, [("new", None), ("file", None)]),
        (FileExistsError, False, [("new", None), ("new", None)]),
        (FileExistsError, False, [("new", None), ("into", local)]),
        (IsADirectoryError, True, [("new", None), ("m", None)]),
        (IsADirectoryError, True, [("new", None), ("/", local)]),
        (NotADirectoryError, True, [("new", None), ("file/x", None)]),
        (NotADirectoryError, True, [("new", None), ("file", local)]),
    ):
        with pytest.raises(kind), volume.batch_upload(force=force) as batch:
            for path, source in puts:
                if source is None:
                    batch.put_file(io.BytesIO(b"new"), path)
                else:
                    batch.put_directory(source, path)
        assert names(volume, recursive=True) == before
    with volume.batch_upload(force=True) as batch:
        batch.put_directory(local, "into")
    assert volume.read_bytes.sync("into/a/deep/z") == b"new"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(volume: RWVolume) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError(errno.EIO, "the source broke")

    volume.write_bytes.sync("kept", b"old")
    for path in ("kept", "never"):
        with pytest.raises(OSError, match="the source broke"), volume.batch_upload(force=True) as batch:
            batch.put_file(Broken(), path)
    assert names(volume) == ["/kept"]
    assert volume.read_bytes.sync("kept") == b"old"


class Interrupted(io.RawIOBase):
    """A source of some megabytes, and of what others do when half of it was read."""

    def __init__(self, between: Callable[[], Any]) -> None:
        self._between = between
        self._reads = 0

    def read(self, size: int = -1, /) -> bytes:
        self._reads += 1
        if self._reads == 2:
            self._between()
        return b"A" * size if self._reads < 4 else b""


def test_who_writes_a_new_file_at_the_same_time_loses_none_of_it(volume: RWVolume) -> None:
    def upload(force: bool, between: Callable[[], Any]) -> None:
        with volume.batch_upload(force=force) as batch:
            batch.put_file(Interrupted(between), "new")

    with pytest.raises(FileExistsError) as caught:
        upload(False, lambda: volume.write_bytes.sync("new", b"first"))
    assert caught.value.filename == "/new"
    assert volume.read_bytes.sync("new") == b"first"
    volume.remove.sync("new")
    upload(True, lambda: volume.write_bytes.sync("new", b"first"))
    assert volume.stat.sync("new").size > 8 << 20
    volume.remove.sync("new")
    with pytest.raises(IsADirectoryError):
        upload(True, lambda: volume.mkdir.sync("new"))
    assert names(volume) == ["/new"]


def test_a_file_that_is_half_written_is_in_no_version(world: World) -> None:
    volume = world.new("files")
    volume.write_bytes.sync("kept", b"old")
    made = []
    with volume.batch_upload(force=True) as batch:
        batch.put_file(Interrupted(lambda: made.append(volume.commit.sync())), "new")
        batch.put_file(Interrupted(lambda: made.append(volume.commit.sync())), "kept")
    whole = volume.finalize.sync()
    world.forget_caches()
    assert [names(one) for one in (*made, whole)] == [["/kept"], ["/kept", "/new"], ["/kept", "/new"]]
    assert made[1].read_bytes.sync("kept") == b"old"
    assert whole.read_bytes.sync("new") == made[1].read_bytes.sync("new") == b"A" * whole.stat.sync("kept").size
    with Volume.diff.sync(made[0], whole) as difference:
        changes = [(change.path, change.change) for change in difference]
    assert changes == [("/kept", "changed"), ("/new", "added")]
    assert all(version.verify.sync().ok for version in (*made, whole))
