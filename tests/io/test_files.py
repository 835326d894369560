"""Files without a mount, and through one: the same methods, the same answers."""

from __future__ import annotations

import errno
import io
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from flyteplugins_vol.errors import HandleClosedError, NotMountedError, UsageError, VolumeBusyError
from flyteplugins_vol.io import RWVolume, Volume
from tests.io.conftest import World


@pytest.fixture(params=["unmounted", pytest.param("mounted", marks=pytest.mark.fuse)])
def volume(request: pytest.FixtureRequest, world: World) -> Iterator[RWVolume]:
    """A volume to write to: in this process, or through a mount."""
    volume = world.new("files")
    if request.param == "mounted":
        volume.mount.sync(world.path("mnt"))
    yield volume
    volume.abandon.sync()


def names(volume: Volume, path: str = "/", **options) -> list[str]:
    return [info.path for info in volume.ls.sync(path, **options)]


# --- one file ---------------------------------------------------------------------------------------------------


def test_write_and_read(volume: RWVolume) -> None:
    volume.write_bytes.sync("greeting", b"hello")
    assert volume.read_bytes.sync("/greeting") == b"hello"
    assert volume.read_bytes.sync("greeting", offset=1, size=3) == b"ell"
    assert volume.read_bytes.sync("greeting", offset=9) == b""
    volume.write_bytes.sync("greeting", "grüß".encode())
    assert volume.read_text.sync("greeting") == "grüß"
    with pytest.raises(FileExistsError):
        volume.write_bytes.sync("greeting", b"", force=False)
    with pytest.raises(UsageError):
        volume.read_bytes.sync("greeting", offset=-1)
    info = volume.stat.sync("greeting")
    assert (info.path, info.name, info.kind, info.size, info.nlink) == ("/greeting", "greeting", "file", 6, 1)
    assert names(volume) == ["/greeting"]
    assert names(volume, "greeting") == ["/greeting"]


def test_open_files(volume: RWVolume) -> None:
    with volume.open.sync("log", "w") as file:
        assert file.write(b"one\n") == 4
    with volume.open.sync("log", "at") as file:
        file.write("zwö\n")
    with volume.open.sync("log", "rt") as file:
        assert list(file) == ["one\n", "zwö\n"]
    with volume.open.sync("log", "rb+") as file:
        file.seek(-2, os.SEEK_END)
        file.truncate()
        file.seek(0)
        file.write(b"ONE")
        file.seek(2)
        assert file.read(4) == b"E\nzw"
    with volume.open.sync("new", "xb") as file:
        file.write(bytes(9_000_000))
        assert file.tell() == 9_000_000
    assert volume.stat.sync("new").size == 9_000_000
    with volume.open.sync("new", "w+b") as file:
        file.write(b"short")
        file.seek(0)
        assert file.read() == b"short"
    with volume.open.sync("new") as file:
        assert (file.seek(2), file.read()) == (2, b"ort")
        with pytest.raises(io.UnsupportedOperation):
            file.write(b"")
    with pytest.raises(FileExistsError):
        volume.open.sync("new", "x")
    for mode in ("", "rw", "bt", "rr", "z"):
        with pytest.raises(ValueError, match="invalid mode"):
            volume.open.sync("new", mode)


def test_wrong_paths(volume: RWVolume) -> None:
    volume.mkdir.sync("a/b", parents=True)
    volume.write_bytes.sync("a/f", b"f")
    for verb in (volume.ls.sync, volume.stat.sync, volume.read_bytes.sync, volume.open.sync, volume.remove.sync):
        with pytest.raises(FileNotFoundError) as caught:
            verb("a/not-there")
        assert caught.value.filename == "a/not-there"
        with pytest.raises(NotADirectoryError):
            verb("a/f/x")
    with pytest.raises(IsADirectoryError):
        volume.read_bytes.sync("a")
    with pytest.raises(IsADirectoryError):
        volume.write_bytes.sync("a", b"")
    with pytest.raises(FileNotFoundError):
        volume.write_bytes.sync("x/y", b"")
    with pytest.raises(FileExistsError):
        volume.mkdir.sync("a")
    volume.mkdir.sync("a", exist_ok=True)
    with pytest.raises(OSError, match="not empty") as caught:
        volume.remove.sync("a")
    assert caught.value.errno == errno.ENOTEMPTY
    assert not volume.exists.sync("a/f/x")
    assert not volume.exists.sync("b")
    assert volume.exists.sync("a/../a/./f")


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


def held_off(volume: RWVolume, verb: Callable[[int], Any]) -> list[Any]:
    """What two threads get by this, which both come to their first change while a commit holds them off."""
    session = volume._access.session
    assert session is not None
    with ThreadPoolExecutor(2) as threads:
        session._freeze()
        try:
            pending = [threads.submit(verb, number) for number in range(2)]
            wait_until(lambda: len(session._thawed._waiters) == 2)  # type: ignore[attr-defined]
        finally:
            session._thaw()
        return [future.result(30) for future in pending]


def test_threads_that_append_overwrite_nothing(world: World) -> None:
    volume = world.new("files")
    volume.write_bytes.sync("log", b"begin\n")
    with volume.open.sync("log", "ab") as one, volume.open.sync("log", "ab") as other:
        held_off(volume, lambda number: (one, other)[number].write(b"%d\n" % number) and (one, other)[number].flush())
        assert (one.tell(), other.tell()) in {(8, 10), (10, 8)}
    assert sorted(volume.read_bytes.sync("log").split()) == [b"0", b"1", b"begin"]
    volume.abandon.sync()


def test_threads_that_open_one_new_file_both_get_it(world: World) -> None:
    volume = world.new("files")
    volume.write_bytes.sync("other", b"")
    for file in held_off(volume, lambda _: volume.open.sync("new", "a")):
        with file:
            file.write(b"x")
    assert volume.read_bytes.sync("new") == b"xx"
    held_off(volume, lambda _: volume.mkdir.sync("d", exist_ok=True))
    assert volume.stat.sync("d").is_dir
    volume.abandon.sync()


def test_what_is_written_over_a_file_keeps_its_mode(volume: RWVolume, world: World) -> None:
    local = world.path("run")
    local.write_bytes(b"1")
    local.chmod(0o755)
    with volume.batch_upload() as batch:
        batch.put_file(local, "run")
        batch.put_file(io.BytesIO(b"1"), "closed", mode=0)
    volume.write_bytes.sync("run", b"2")
    volume.write_bytes.sync("new", b"2")
    assert [volume.stat.sync(path).mode for path in ("run", "new", "closed")] == [0o755, 0o644, 0]
    with volume.batch_upload(force=True) as batch:
        batch.put_file(io.BytesIO(b"3"), "run")
        batch.put_file(io.BytesIO(b"3"), "closed", mode=0o600)
    assert [volume.stat.sync(path).mode for path in ("run", "closed")] == [0o755, 0o600]


def test_any_bytes_may_be_a_name(volume: RWVolume) -> None:
    for name in (b"\xff\xfe", b"line\nbreak", "grüß \U0001f40b".encode(), b"esc\x1b[31m", b"x" * 255):
        volume.write_bytes.sync(name, name)
        path = names(volume)[0]
        assert os.fsencode(path) == b"/" + name
        assert volume.read_bytes.sync(path) == name
        volume.remove.sync(path)
    with pytest.raises(OSError, match="File name too long"):
        volume.write_bytes.sync(b"x" * 256, b"")
    with pytest.raises(OSError, match="Invalid or incomplete"):
        volume.write_bytes.sync("\ud800", b"")


# --- symlinks ---------------------------------------------------------------------------------------------------


def test_symlinks_stay_in_the_volume(volume: RWVolume, world: World) -> None:
    secret = world.path("secret")
    secret.write_text("of the machine")
    here = world.path("local")
    here.mkdir()
    (here / "file").write_text("inside")
    (here / "sub").mkdir()
    for name, target in {
        "good": "file", "sub/up": "../file", "absolute": str(secret), "above": "../../../../file", "loop": "loop",
        "dangling": "nowhere", "dir": "sub",
    }.items():  # fmt: skip
        (here / name).symlink_to(target)
    with volume.batch_upload() as batch:
        batch.put_directory(here, "/")
    for path in ("good", "sub/up", "dir/up", "above"):
        assert volume.read_text.sync(path) == "inside"
    with pytest.raises(OSError, match="leads out of the volume"):
        volume.read_bytes.sync("absolute")
    with pytest.raises(OSError, match="Too many levels"):
        volume.stat.sync("loop")
    assert not any(map(volume.exists.sync, ("dangling", "loop", "absolute", "x" * 300, "\ud800", "a\0b")))
    assert volume.download.sync("good", world.root) == world.path("good")
    info = volume.stat.sync("absolute", follow_symlinks=False)
    assert (info.kind, info.target) == ("symlink", str(secret))
    volume.write_bytes.sync("dir/new", b"through")
    assert volume.read_bytes.sync("sub/new") == b"through"
    volume.remove.sync("dir")
    assert volume.exists.sync("sub/new")


# --- many files -------------------------------------------------------------------------------------------------


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


def test_a_copy_reads_and_stores_no_bytes(world: World) -> None:
    volume = world.new("files")
    data = os.urandom(9_000_001)
    volume.write_bytes.sync("weights", data)
    with volume.open.sync("sparse", "wb") as file:
        file.seek(50 << 20)
        file.write(b"end")
    version = volume.finalize.sync()
    world.forget_caches()
    (world.root / "store" / "packs").rename(world.path("away"))  # whoever reads a block now fails
    fork = world.keep(version.fork.sync())
    fork.write_bytes.sync("staged", b"not uploaded yet")
    fork.copy.sync("weights", "copy")
    fork.copy.sync("sparse", "copy of sparse")
    fork.copy.sync("staged", "copy of staged")
    fork.remove.sync("weights")
    copied = fork.finalize.sync()
    assert sum(path.stat().st_size for path in world.objects("packs")) < 2000
    shutil.copytree(world.path("away"), world.root / "store" / "packs", dirs_exist_ok=True)
    assert copied.read_bytes.sync("copy") == data
    assert copied.read_bytes.sync("copy of staged") == b"not uploaded yet"
    assert copied.read_bytes.sync("copy of sparse", offset=(50 << 20) - 1) == b"\0end"
    assert copied.stat.sync("copy").mtime == version.stat.sync("weights").mtime


def test_remove_copy_and_rename(volume: RWVolume) -> None:
    with volume.batch_upload() as batch:
        for path in ("d/one", "d/sub/two", "e/one"):
            batch.put_file(io.BytesIO(path.encode()), path)
    volume.copy.sync("d/one", "copy")
    volume.copy.sync("d", "e", recursive=True)
    assert volume.read_bytes.sync("e/d/sub/two") == b"d/sub/two"
    volume.copy.sync("d", "fresh", recursive=True)
    assert names(volume, "fresh") == ["/fresh/one", "/fresh/sub"]
    with pytest.raises(IsADirectoryError):
        volume.copy.sync("d", "x")
    with pytest.raises(OSError, match="into itself"):
        volume.copy.sync("d", "d/sub", recursive=True)
    with pytest.raises(FileExistsError):
        volume.copy.sync("d/one", "copy")
    volume.copy.sync("e/one", "copy", force=True)
    assert volume.read_bytes.sync("copy") == b"e/one"
    volume.rename.sync("copy", "moved")
    volume.rename.sync("moved", "d/sub")
    assert volume.read_bytes.sync("d/sub/moved") == b"e/one"
    with pytest.raises(FileExistsError):
        volume.rename.sync("d/one", "d/sub/two")
    with pytest.raises(OSError, match="Invalid argument"):
        volume.rename.sync("d", "d/sub/d")
    volume.remove.sync("d", recursive=True)
    assert names(volume) == ["/e", "/fresh"]
    volume.remove.sync("/", recursive=True)
    assert names(volume) == []


def linked(volume: RWVolume, world: World, **links: str) -> None:
    """Bring symlinks in, each with its target."""
    here = world.path("links")
    here.mkdir(exist_ok=True)
    for name, target in links.items():
        (here / name).symlink_to(target)
    with volume.batch_upload() as batch:
        batch.put_directory(here, "/")
    shutil.rmtree(here)


def test_a_symlink_is_not_copied_to_where_it_leads(volume: RWVolume, world: World) -> None:
    volume.write_bytes.sync("real", b"precious")
    volume.mkdir.sync("d")
    linked(volume, world, link="real", other="link", nowhere="gone", loop="loop", to_d="d")
    for source, target in (("link", "real"), ("link", "link"), ("real", "link"), ("real", "real"), ("other", "real")):
        with pytest.raises(shutil.SameFileError, match="is the same file as"):
            volume.copy.sync(source, target, force=True)
    assert volume.read_bytes.sync("link") == b"precious"
    for target in ("nowhere", "loop", "other"):
        with pytest.raises(FileExistsError):
            volume.copy.sync("link", target)
        volume.copy.sync("link", target, force=True)
        assert volume.stat.sync(target, follow_symlinks=False).target == "real"
    volume.copy.sync("link", "to_d")
    assert volume.stat.sync("d/link", follow_symlinks=False).target == "real"


def test_a_directory_of_symlinks_is_not_copied_over_what_they_lead_to(volume: RWVolume, world: World) -> None:
    volume.mkdir.sync("from")
    volume.mkdir.sync("into/from", parents=True)
    volume.write_bytes.sync("into/from/x", b"precious")
    linked(volume, world, x="../into/from/x")
    volume.rename.sync("x", "from/x")
    with pytest.raises(shutil.SameFileError):
        volume.copy.sync("from", "into", recursive=True, force=True)
    assert volume.read_bytes.sync("into/from/x") == b"precious"


def test_a_directory_is_not_copied_below_itself_through_a_symlink(volume: RWVolume, world: World) -> None:
    volume.mkdir.sync("d/sub/deeper", parents=True)
    linked(volume, world, l="d/sub")
    for target in ("l", "l/x", "l/deeper/x", "d/sub/../x", "l/../x"):
        with pytest.raises(OSError, match="into itself"):
            volume.copy.sync("d", target, recursive=True)
    assert names(volume, "d", recursive=True) == ["/d/sub", "/d/sub/deeper"]
    volume.copy.sync("d/sub", "l/../x", recursive=True)
    assert names(volume, "d/x") == ["/d/x/deeper"]


def test_walk_goes_from_the_top_and_can_be_pruned(volume: RWVolume) -> None:
    with volume.batch_upload() as batch:
        for path in ("a/1", "a/x/2", "b/3", "4"):
            batch.put_file(io.BytesIO(), path)
    assert list(volume.walk()) == [
        ("/", ["a", "b"], ["4"]), ("/a", ["x"], ["1"]), ("/a/x", [], ["2"]), ("/b", [], ["3"]),
    ]  # fmt: skip
    seen = []
    for directory, directories, _ in volume.walk("/"):
        seen.append(directory)
        if "a" in directories:
            directories.remove("a")
    assert seen == ["/", "/b"]
    with pytest.raises(NotADirectoryError):
        list(volume.walk("4"))


async def test_the_asynchronous_side(volume: RWVolume, world: World) -> None:
    async with volume.batch_upload() as batch:
        batch.put_file(io.BytesIO(b"1"), "a/1")
        batch.put_file(io.BytesIO(b"2"), "2")
    assert [info.path for info in await volume.ls()] == ["/2", "/a"]
    assert [step async for step in volume.walk()] == [("/", ["a"], ["2"]), ("/a", [], ["1"])]
    assert (await volume.stat("2")).size == 1
    assert await volume.read_bytes("a/1") == b"1"
    with await volume.open("3", "wb") as file:
        file.write(b"3")
    await volume.copy("3", "4")
    await volume.rename("4", "5")
    await volume.remove("3")
    assert await volume.download("/", world.path("out")) == world.path("out")
    assert sorted(os.listdir(world.path("out"))) == ["2", "5", "a"]


# --- versions ---------------------------------------------------------------------------------------------------


def test_what_is_written_becomes_a_version(world: World) -> None:
    volume = world.new("line")
    with pytest.raises(NotMountedError):
        volume.commit.sync()
    assert volume.ls.sync() == []
    assert not volume.has_changes
    volume.write_bytes.sync("a", b"1")
    assert volume.has_changes
    first = volume.commit.sync("first")
    assert (first.message, volume.has_changes) == ("first", False)
    assert volume.commit.sync().locator == first.locator
    volume.write_bytes.sync("a", b"2")
    second = volume.finalize.sync("second")
    assert second.parents == (first.locator,)
    assert volume.read_bytes.sync("a") == b"2"
    with pytest.raises(HandleClosedError):
        volume.write_bytes.sync("a", b"3")
    world.forget_caches()
    assert world.load(first.locator).read_bytes.sync("a") == b"1"
    assert world.load(second.locator).read_bytes.sync("a") == b"2"


def test_a_version_has_no_methods_that_write(world: World) -> None:
    version = world.new().finalize.sync()
    for verb in ("batch_upload", "write_bytes", "remove", "copy", "rename", "mkdir"):
        assert not hasattr(version, verb)
    with pytest.raises(OSError, match="read-only") as caught:
        version.open.sync("x", "w")
    assert caught.value.errno == errno.EROFS


def test_a_fork_begins_with_what_was_written(world: World) -> None:
    volume = world.new("parent")
    volume.write_bytes.sync("a", b"1")
    fork = volume.fork.sync("child")
    fork.write_bytes.sync("b", b"2")
    child = fork.finalize.sync()
    assert child.parents == (volume.locator,)
    assert names(child) == ["/a", "/b"]
    assert names(volume) == ["/a"]


def test_small_files_go_into_packs_and_reads_fetch_what_they_need(world: World) -> None:
    volume = world.new("many")
    with volume.batch_upload() as batch:
        for number in range(3000):
            batch.put_file(io.BytesIO(b"%08d" % number * 20), f"d{number % 7}/f{number}")
        batch.put_file(io.BytesIO(os.urandom(24 << 20)), "big")
    version = volume.finalize.sync()
    assert len(world.objects("packs")) <= 4
    world.forget_caches()
    reader = world.load(version.locator)
    assert reader.read_bytes.sync("d3/f1004") == b"00001004" * 20
    with reader.open.sync("big") as file:
        file.seek(13 << 20)
        assert len(file.read(1000)) == 1000
    assert reader._access.session is not None
    assert reader._access.session.session.fetcher.requests <= 4


@pytest.mark.fuse
def test_a_mount_and_what_was_written_without_one(world: World) -> None:
    volume = world.new("both")
    volume.write_bytes.sync("a", b"1")
    with pytest.raises(UsageError, match="commit\\(\\) it before"):
        volume.mount.sync(world.path("mnt"))
    volume.commit.sync()
    path = volume.mount.sync(world.path("mnt"))
    assert (path / "a").read_bytes() == b"1"
    (path / "b").write_bytes(b"2")
    assert volume.read_bytes.sync("b") == b"2"
    other = Volume.from_name.sync("both", world.store)
    assert names(other) == ["/a"]
    with pytest.raises(VolumeBusyError, match=str(world.path("mnt"))):
        other.write_bytes.sync("c", b"3")
    version = volume.finalize.sync()
    assert names(version) == ["/a", "/b"]


@pytest.mark.fuse
def test_a_mounted_volume_cannot_be_published_without_the_mount(world: World) -> None:
    world.new("line").finalize.sync()
    mounted = world.keep(Volume.from_name.sync("line", world.store))
    path = mounted.mount.sync(world.path("mnt"))
    (path / "kept").write_text("kept")
    with pytest.raises(VolumeBusyError):
        Volume.from_name.sync("line", world.store).finalize.sync("from elsewhere")
    assert (path / "kept").read_text() == "kept"
    assert list(world.root.glob(f"cache/workspaces/line-{mounted.id}-*/index.db"))


def test_one_writer_at_a_time(world: World) -> None:
    volume = world.new("line")
    volume.write_bytes.sync("a", b"1")
    volume.commit.sync()
    other = Volume.from_name.sync("line", world.store)
    with pytest.raises(VolumeBusyError, match=rf"another handle of this process, .* at {__file__}:\d+") as caught:
        other.write_bytes.sync("b", b"2")
    assert "close()" in caught.value.hint
    volume.close.sync()
    other.write_bytes.sync("b", b"2")
    assert other.finalize.sync().parents == (volume.locator,)


def test_nothing_is_left_behind(world: World) -> None:
    volume = world.new()
    volume.write_bytes.sync("a", b"1")
    file = volume.open.sync("a")
    version = volume.finalize.sync()
    assert names(version) == ["/a"]
    with pytest.raises(HandleClosedError):
        file.read()
    file.close()
    dropped = world.new()
    dropped.write_bytes.sync("a", b"1")
    dropped.abandon.sync()
    version.close.sync()
    left = [path.name for path in (world.root / "cache").iterdir() if any(path.iterdir())]
    assert left == ["cache"]


def test_a_file_that_is_read_stays_open_when_the_first_write_comes(world: World) -> None:
    first = world.new("line")
    first.write_bytes.sync("a", b"0123456789")
    first.finalize.sync()
    volume = Volume.from_name.sync("line", world.store)
    with volume.open.sync("a", buffering=1) as file:
        assert file.read(2) == b"01"
        session = volume._access.session
        assert session is not None
        volume.write_bytes.sync("a", b"other")
        assert file.read() == b"23456789"
        assert volume.read_bytes.sync("a") == b"other"
    assert not session._closed
    del file
    wait_until(lambda: session._closed)
    volume.abandon.sync()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_is_collected_in_the_middle_of_anything_waits_for_no_lock(world: World) -> None:
    volume = world.new()
    volume.write_bytes.sync("a", b"1")
    version = volume.finalize.sync()
    file: Any = version.open.sync("a")
    session = version._access.session
    assert session is not None
    with ThreadPoolExecutor(1) as threads, session._lock:
        session.close_when_unused(session.close)
        holder = [file]
        del file
        threads.submit(holder.clear).result(10)  # the last reference goes in another thread
    version._access.session = None
    wait_until(lambda: session._closed)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("end", ["sys.exit(0)", "del volume; os._exit(0)"])
def test_the_end_of_a_forked_child_is_not_that_of_what_its_parent_wrote(world: World, end: str) -> None:
    script = f"""
import os, sys, warnings
from flyteplugins_vol.io import Volume
warnings.simplefilter("ignore")
volume = Volume.new("data", {world.store!r})
volume.write_bytes.sync("a", b"1")
volume.commit.sync()
volume.write_bytes.sync("b", bytes(5_000_000))
if os.fork() == 0:
    {end}
os.wait()
volume.write_bytes.sync("c", b"3")
print(*(info.path for info in volume.finalize.sync().ls.sync()))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.stdout.split(), done.returncode) == (["/a", "/b", "/c"], 0), done.stderr


def test_an_open_file_keeps_its_volume(world: World) -> None:
    volume = world.new()
    volume.write_bytes.sync("a", b"12345")
    locator = volume.finalize.sync().locator
    file = Volume.from_locator.sync(locator).open.sync("a", buffering=1)
    assert [file.read(1) for _ in range(6)] == [b"1", b"2", b"3", b"4", b"5", b""]
    file.close()


def test_writers_wait_for_a_commit_and_nothing_is_torn(world: World) -> None:
    from concurrent.futures import ThreadPoolExecutor

    volume = world.new()
    volume.mkdir.sync("d")

    def write(number: int) -> None:
        volume.write_bytes.sync(f"d/{number}", b"x" * number)

    with ThreadPoolExecutor(4) as pool:
        writes = [pool.submit(write, number) for number in range(200)]
        versions = [volume.commit.sync(str(number)) for number in range(3)]
        for future in writes:
            future.result()
    for version in versions:
        for info in version.ls.sync("d"):
            assert info.name.startswith(".flytevol-") or info.size in (0, int(info.name))
    assert len(names(volume.finalize.sync(), "d")) == 200


@pytest.mark.s3
def test_on_s3(world: World, s3_environment) -> None:
    volume = world.new("on-s3", s3_environment.new_bucket_url() + "/prefix")
    with volume.batch_upload() as batch:
        for number in range(50):
            batch.put_file(io.BytesIO(b"x" * number), f"d/{number}")
    version = volume.finalize.sync()
    world.forget_caches()
    assert len(Volume.from_locator.sync(version.locator).ls.sync("d")) == 50


@pytest.mark.slow
def test_a_hundred_thousand_small_files_are_some_packs(world: World) -> None:
    volume = world.new("many")
    with volume.batch_upload() as batch:
        for number in range(100_000):
            batch.put_file(io.BytesIO(b"%d" % number), f"d{number // 1000}/f{number}")
    version = volume.finalize.sync()
    assert version.stats["files"] == 100_101
    assert len(world.objects("packs")) + len(world.objects("index")) + len(world.objects("volumes")) < 50
    assert version.read_bytes.sync("d50/f50500") == b"50500"
