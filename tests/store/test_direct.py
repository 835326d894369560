"""Writes past the page cache: the same bytes as through it, wherever they go, and nothing where it can't be done."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flyteplugins_vol.store import direct
from flyteplugins_vol.store.cache import BlockCache
from flyteplugins_vol.store.direct import LEAST, PAGE, DirectWriter, write_all
from flyteplugins_vol.store.local import LocalStore

DATA = random.Random(1).randbytes(9 << 20)
PIECE = memoryview(DATA)[:LEAST]
PACK = "ab" * 32

pytestmark = pytest.mark.skipif(not hasattr(os, "O_DIRECT"), reason="no such writes here")


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


@pytest.fixture
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is."""
    monkeypatch.setattr(direct, "_SECONDS", float("inf"))
    monkeypatch.setattr(direct, "_PATIENCE", 60.0)
    monkeypatch.setattr(direct, "_writers", {})


def cached_pages(path: Path) -> int:
    """Pages of a file in the page cache, as fincore(1) counts them."""
    kind = subprocess.run(["stat", "-f", "-c", "%T", str(path)], capture_output=True, text=True, check=True).stdout
    if kind.strip() in ("tmpfs", "ramfs"):
        pytest.skip("here the page cache is the disk")
    found = subprocess.run(["fincore", "-n", "-o", "PAGES", str(path)], capture_output=True, text=True, check=True)
    return int(found.stdout)


@pytest.mark.usefixtures("quick_disk")
@pytest.mark.parametrize("past_cache", [True, False])
def test_whole_pages_are_not_in_the_page_cache(file: int, tmp_path: Path, past_cache: bool) -> None:
    write_all(file, DATA[: 3 * LEAST + 100], PAGE - 100, past_cache=past_cache)
    assert os.fstat(file).st_size == PAGE + 3 * LEAST
    pages = cached_pages(tmp_path / "file")
    assert pages == 1 if past_cache else pages > 3 * LEAST // PAGE
    assert os.pread(file, 4 * LEAST, PAGE - 100) == DATA[: 3 * LEAST + 100]


def test_small_writes_go_the_usual_way(file: int, tmp_path: Path) -> None:
    write_all(file, DATA[: LEAST - 1], 0, past_cache=True)
    assert cached_pages(tmp_path / "file") == LEAST // PAGE


@pytest.mark.usefixtures("quick_disk")
def test_the_file_may_have_no_name_any_more(file: int, tmp_path: Path) -> None:
    (tmp_path / "file").unlink()
    assert DirectWriter().write(file, PIECE, 0) == LEAST
    assert os.pread(file, LEAST, 0) == PIECE


@pytest.mark.parametrize("what", ["pipe", "directory"])
def test_where_it_cannot_be_done_nothing_is_written(what: str, tmp_path: Path) -> None:
    ends = os.pipe() if what == "pipe" else (os.open(tmp_path, os.O_RDONLY), os.open(tmp_path, os.O_RDONLY))
    assert DirectWriter().write(ends[1], PIECE, 0) == 0
    for end in ends:
        os.close(end)


def test_a_write_that_ends_early_is_told_as_any_other(tmp_path: Path) -> None:
    """A limit on the size of files stands for a disk that is full."""
    script = f"""
import os, resource
from flyteplugins_vol.store.direct import DirectWriter, write_all
resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 20, 3 << 20))
fd = os.open({str(tmp_path / "file")!r}, os.O_RDWR | os.O_CREAT)
writer = DirectWriter()
print(writer.write(fd, memoryview(b"x" * (5 << 20)), 0), os.fstat(fd).st_size)
print(writer.write(fd, memoryview(b"x" * (1 << 20)), 0))  # from then on others have to do it for a while
try:
    write_all(fd, b"x" * (5 << 20), 0, past_cache=True)
except OSError as error:
    print(error.errno)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(3 << 20), str(3 << 20), "0", str(errno.EFBIG)]


# --- slow disks, broken disks ------------------------------------------------------------------------------------


class Clock:
    """Each look at it takes so long."""

    def __init__(self) -> None:
        self.now = 0.0
        self.step = 0.0

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def test_a_slow_disk_is_left_to_the_page_cache_for_a_while(file: int) -> None:
    clock = Clock()
    writer = DirectWriter(clock)
    clock.step = LEAST / 90e6  # 90 MB/s, where 200 are wanted
    written = [writer.write(file, PIECE, 0) for _ in range(15 + 64 + 15)]
    assert written == [LEAST] * 15 + [0] * 64 + [LEAST] * 15


def test_a_very_slow_disk_is_left_within_one_write(file: int) -> None:
    clock = Clock()
    clock.step = 1.0
    assert DirectWriter(clock).write(file, memoryview(DATA)[: 8 << 20], 0) == 2 << 20


def test_one_slow_write_among_quick_ones_changes_nothing(file: int) -> None:
    clock = Clock()
    writer = DirectWriter(clock)
    for at in range(128):
        clock.step = 0.08 if at % 32 == 7 else LEAST / 2e9
        assert writer.write(file, PIECE, 0) == LEAST


def test_nobody_waits_long_for_a_write_that_hangs(file: int) -> None:
    hangs, goes_on = threading.Event(), threading.Event()

    def clock() -> float:
        hangs.set()
        goes_on.wait(30)
        return 0.0

    writer = DirectWriter(clock)
    thread = threading.Thread(target=writer.write, args=(file, PIECE, 0))
    thread.start()
    assert hangs.wait(30)
    assert writer.write(file, PIECE, 0) == 0
    goes_on.set()
    thread.join()
    assert writer.write(file, PIECE, 0) == LEAST


def test_an_error_of_the_disk_is_not_passed_over(file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page cache would take the bytes, and whoever does not sync them would take them for written."""

    def broken(*_: object) -> int:
        raise OSError(errno.EIO, "the disk is broken")

    monkeypatch.setattr(os, "pwrite", broken)
    with pytest.raises(OSError, match="broken"):
        write_all(file, DATA, 0, past_cache=True)


def test_a_process_that_was_forked_waits_for_no_thread_of_the_other(tmp_path: Path) -> None:
    script = f"""
import os, threading
from flyteplugins_vol.store.direct import LEAST, write_all
fd = os.open({str(tmp_path / "file")!r}, os.O_RDWR | os.O_CREAT)
data, over = os.urandom(4 * LEAST), threading.Event()

def work(at):
    while not over.is_set():
        write_all(fd, data, at * 4 * LEAST, past_cache=True)

threads = [threading.Thread(target=work, args=(at,)) for at in range(2)]
for thread in threads:
    thread.start()
children = []
for at in range(8):
    child = os.fork()
    if not child:
        write_all(fd, bytes(4 * LEAST), (at + 2) * 4 * LEAST, past_cache=True)
        os._exit(0)
    children.append(child)
print(all(os.waitpid(child, 0)[1] == 0 for child in children))
over.set()
for thread in threads:
    thread.join()
print(all(os.pread(fd, 4 * LEAST, at * 4 * LEAST) == data for at in range(2)))
print(all(os.pread(fd, 4 * LEAST, (at + 2) * 4 * LEAST) == bytes(4 * LEAST) for at in range(8)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["True"] * 3


# --- what is written so --------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 3 * PAGE), size=st.integers(1, 5 << 20), past=st.booleans())
def test_a_mirror_has_the_same_bytes_wherever_they_begin(tmp_path: Path, at: int, size: int, past: bool) -> None:
    cache = BlockCache(str(tmp_path / os.urandom(4).hex()))
    try:
        before = DATA[-at:] if at else b""
        if before:
            cache.put(PACK, 0, [before])
        cache.put(PACK, at, [DATA[:size]], past_cache=past)
        assert cache.read(PACK, at, size, 0, size) == DATA[:size]
        assert not before or cache.read(PACK, 0, at, 0, at) == before
    finally:
        cache.close()


@pytest.mark.parametrize("size", [LEAST - 1, LEAST, LEAST + 1, 3 * LEAST + PAGE, (5 << 20) + 17])
def test_an_object_of_a_directory_is_whole(tmp_path: Path, size: int) -> None:
    store = LocalStore("file:///store", str(tmp_path / "store"))
    key = f"packs/aa/{'aa' * 32}"
    assert store.create(key, DATA[:size])
    assert store.get_range(key, 0, size) == DATA[:size]
    assert (tmp_path / "store" / key).stat().st_size == size


@pytest.mark.usefixtures("quick_disk")
def test_large_blocks_of_a_commit_take_no_page_cache(tmp_path: Path) -> None:
    cache = BlockCache(str(tmp_path))
    cache.put(PACK, 0, [DATA[: 4 << 20], DATA[4 << 20 : 8 << 20], DATA[8 << 20 :][:100]], past_cache=True)
    assert cached_pages(tmp_path / "blocks" / PACK[:2] / PACK) == 1  # of the last one, which is no whole page
    cache.close()
