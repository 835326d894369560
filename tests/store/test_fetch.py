"""Fetching: one request for what lies together, one for many readers, and no byte that was not verified."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from flyteplugins_vol.errors import ObjectMissingError, PackDamagedError, StoreUnavailableError
from flyteplugins_vol.store import fetch as fetch_module
from flyteplugins_vol.store.cache import BlockCache, BlockRef
from flyteplugins_vol.store.container import PACK, Container, block_hash, build, encode, object_key
from flyteplugins_vol.store.faulty import Faulty
from flyteplugins_vol.store.fetch import WHOLE, Fetcher, Line, Miss
from flyteplugins_vol.store.memory import MemoryStore

BLOCKS = [random.Random(i).randbytes(1000 + i) for i in range(8)] + [bytes(5000)]


class Setting:
    """A pack in a store, and a fetcher that brings its blocks."""

    def __init__(self, directory: Path, limit: int | None = None) -> None:
        self.store = Faulty(MemoryStore(f"memory://{uuid4().hex}"))
        self.pack = self.upload(BLOCKS)
        self.cache = BlockCache(str(directory), limit)
        self.fetcher = Fetcher(self.store, self.cache, workers=4)

    def upload(self, blocks: list[bytes]) -> Container:
        pack = build(PACK, [(block_hash(plain), len(plain), *encode(plain)) for plain in blocks])
        assert self.store.create(object_key(PACK, pack.name), pack.data)
        return pack

    def refs(self, pack: Container | None = None) -> list[BlockRef]:
        pack = pack or self.pack
        ats = [sum(e.size for e in pack.entries[:i]) for i in range(len(pack.entries))]
        return [BlockRef(pack.name, at, entry) for at, entry in zip(ats, pack.entries, strict=True)]

    def miss(self, *numbers: int) -> Miss:
        refs = self.refs()
        return Miss((Line((self.pack.name, 0), tuple(refs[i] for i in numbers or range(len(refs)))),))

    def bring(self, *numbers: int) -> None:
        self.fetcher.fetch(self.miss(*numbers)).result(10)

    def read(self, number: int) -> bytes | None:
        ref = self.refs()[number]
        return self.cache.read(ref.pack, ref.at, ref.entry.size, 0, ref.entry.size)

    def gets(self) -> int:
        return sum(verb == "get_range" for verb, _ in self.store.log)

    def replace_object(self, change: Callable[[bytes], bytes]) -> None:
        key = object_key(PACK, self.pack.name)
        self.store.inner.delete(key)
        assert self.store.inner.create(key, change(self.pack.data))


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Setting]:
    setting = Setting(tmp_path)
    yield setting
    setting.fetcher.close()
    setting.cache.close()


def flipped(at: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_neighbours_come_in_with_one_request(here: Setting) -> None:
    here.bring()
    assert [here.read(i) for i in range(len(BLOCKS))] == BLOCKS
    assert here.gets() == here.fetcher.requests == 1


def test_what_is_there_is_not_fetched_again(here: Setting) -> None:
    here.bring()
    here.bring()
    assert here.gets() == 1


def test_only_what_is_missing_is_fetched(here: Setting) -> None:
    here.bring(0, 1)
    before = here.fetcher.fetched_bytes
    here.bring()
    assert here.gets() == 2
    assert here.fetcher.fetched_bytes - before == sum(e.stored for e in here.pack.entries[2:])


def test_blocks_far_apart_are_fetched_apart(here: Setting) -> None:
    pack = here.upload([random.Random(9).randbytes(1_600_000) for _ in range(3)])
    refs = here.refs(pack)
    here.fetcher.fetch(Miss((Line((pack.name, 0), (refs[0], refs[2])),))).result(10)
    assert here.gets() == 2
    assert here.fetcher.fetched_bytes == 3_200_000


def test_one_get_for_two_readers_who_want_the_same_line_at_once(here: Setting) -> None:
    gate = threading.Event()
    arrived = threading.Event()

    def slow(data: bytes) -> bytes:
        arrived.set()
        assert gate.wait(10)
        return data

    here.store.alter("get_range", "*", slow)
    first = here.fetcher.fetch(here.miss())
    assert arrived.wait(10)
    others: list[Future[None]] = []
    threads = [threading.Thread(target=lambda: others.append(here.fetcher.fetch(here.miss()))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gate.set()
    for future in (first, *others):
        future.result(10)
    assert here.gets() == 1


def test_a_bit_flipped_in_transit_costs_one_more_request(here: Setting) -> None:
    here.store.alter("get_range", "*", flipped(1500))
    here.bring()
    assert here.gets() == 2
    assert [here.read(i) for i in range(len(BLOCKS))] == BLOCKS


def test_a_bit_flipped_in_the_local_cache_is_fetched_again(tmp_path: Path) -> None:
    here = Setting(tmp_path)
    here.bring()
    here.cache.close()
    path = tmp_path / "blocks" / here.pack.name[:2] / here.pack.name
    path.write_bytes(flipped(1500)(path.read_bytes()))
    here.bring()
    assert here.gets() == 2
    assert here.fetcher.fetched_bytes == sum(e.stored for e in here.pack.entries) + here.pack.entries[1].stored
    assert here.read(1) == BLOCKS[1]
    here.fetcher.close()
    here.cache.close()


def test_a_pack_altered_in_the_store_is_damage_that_names_it(here: Setting) -> None:
    here.replace_object(flipped(16 + 1500))
    with pytest.raises(PackDamagedError, match=here.pack.name) as caught:
        here.bring(1)
    assert here.store.url in caught.value.message
    assert caught.value.hint
    assert here.read(1) is None


def test_damage_of_one_block_does_not_take_its_neighbours_along(here: Setting) -> None:
    here.replace_object(flipped(16 + 1500))
    with pytest.raises(PackDamagedError):
        here.bring()
    assert [here.read(i) for i in range(len(BLOCKS))] == [BLOCKS[0], None, *BLOCKS[2:]]


@pytest.mark.parametrize("left", [0, 10, 2000])
def test_a_pack_cut_short_is_damage_that_names_it(here: Setting, left: int) -> None:
    here.replace_object(lambda data: data[:left])
    with pytest.raises(PackDamagedError, match=here.pack.name):
        here.bring()


def test_a_pack_that_is_missing_is_said_to_be(here: Setting) -> None:
    here.store.inner.delete(object_key(PACK, here.pack.name))
    with pytest.raises(ObjectMissingError, match=here.pack.name):
        here.bring()


def test_a_store_that_is_away_is_no_damage_and_the_next_try_succeeds(here: Setting) -> None:
    here.store.fail("get_range")
    with pytest.raises(StoreUnavailableError):
        here.bring()
    here.bring()
    assert here.read(0) == BLOCKS[0]


def test_a_miss_of_several_lines_is_done_when_all_are_and_carries_the_first_error(here: Setting) -> None:
    other = here.upload([b"other" * 100])
    lines = (*here.miss().lines, Line((other.name, 0), tuple(here.refs(other))))
    here.fetcher.fetch(Miss(lines)).result(10)
    gone = here.upload([b"gone" * 100])
    here.store.inner.delete(object_key(PACK, gone.name))
    with pytest.raises(ObjectMissingError):
        here.fetcher.fetch(Miss((*here.miss().lines, Line((gone.name, 0), tuple(here.refs(gone)))))).result(10)


def test_an_error_of_a_prefetch_is_left_to_the_reader(here: Setting) -> None:
    here.store.fail("get_range")
    state: Any = here.fetcher
    here.fetcher.prefetch(here.miss())
    wait(list(state._under_way.values()), 30)
    here.fetcher.close()
    assert here.gets() == 1
    here.fetcher = Fetcher(here.store, here.cache)
    here.bring()
    assert here.read(0) == BLOCKS[0]


def test_blocks_of_a_line_that_do_not_follow_one_another_go_where_they_belong(here: Setting) -> None:
    here.bring(0, 2, 3, 7)
    assert here.gets() == 1
    assert [here.read(i) for i in (0, 2, 3, 7)] == [BLOCKS[i] for i in (0, 2, 3, 7)]
    assert here.read(1) is None


def test_everything_under_way_is_forgotten_in_the_end(here: Setting) -> None:
    here.store.fail("get_range")
    with pytest.raises(StoreUnavailableError):
        here.bring()
    here.bring()
    here.fetcher.close()
    state: Any = here.fetcher
    assert state._under_way == {}


def other_packs(here: Setting, count: int) -> list[Miss]:
    misses: list[Miss] = []
    for number in range(count):
        pack = here.upload([b"%04d" % number * 100])
        misses.append(Miss((Line((pack.name, 0), tuple(here.refs(pack))),)))
    return misses


def test_a_reader_who_waits_comes_before_what_is_fetched_ahead(here: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_module, "_AHEAD", 2)
    gate = threading.Event()

    def slow(data: bytes) -> bytes:
        assert gate.wait(10)
        return data

    first, second, third, fourth = other_packs(here, 4)
    for miss in (first, second):
        here.store.alter("get_range", object_key(PACK, miss.lines[0].key[0]), slow)
    for miss in (first, second, third, fourth):
        here.fetcher.prefetch(miss)
    here.fetcher.fetch(fourth).result(10)
    here.bring(0)
    assert here.gets() <= 4, "the third waits until one of the first two is there"
    gate.set()
    for miss in (first, second, third):
        here.fetcher.fetch(miss).result(10)
    assert here.gets() == 5


def test_prefetches_that_nobody_came_for_are_dropped_from_the_oldest_on(
    here: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_module, "_AHEAD", 0)
    monkeypatch.setattr(fetch_module, "_LATER", 3)
    misses = other_packs(here, 5)
    for miss in misses:
        here.fetcher.prefetch(miss)
    state: Any = here.fetcher
    assert list(state._later) == [miss.lines[0].key for miss in misses[2:]]


def test_a_whole_pack_waits_for_those_of_its_lines_that_are_under_way(here: Setting) -> None:
    gate = threading.Event()
    arrived = threading.Event()

    def slow(data: bytes) -> bytes:
        arrived.set()
        assert gate.wait(10)
        return data

    here.store.alter("get_range", "*", slow)
    part = here.fetcher.fetch(here.miss(0, 1))
    assert arrived.wait(10)
    whole = here.fetcher.fetch(Miss((Line((here.pack.name, WHOLE), tuple(here.refs())),)))
    later = here.fetcher.fetch(Miss((Line((here.pack.name, 7), (here.refs()[5],)),)))
    gate.set()
    for future in (part, whole, later):
        future.result(10)
    assert here.gets() == 2
    assert here.fetcher.fetched_bytes == sum(entry.stored for entry in here.pack.entries)


def test_memory_of_requests_under_way_is_bounded(here: Setting) -> None:
    gate = threading.Event()
    arrived = threading.Event()

    def slow(data: bytes) -> bytes:
        arrived.set()
        assert gate.wait(10)
        return data

    state: Any = here.fetcher
    first, second, third = other_packs(here, 3)  # each of 400 bytes, or less where they are compressed
    size = first.lines[0].blocks[0].entry.stored
    state._left = size + size // 2
    here.store.alter("get_range", "*", slow)
    one = here.fetcher.fetch(first)
    assert arrived.wait(10)
    others = [here.fetcher.fetch(miss) for miss in (second, third)]
    assert here.gets() == 1
    gate.set()
    for future in (one, *others):
        future.result(10)
    assert state._left == size + size // 2


def test_damage_in_one_request_of_a_line_leaves_the_others_what_they_came_for(here: Setting) -> None:
    blocks = [random.Random(number).randbytes(1_600_000) for number in range(3)]
    pack = here.upload(blocks)
    refs = here.refs(pack)
    key = object_key(PACK, pack.name)
    here.store.inner.delete(key)
    assert here.store.inner.create(key, flipped(500)(pack.data))
    with pytest.raises(PackDamagedError):
        here.fetcher.fetch(Miss((Line((pack.name, 0), (refs[0], refs[2])),))).result(10)
    assert here.cache.read(pack.name, refs[2].at, 1_600_000, 0, 1_600_000) == blocks[2]


def test_a_reader_who_passes_through_finds_large_blocks_in_memory(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    blocks = [random.Random(i).randbytes(1_200_000) for i in range(3)]
    pack = setting.upload(blocks)
    refs = setting.refs(pack)
    setting.fetcher.fetch(Miss((Line((pack.name, 0), tuple(refs), passing=True),))).result(10)
    (tmp_path / "blocks" / pack.name[:2] / pack.name).write_bytes(b"")  # whatever became of the mirror
    for ref, plain in zip(refs, blocks, strict=True):
        assert setting.cache.read(ref.pack, ref.at, ref.entry.size, 0, ref.entry.size) == plain
        assert setting.cache.read(ref.pack, ref.at, ref.entry.size, 0, 10) is None  # its end was read
    setting.fetcher.close()
