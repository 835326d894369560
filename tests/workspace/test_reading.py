"""What cold reads cost in requests: those of one reader, of many, and of several processes with one cache."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from flyteplugins_vol.history.record import VersionRecord
from flyteplugins_vol.index.blocks import BlockRow
from flyteplugins_vol.store.base import ObjectStore
from flyteplugins_vol.store.counting import Counting
from flyteplugins_vol.store.encrypted import Encrypted
from flyteplugins_vol.store.fetch import Miss
from flyteplugins_vol.store.memory import MemoryStore
from flyteplugins_vol.workspace import data as data_module
from tests.driven import Driven

KB, MB = 1 << 10, 1 << 20
SMALL_FILES = 6_000  # two packs


def store(encrypted: bool) -> tuple[ObjectStore, Counting]:
    """A store for volumes, and the counter of what reaches the objects."""
    counting = Counting(MemoryStore(f"memory://{uuid4().hex}"))
    return (Encrypted(counting, "a secret of some length") if encrypted else counting), counting


@contextmanager
def committed(tmp_path: Path, inner: ObjectStore, sizes: list[int]) -> Iterator[tuple[Driven, VersionRecord]]:
    """A volume with files of these sizes in order, named by number; its version."""
    volume = Driven.new(tmp_path, inner)
    rng = random.Random(3)
    for number, size in enumerate(sizes):
        volume.create(b"%06d" % number, rng.randbytes(size))
    try:
        yield volume, volume.commit()
    finally:
        volume.close()


@contextmanager
def cold(volume: Driven, record: VersionRecord, cache: str = "") -> Iterator[Driven]:
    reader = volume.at(str(record.locator), cache_dir=str(volume.directory / (cache or uuid4().hex)))
    try:
        yield reader
    finally:
        reader.close()


@pytest.mark.parametrize(("encrypted", "order"), [(True, "as written"), (False, "any")])
def test_small_files_come_in_with_two_requests_a_pack(tmp_path: Path, encrypted: bool, order: str) -> None:
    inner, counting = store(encrypted)
    with committed(tmp_path, inner, [KB] * SMALL_FILES) as (volume, record), cold(volume, record) as reader:
        packs = volume.workspace.index.blocks.totals()[0]
        assert packs == 2
        files = [inode.ino for _, inode in reader.workspace.readdir(1, None, SMALL_FILES)]
        if order == "any":
            random.Random(5).shuffle(files)
        counting.reset()
        for ino in files:
            assert len(reader.read(ino)) == KB
        reader.session.fetcher.close()
        assert counting.gets <= 2 * packs
        assert counting.received < 1.3 * SMALL_FILES * KB + packs * 2 * MB


def test_one_small_file_brings_its_neighbours_and_not_its_pack(tmp_path: Path) -> None:
    inner, counting = store(False)
    with committed(tmp_path, inner, [100 * KB] * 100) as (volume, record), cold(volume, record) as reader:
        counting.reset()
        reader.content(b"000030")
        assert counting.gets == 1
        assert counting.received < 1.5 * MB


def test_a_sequential_reader_gets_every_byte_once_and_is_kept_further_and_further_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_module, "_AHEAD", 4)
    inner, counting = store(False)
    with committed(tmp_path, inner, [40 * MB]) as (volume, record), cold(volume, record) as reader:
        counting.reset()
        asked: set[object] = set()
        fetcher = reader.session.fetcher

        def prefetch(miss: Miss) -> None:
            asked.update(line.key for line in miss.lines)
            fetcher.prefetch(miss)

        reader.workspace.on_sequential(prefetch)
        ino = reader.find(b"000000").ino
        content = reader.read(ino, 0, MB)
        assert len(asked) == 2, "a look into a file is not taken for more"
        content += b"".join(reader.read(ino, at, MB) for at in range(MB, 8 * MB, MB))
        assert len(asked) == 5
        content += b"".join(reader.read(ino, at, MB) for at in range(8 * MB, 40 * MB, MB))
        assert len(asked) == 9
        assert counting.gets == 10
        assert counting.received == 40 * MB == len(content)
        assert content == volume.content(b"000000")


def test_who_begins_in_the_middle_is_followed_as_well(tmp_path: Path) -> None:
    inner, _ = store(False)
    with committed(tmp_path, inner, [28 * MB]) as (volume, record), cold(volume, record) as reader:
        asked: set[object] = set()
        reader.workspace.on_sequential(lambda miss: asked.update(line.key for line in miss.lines))
        ino = reader.find(b"000000").ino
        reader.read(ino, 8 * MB, MB)
        assert not asked
        reader.read(ino, 12 * MB, MB)
        assert len(asked) >= 2


def test_many_readers_of_a_file_in_threads_make_one_get_for_each_block(tmp_path: Path) -> None:
    inner, counting = store(False)
    with committed(tmp_path, inner, [9 * MB, *[KB] * 2000]) as (volume, record), cold(volume, record) as reader:
        counting.reset()
        paths = [b"000000", *(b"%06d" % number for number in range(1, 2001, 50))]
        expected = [volume.content(path) for path in paths]
        wrong: list[bytes] = []

        def work() -> None:
            wrong.extend(path for path, right in zip(paths, expected, strict=True) if _content(reader, path) != right)

        _together([work] * 4)
        reader.session.fetcher.close()
        assert not wrong
        assert counting.received < 11 * MB + 64 * KB, "no byte came twice"


@pytest.mark.parametrize("sizes", [[40 * MB], [KB] * 3000])
def test_two_mounts_with_one_cache_fetch_what_one_would(tmp_path: Path, sizes: list[int]) -> None:
    inner, counting = store(False)
    with committed(tmp_path, inner, sizes) as (volume, record):
        paths = [b"%06d" % number for number in range(0, len(sizes), 10)]
        with cold(volume, record) as reader:
            counting.reset()
            for path in paths:
                reader.content(path)
            reader.session.fetcher.close()
            alone, bytes_alone = counting.gets, counting.received
        with cold(volume, record, "shared") as one, cold(volume, record, "shared") as other:
            counting.reset()
            _together([lambda reader=reader: _all(reader, paths) for reader in (one, other)])
            one.session.fetcher.close()
            other.session.fetcher.close()
            assert counting.gets <= 1.1 * alone
            assert counting.received <= 1.1 * bytes_alone


def _content(reader: Driven, path: bytes) -> bytes:
    """As `Driven.content`, from any thread: the workspace has one owner at a time."""
    ino = reader.call(reader.find, path).ino
    size = reader.call(reader.workspace.getattr, ino).size
    parts: list[bytes] = []
    for at in range(0, size, MB):
        while isinstance(found := reader.call(reader.workspace.read, ino, at, MB), Miss):
            reader.session.fetcher.fetch(found).result(30)
        parts.append(bytes(found))
    return b"".join(parts)


def _all(reader: Driven, paths: list[bytes]) -> None:
    for path in paths:
        _content(reader, path)


def _together(jobs: list[Callable[[], None]]) -> None:
    errors: list[BaseException] = []

    def run(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_a_kernel_that_forgets_everything_at_once_costs_no_look_into_the_index(tmp_path: Path) -> None:
    volume = Driven.new(tmp_path, store(False)[0])
    inos = [volume.create(b"%03d" % number) for number in range(100)]
    workspace = volume.workspace
    for ino in inos:
        workspace.remember(ino)
    workspace.housekeep()
    workspace.unlink(1, b"007")
    asked: list[str] = []
    workspace.index.db.sql.set_trace_callback(asked.append)
    for number, ino in enumerate(inos):
        if number != 7:
            workspace.forget(ino, 1)
    assert not asked
    workspace.forget(inos[7], 1)
    with pytest.raises(FileNotFoundError):
        workspace.getattr(inos[7])
    volume.close()


def test_inodes_that_were_only_looked_at_are_let_go_within_a_second(tmp_path: Path) -> None:
    with committed(tmp_path, store(False)[0], [1] * 50) as (volume, record), cold(volume, record) as reader:
        table = reader.workspace.index.inodes
        table.keep = 10
        for _, inode in volume.workspace.readdir(1, None, 100):
            reader.workspace.getattr(inode.ino)
        assert table.crowded
        assert reader.workspace.dirty, "or nobody would come to tidy up"
        reader.workspace.housekeep()
        assert not table.crowded
        assert not reader.workspace.dirty


def test_many_readers_of_a_pack_that_is_on_its_way_look_it_up_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with committed(tmp_path, store(False)[0], [100 * KB] * 100) as (volume, record), cold(volume, record) as reader:
        looked_up: list[int] = []
        real = reader.workspace.index.blocks.near

        def near(block: BlockRow, low: int, high: int, limit: int) -> list[BlockRow]:
            found = real(block, low, high, limit)
            looked_up.append(len(found))
            return found

        monkeypatch.setattr(reader.workspace.index.blocks, "near", near)
        misses = [reader.workspace.read(inode.ino, 0, KB) for _, inode in reader.workspace.readdir(1, None, 100)]
        assert all(isinstance(miss, Miss) for miss in misses)
        assert looked_up.count(100) < 8
        assert len(looked_up) == 100
