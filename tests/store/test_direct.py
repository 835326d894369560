"""Writes past the page cache: the same bytes as through it, wherever they go, and nothing where it can't be done."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flyteplugins_vol.store.cache import BlockCache
from flyteplugins_vol.store.direct import LEAST, PAGE, DirectWriter, write_past_cache
from flyteplugins_vol.store.local import LocalStore

DATA = random.Random(1).randbytes(9 << 20)
PACK = "ab" * 32

pytestmark = pytest.mark.skipif(not hasattr(os, "O_DIRECT"), reason="no such writes here")


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


def cached_pages(path: Path) -> int:
    """Pages of a file in the page cache, as fincore(1) counts them."""
    found = subprocess.run(["fincore", "-n", "-o", "PAGES", str(path)], capture_output=True, text=True, check=True)
    return int(found.stdout)


def test_whole_pages_arrive_and_are_not_in_the_page_cache(file: int, tmp_path: Path) -> None:
    assert write_past_cache(file, DATA[: 3 * LEAST + 100], PAGE) == 3 * LEAST
    assert cached_pages(tmp_path / "file") == 0
    assert os.pread(file, 4 * LEAST, PAGE) == DATA[: 3 * LEAST]


def test_small_writes_are_left_to_the_caller(file: int) -> None:
    assert write_past_cache(file, DATA[: LEAST - 1], 0) == 0
    assert os.fstat(file).st_size == 0


def test_the_descriptor_may_be_of_a_file_that_has_no_name_any_more(file: int, tmp_path: Path) -> None:
    (tmp_path / "file").unlink()
    assert write_past_cache(file, DATA[:LEAST], 0) == LEAST
    assert os.pread(file, LEAST, 0) == DATA[:LEAST]


@pytest.mark.parametrize("what", ["pipe", "read-only directory"])
def test_where_it_cannot_be_done_nothing_is_written(what: str, tmp_path: Path) -> None:
    ends = os.pipe() if what == "pipe" else (os.open(tmp_path, os.O_RDONLY), os.open(tmp_path, os.O_RDONLY))
    assert DirectWriter().write(ends[1], DATA[:LEAST], 0) == 0
    for end in ends:
        os.close(end)


def test_a_write_that_ends_early_says_how_far_it_came(tmp_path: Path) -> None:
    """A limit on the size of files stands for a disk that is full."""
    script = f"""
import os, resource
from flyteplugins_vol.store.direct import write_past_cache
resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 20, 3 << 20))
fd = os.open({str(tmp_path / "file")!r}, os.O_RDWR | os.O_CREAT)
print(write_past_cache(fd, b"x" * (5 << 20), 0), os.fstat(fd).st_size)
print(write_past_cache(fd, b"x" * (1 << 20), 0))  # from then on others have to do it for a while
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(3 << 20), str(3 << 20), "0"]


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
    clock.step = LEAST / 100e6  # 100 MB/s
    written = [writer.write(file, DATA[:LEAST], 0) for _ in range(32 + 64 + 32)]
    assert written == [LEAST] * 32 + [0] * 64 + [LEAST] * 32


def test_one_slow_write_among_quick_ones_changes_nothing(file: int) -> None:
    clock = Clock()
    writer = DirectWriter(clock)
    for at in range(128):
        clock.step = 0.08 if at % 32 == 7 else LEAST / 2e9
        assert writer.write(file, DATA[:LEAST], 0) == LEAST


def test_a_forked_process_has_a_buffer_of_its_own(file: int) -> None:
    assert write_past_cache(file, DATA[:LEAST], 0) == LEAST
    child = os.fork()
    if not child:
        write_past_cache(file, bytes(LEAST), 4 * LEAST)
        os._exit(0)
    for _ in range(20):
        assert write_past_cache(file, DATA[:LEAST], 0) == LEAST
        assert os.pread(file, LEAST, 0) == DATA[:LEAST]
    os.waitpid(child, 0)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 3 * PAGE), size=st.integers(1, 5 << 20), past=st.booleans())
def test_a_mirror_has_the_same_bytes_wherever_they_begin_and_end(
    tmp_path: Path, at: int, size: int, past: bool
) -> None:
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


def test_large_blocks_of_a_commit_take_no_page_cache(tmp_path: Path) -> None:
    cache = BlockCache(str(tmp_path))
    cache.put(PACK, 0, [DATA[: 4 << 20], DATA[4 << 20 : 8 << 20], DATA[8 << 20 :][:100]], past_cache=True)
    assert cached_pages(tmp_path / "blocks" / PACK[:2] / PACK) == 1  # the last one, which is none of whole pages
    cache.close()
