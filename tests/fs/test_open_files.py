"""Files that are open: in transactions, dropped without a close, at the end of the process, compressed."""

from __future__ import annotations

import gc
import gzip
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from flyteplugins_vol.errors import VersionNotFoundError
from flyteplugins_vol.fs import VolumeFileSystem
from flyteplugins_vol.history.closer import later
from flyteplugins_vol.io import RWVolume, Volume


@pytest.fixture
def seeded(volume: RWVolume) -> RWVolume:
    volume.write_bytes.sync("seed", b"seed")
    return volume.finalize.sync()


@pytest.fixture
def fs(seeded: RWVolume) -> VolumeFileSystem:
    return VolumeFileSystem("data")


def published() -> dict[str, bytes]:
    fs = VolumeFileSystem("data")
    return {path: fs.cat_file(path) for path in fs.find("")}


def settle() -> None:
    """Until what finalizers have asked for is done."""
    gc.collect()
    told = threading.Event()
    later(told.set)
    assert told.wait(30)


# --- transactions ------------------------------------------------------------------------------------------------


def test_a_file_that_is_open_when_its_transaction_is_complete_ends_there(fs: VolumeFileSystem) -> None:
    with fs.transaction:
        file = fs.open("late", "wb")
        file.write(b"1")
    assert published() == {"seed": b"seed", "late": b"1"}
    file.close()
    fs.pipe_file("next", b"2")
    assert published() == {"seed": b"seed", "late": b"1", "next": b"2"}


def test_a_compressed_file_in_a_transaction(fs: VolumeFileSystem) -> None:
    with fs.transaction, fs.open("z.gz", "wb", compression="infer") as file:
        file.write(b"1")
    assert gzip.decompress(published()["z.gz"]) == b"1"


@pytest.mark.parametrize("mode", ["ab", "r+b"])
def test_a_file_that_is_changed_in_a_transaction(fs: VolumeFileSystem, mode: str) -> None:
    with fs.transaction:
        with fs.open("seed", mode) as file:
            file.seek(0, os.SEEK_END)
            file.write(b"X")
        assert published() == {"seed": b"seed"}
    assert published() == {"seed": b"seedX"}
    fs.pipe_file("next", b"2")
    assert "next" in published()


@pytest.mark.parametrize("mode", ["wb", "ab"])
def test_what_is_rolled_back_while_a_file_is_open_is_gone(fs: VolumeFileSystem, mode: str) -> None:
    with pytest.raises(ZeroDivisionError), fs.transaction:
        fs.rm("seed")
        file = fs.open("x", mode)
        file.write(b"1")
        _ = 1 / 0
    file.close()
    fs.pipe_file("other", b"1")
    assert published() == {"seed": b"seed", "other": b"1"}


def test_a_version_can_be_read_in_a_transaction(seeded: Any) -> None:
    fs = VolumeFileSystem(seeded.locator)
    with fs.transaction:
        assert fs.cat_file("seed") == b"seed"


def test_a_child_is_in_no_transaction_of_another_thread(fs: VolumeFileSystem) -> None:
    begun, end = threading.Event(), threading.Event()

    def hold() -> None:
        with fs.transaction:
            begun.set()
            end.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    assert begun.wait(30)
    child = os.fork()
    if child == 0:
        try:
            fs.pipe_file("child", b"1")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    end.set()
    thread.join()
    assert published() == {"seed": b"seed", "child": b"1"}


# --- dropped -----------------------------------------------------------------------------------------------------


@pytest.mark.logs_warnings
@pytest.mark.parametrize("mode", ["wb", "ab"])
def test_a_file_that_is_dropped_in_a_cycle_keeps_nothing_from_being_published(fs: VolumeFileSystem, mode: str) -> None:
    file = fs.open("half", mode)
    file.write(b"1")
    ring: list[Any] = [file]
    ring.append(ring)
    del file, ring
    settle()
    assert fs.open_files == 0
    fs.pipe_file("next", b"2")
    fs.rm("seed")
    found = published()
    assert found.pop("half", b"1") in (b"1", b"")
    assert found == {"next": b"2"}


@pytest.mark.parametrize("mode", ["wb", "ab"])
def test_a_file_that_is_dropped_is_closed_by_another_thread(fs: VolumeFileSystem, mode: str) -> None:
    """Whoever drops it may have locks that those who have the turn wait for."""
    box = [fs.open("log", mode)]
    box[0].write(b"1")
    taken, dropped = threading.Event(), threading.Event()

    def has_the_turn() -> None:
        with fs.turn:
            taken.set()
            assert dropped.wait(30)

    thread = threading.Thread(target=has_the_turn)
    thread.start()
    assert taken.wait(30)
    box.clear()
    dropped.set()
    thread.join(30)
    settle()
    assert published()["log"] == b"1"


def test_a_refused_open_leaves_nothing_open(fs: VolumeFileSystem, capsys: pytest.CaptureFixture[str]) -> None:
    fs.mkdir("directory")
    for path, mode, error in (
        ("directory", "wb", IsADirectoryError), ("seed", "xb", FileExistsError), ("none/x", "r+b", FileNotFoundError)
    ):  # fmt: skip
        with pytest.raises(error):
            fs.open(path, mode)
    with pytest.raises(ValueError, match="not supported"):
        fs.open("y", "wb", compression="none-such")
    settle()
    assert fs.open_files == 0
    assert capsys.readouterr().err == ""
    fs.pipe_file("next", b"2")
    assert published() == {"seed": b"seed", "next": b"2"}


def test_a_name_that_became_a_directory_is_refused_and_nothing_is_left(fs: VolumeFileSystem) -> None:
    file = fs.open("w", "wb")
    file.write(b"1")
    fs.mkdir("w")
    with pytest.raises(IsADirectoryError):
        file.close()
    fs.pipe_file("next", b"2")
    assert published() == {"seed": b"seed", "next": b"2"}


@pytest.mark.parametrize("refused", ["rm", "mkdir", "cp", "mv", "open"])
def test_what_was_refused_holds_the_volume_against_nobody(fs: VolumeFileSystem, refused: str) -> None:
    with pytest.raises(OSError, match=r".+"):
        {
            "rm": lambda: fs.rm("none"),
            "mkdir": lambda: fs.mkdir("seed"),
            "cp": lambda: fs.cp_file("none", "new/there"),
            "mv": lambda: fs.mv("none", "new/there"),
            "open": lambda: fs.open("new/none", "r+b"),
        }[refused]()
    child = subprocess.run([sys.executable, "-c", _WRITE], check=False, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    assert published() == {"seed": b"seed", "other": b"1"}


_WRITE = 'from flyteplugins_vol.fs import VolumeFileSystem; VolumeFileSystem("data").pipe_file("other", b"1")'


@pytest.mark.parametrize("mode", ["wb", "xb"])
def test_a_file_that_is_open_is_in_no_version_of_its_handle(seeded: RWVolume, mode: str) -> None:
    volume = Volume.from_name.sync("data")
    fs = VolumeFileSystem.of(volume)
    with fs.open("new", mode) as file:
        file.write(b"1" * (2 << 20))
        fs.pipe_file("other", b"2")
        assert [info.path for info in volume.commit.sync().ls.sync()] == ["/other", "/seed"]
        assert fs.find("") == ["other", "seed"]
    assert [info.path for info in volume.finalize.sync().ls.sync()] == ["/new", "/other", "/seed"]
    assert published()["new"] == b"1" * (2 << 20)


def test_a_symlink_is_written_through_and_a_mode_is_kept(seeded: RWVolume, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("script")
    (tmp_path / "script").write_text("old")
    (tmp_path / "script").chmod(0o755)
    volume = Volume.from_name.sync("data")
    with volume.batch_upload() as batch:
        batch.put_file(tmp_path / "script", "script")
    fs = VolumeFileSystem.of(volume)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "link").symlink_to("../script")
    with volume.batch_upload() as batch:
        batch.put_directory(tmp_path / "tree", "tree")
    with fs.open("tree/link", "wb") as file:
        file.write(b"new")
    assert fs.info("tree/link")["islink"]
    assert (fs.cat_file("script"), fs.info("script")["mode"] & 0o777) == (b"new", 0o755)
    volume.abandon.sync()


# --- the end of the process --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "expected", "told"),
    [
        ('file = fs.open("x", "wb", compression="gzip"); file.write(b"1"); file.close()', {"x"}, ""),
        ('import pickle; pickle.dump(1, fs.open("x", "wb"))', {"x"}, ""),
        ('file = fs.open("slow", "wb"); fs.pipe_file("x", b"1")', {"x"}, "slow was not closed"),
        ('fs.start_transaction(); fs.pipe_file("x", b"1")', set(), ""),
    ],
    ids=["compressed", "never closed", "acknowledged", "in a transaction"],
)
def test_what_was_answered_with_success_is_published_at_the_end(
    fs: VolumeFileSystem, code: str, expected: set[str], told: str
) -> None:
    program = f'from flyteplugins_vol.fs import VolumeFileSystem\nfs = VolumeFileSystem("data")\n{code}'
    ended = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert (ended.returncode, "Traceback" in ended.stderr) == (0, False), ended.stderr
    assert told in ended.stderr
    assert published().keys() - {"seed"} == expected


# --- what fsspec's helpers ask -----------------------------------------------------------------------------------


def test_blocks_are_read_up_to_the_end(fs: VolumeFileSystem) -> None:
    assert fs.read_block("seed", 1, None) == b"eed"
    with fs.open("seed") as file:
        assert file.size == 4


@pytest.mark.parametrize("compression", ["gzip", "bz2", "xz", "zip"])
def test_a_compressed_file_is_there_when_it_is_closed(fs: VolumeFileSystem, compression: str) -> None:
    with fs.open("z", "wb", compression=compression) as file:
        file.write(b"1" * 1000)
    with VolumeFileSystem("data").open("z", compression=compression) as file:
        assert file.read() == b"1" * 1000
    with fs.open("text", "wt", compression=compression) as file:
        file.write("äöü")
    with VolumeFileSystem("data").open("text", "rt", compression=compression) as file:
        assert file.read() == "äöü"


def test_a_volume_that_is_not_there(tmp_path: Path, fs: VolumeFileSystem) -> None:
    with pytest.raises(VersionNotFoundError):
        VolumeFileSystem(VolumeFileSystem("data").volume.locator.replace("00000001", "00000009")).ls("")
