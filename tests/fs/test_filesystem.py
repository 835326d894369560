"""What the abstract suite does not ask: versions are read-only, what publishes when, fsspec's registry and chains."""

from __future__ import annotations

import errno
import os
import pickle
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event

import fsspec
import pytest

from flyteplugins_vol.errors import HandleClosedError, UsageError, VersionNotFoundError
from flyteplugins_vol.fs import VolumeFileSystem
from flyteplugins_vol.history.closer import later
from flyteplugins_vol.history.volumes import list_versions, list_volumes
from flyteplugins_vol.io import RWVolume, Volume
from flyteplugins_vol.store.open import open_store


@pytest.fixture
def locator(volume: RWVolume) -> str:
    volume.mkdir.sync("dir")
    volume.write_bytes.sync("dir/a.txt", b"0123456789")
    volume.write_bytes.sync("b.txt", b"b")
    return str(volume.finalize.sync().locator)


def versions(volume: Volume) -> int:
    with open_store(volume.store) as store:
        return len(list_versions(store, list_volumes(store)[0]))


def test_a_version_is_read_and_not_written(locator: str) -> None:
    fs = VolumeFileSystem(locator)
    assert fs.ls("", detail=False) == ["b.txt", "dir"]
    assert fs.find("") == ["b.txt", "dir/a.txt"]
    assert fs.cat_file("dir/a.txt", 2, -3) == b"23456"
    assert fs.cat_file("dir/a.txt", -3) == b"789"
    assert fs.glob("**/*.txt") == ["b.txt", "dir/a.txt"]
    assert fs.info("dir")["type"] == "directory"
    short = locator.replace("file:///", "file:")
    assert fs.unstrip_protocol("dir/a.txt") == f"flytevol://{short}!/dir/a.txt"
    assert fs.ls(f"flytevol://{locator}!/dir", detail=False) == [f"{short}!/dir/a.txt"]
    assert fs.cat_file(f"flytevol://{short}!/dir/a.txt") == fs.cat_file(f"{short}!/dir/a.txt") == b"0123456789"
    with pytest.raises(UsageError, match="is not in"):
        fs.ls("flytevol://other!/dir")
    assert fs.modified("b.txt").tzinfo is not None
    assert fs.ukey("b.txt") != fs.ukey("dir/a.txt")
    for change in (lambda: fs.open("x", "wb"), lambda: fs.pipe_file("x", b""), lambda: fs.rm("b.txt"),
                   lambda: fs.mkdir("x"), lambda: fs.mv("b.txt", "c"), lambda: fs.touch("b.txt")):  # fmt: skip
        with pytest.raises(OSError, match="read-only"):
            change()
    with pytest.raises(FileNotFoundError):
        fs.open("nowhere")


def test_through_fsspec_by_url(locator: str) -> None:
    with fsspec.open(f"flytevol://{locator}!/dir/a.txt", "rt") as file:
        assert file.read() == "0123456789"
    with fsspec.open("flytevol://data!/b.txt") as file:
        assert file.read() == b"b"
    with fsspec.open(f"flytevol://dir/a.txt::{locator}") as file:
        assert file.read() == b"0123456789"
    with fsspec.open(f"simplecache::flytevol://{locator}!/dir/a.txt") as file:
        assert file.read() == b"0123456789"
    fs, path = fsspec.url_to_fs(f"flytevol://{locator}!/dir")
    assert [name.partition("!")[2] for name in fs.ls(path, detail=False)] == ["/dir/a.txt"]
    assert fsspec.get_filesystem_class("flytevol") is VolumeFileSystem
    found = fsspec.open_files(f"flytevol://{locator}!/**/*.txt")
    assert [file.path.partition("!/")[2] for file in found] == ["b.txt", "dir/a.txt"]
    with pytest.raises(UsageError, match="names no volume"):
        fsspec.open("flytevol://a/b").open()
    with pytest.raises(VersionNotFoundError):
        fsspec.open("flytevol://nowhere!/b").open()


def test_a_version_by_name_is_read_and_not_written(volume: RWVolume, locator: str) -> None:
    with fsspec.open("flytevol://data!/b.txt", "wb") as file:
        file.write(b"newer")
    Volume.from_locator.sync(locator).tag.sync("v1")
    for address in ("data@1", "data@v1", f"data-{volume.id}@1"):
        with fsspec.open(f"flytevol://{address}!/b.txt") as file:
            assert file.read() == b"b"
        fs, path = fsspec.url_to_fs(f"flytevol://{address}!/b.txt")
        assert fs.unstrip_protocol(path) == f"flytevol://{address}!/b.txt"
        with pytest.raises(OSError, match="read-only"):
            fs.pipe_file(path, b"x")
    assert VolumeFileSystem("data@2", store=volume.store).cat_file("b.txt") == b"newer"


def test_each_closed_file_of_a_name_is_a_version(volume: RWVolume, locator: str) -> None:
    with fsspec.open("flytevol://data!/new/c.txt", "w", message="by fsspec") as file:
        file.write("c")
        assert versions(volume) == 1
    assert versions(volume) == 2
    assert Volume.from_name.sync("data").message == "by fsspec"
    fs = fsspec.filesystem("flytevol", volume="data", message="by fsspec")
    with fs.open("new/c.txt", "ab") as file:
        file.write(b"d")
    assert fs.cat_file("new/c.txt") == b"cd"
    fs.put([__file__, pickle.__file__], "src/")
    assert versions(volume) == 4
    fs.rm("new", recursive=True)
    fs.mv("b.txt", "moved/b.txt")
    assert versions(volume) == 6
    fs.volume.close.sync()
    assert Volume.from_name.sync("data").read_bytes.sync("moved/b.txt") == b"b"


def test_a_transaction_is_one_version_or_none(volume: RWVolume, locator: str) -> None:
    fs = fsspec.filesystem("flytevol", volume="data")
    with fs.transaction:
        for number in range(3):
            with fs.open(f"t/{number}", "wb") as file:
                file.write(b"x")
        assert not fs.exists("t/1")
    assert versions(volume) == 2
    assert fs.ls("t", detail=False) == ["t/0", "t/1", "t/2"]
    with pytest.raises(RuntimeError, match="body"), fs.transaction:
        with fs.open("never", "wb") as file:
            file.write(b"x")
        raise RuntimeError("body")
    assert not fs.exists("never")
    assert versions(volume) == 2
    assert [info["name"] for info in fs.ls("") if info["name"].startswith(".")] == []


def test_a_handle_publishes_itself(volume: RWVolume) -> None:
    fs = VolumeFileSystem.of(volume)
    with fs.open("a", "wb") as file:
        file.write(b"a")
    assert volume.has_changes
    assert volume.locator is None
    version = volume.commit.sync()
    assert VolumeFileSystem.of(version).cat_file("a") == b"a"
    assert VolumeFileSystem.of(version) is not VolumeFileSystem.of(version)
    explicit = VolumeFileSystem("data", publish=False)
    volume.finalize.sync()
    assert explicit.commit() is None
    explicit.pipe_file("b", b"b")
    assert explicit.commit("asked for").message == "asked for"
    explicit.volume.close.sync()


def test_it_travels_between_processes(locator: str) -> None:
    fs = pickle.loads(pickle.dumps(VolumeFileSystem(locator)))
    assert fs.cat_file("b.txt") == b"b"
    assert fsspec.AbstractFileSystem.from_json(fs.to_json()).cat_file("b.txt") == b"b"


def test_a_newer_version_is_seen_when_asked_for(volume: RWVolume, locator: str) -> None:
    fs = VolumeFileSystem("data")
    assert fs.exists("b.txt")
    other = Volume.from_name.sync("data")
    other.remove.sync("b.txt")
    other.finalize.sync()
    assert fs.exists("b.txt")
    fs.invalidate_cache()
    assert not fs.exists("b.txt")


@pytest.mark.parametrize("publish", [True, False])
def test_threads_that_write_and_read_at_once_lose_nothing(volume: RWVolume, locator: str, publish: bool) -> None:
    fs = VolumeFileSystem("data", publish=publish)
    start = Barrier(4)

    def work(number: int) -> None:
        start.wait(30)
        for n in range(6):
            fs.pipe_file(f"made/{number}/{n}", b"%d" % n)
            assert fs.cat_file(f"made/{number}/{n}") == b"%d" % n
            assert fs.cat_file("b.txt") == b"b"
            with fs.open(f"made/{number}/{n}-opened", "wb") as file:
                file.write(b"%d" % n)

    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(work, number) for number in range(4)]:
            done.result(60)
    fs.commit()
    fs.volume.close.sync()
    found = VolumeFileSystem("data").find("made")
    made = [f"made/{number}/{n}" for number in range(4) for n in range(6)]
    assert sorted(found) == sorted([*made, *(f"{name}-opened" for name in made)])


def test_a_transaction_is_one_threads_own(volume: RWVolume, locator: str) -> None:
    fs = VolumeFileSystem("data")
    with ThreadPoolExecutor(1) as other:
        with pytest.raises(ValueError, match="as asked"), fs.transaction:
            with fs.open("mine", "wb") as file:
                file.write(b"mine")
            other.submit(fs.pipe_file, "theirs", b"theirs").result(30)
            raise ValueError("as asked")
        assert VolumeFileSystem("data").find("") == ["b.txt", "dir/a.txt", "theirs"]
        with fs.transaction:
            with fs.open("first", "wb") as file:
                file.write(b"first")
            other.submit(write_in_transaction, fs, "second").result(30)
    assert VolumeFileSystem("data").find("") == ["b.txt", "dir/a.txt", "first", "second", "theirs"]


def write_in_transaction(fs: VolumeFileSystem, path: str) -> None:
    with fs.transaction, fs.open(path, "wb") as file:
        file.write(path.encode())


def test_a_transaction_without_a_context_is_one_version(volume: RWVolume, locator: str) -> None:
    fs = VolumeFileSystem("data")
    before = versions(fs.volume)
    fs.start_transaction()
    fs.pipe_file("one", b"1")
    fs.pipe_file("two", b"2")
    assert versions(fs.volume) == before
    fs.end_transaction()
    assert versions(fs.volume) == before + 1
    fs.pipe_file("three", b"3")
    assert versions(fs.volume) == before + 2
    assert VolumeFileSystem("data").find("") == ["b.txt", "dir/a.txt", "one", "three", "two"]


def test_a_file_whose_close_failed_is_in_no_version(volume: RWVolume, locator: str) -> None:
    fs = VolumeFileSystem("data")
    file = fs.open("big", "wb")
    file.write(b"x" * 100)
    file.raw.write = failing
    with pytest.raises(OSError, match="as asked"):
        file.close()
    fs.pipe_file("next", b"n")
    assert VolumeFileSystem("data").find("") == ["b.txt", "dir/a.txt", "next"]


def failing(data: object) -> int:
    raise OSError(errno.ENOSPC, "as asked")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_waits_for_no_thread_of_its_parent(volume: RWVolume, locator: str) -> None:
    fs = VolumeFileSystem("data")
    held, done = Event(), Event()

    def hold() -> None:
        with fs.turn:
            held.set()
            done.wait(60)

    with ThreadPoolExecutor(1) as other:
        other.submit(hold)
        held.wait(30)
        child = os.fork()
        if child == 0:
            os._exit(0 if fs.cat_file("b.txt") == b"b" else 1)
        deadline = time.monotonic() + 30
        while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
            time.sleep(0.05)
        if ended == (0, 0):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        done.set()
    assert ended == (child, 0)


def test_a_file_that_is_read_stays_open_while_others_are_written(volume: RWVolume, locator: str) -> None:
    fs = VolumeFileSystem("data")
    with fs.open("dir/a.txt", block_size=1) as file:
        assert file.read(2) == b"01"
        fs.pipe_file("dir/a.txt", b"other")
        assert file.read() == b"23456789"
    assert fs.cat_file("dir/a.txt") == b"other"


def test_a_file_that_is_read_stays_open_when_one_that_was_open_before_it_is_published(
    volume: RWVolume, locator: str
) -> None:
    fs = VolumeFileSystem("data")
    with fs.open("b.txt", "wb") as written:
        written.write(b"b")
        file = fs.open("dir/a.txt", block_size=1)
        assert file.read(2) == b"01"
    fs.pipe_file("c.txt", b"c")
    assert VolumeFileSystem("data").cat(["b.txt", "c.txt"]) == {"b.txt": b"b", "c.txt": b"c"}
    assert file.read() == b"23456789"
    file.close()
    told = Event()
    later(told.set)  # after what the file has said
    assert told.wait(30)
    VolumeFileSystem("data").pipe_file("d.txt", b"d")  # nobody holds the volume any more
    assert fs.cat_file("d.txt") == b"d"


def test_a_reader_that_ends_in_somebody_s_turn_is_not_waited_for(volume: RWVolume, locator: str) -> None:
    """The thread that hears of it closes other handles too, and whoever has the turn may need that."""
    fs = VolumeFileSystem("data")
    with fs.open("new.txt", "wb") as written:
        written.write(b"b")
        file = fs.open("dir/a.txt", block_size=1)
    told = Event()
    with fs.turn:
        file.close()
        later(told.set)
        assert told.wait(30)
    VolumeFileSystem("data").pipe_file("d.txt", b"d")  # nobody holds the volume any more


def test_a_transaction_that_is_dropped_is_gone_for_who_reads_in_it(volume: RWVolume, locator: str) -> None:
    fs = VolumeFileSystem("data")
    fs.start_transaction()
    fs.pipe_file("new.txt", b"b")
    file = fs.open("new.txt", block_size=1)
    fs.transaction.complete(commit=False)
    assert not fs.exists("new.txt")
    with pytest.raises(HandleClosedError):
        file.read()
    file.close()


def test_symlinks(volume: RWVolume, tmp_path) -> None:
    local = tmp_path / "local"
    local.mkdir()
    (local / "file").write_text("file")
    (local / "good").symlink_to("file")
    (local / "dangling").symlink_to("nowhere")
    with volume.batch_upload() as batch:
        batch.put_directory(local, "/")
    found = {info["name"]: info for info in VolumeFileSystem.of(volume).ls("")}
    assert (found["good"]["type"], found["good"]["islink"], found["good"]["size"]) == ("file", True, 4)
    assert (found["dangling"]["type"], found["dangling"]["destination"]) == ("link", "nowhere")


@pytest.mark.fuse
def test_through_a_mount_of_the_handle(volume: RWVolume, tmp_path) -> None:
    path = volume.mount.sync(tmp_path / "mnt")
    fs = VolumeFileSystem.of(volume)
    with fs.open("a/b", "wb") as file:
        file.write(b"x")
    assert (path / "a" / "b").read_bytes() == b"x"
    assert fs.find("") == ["a/b"]
