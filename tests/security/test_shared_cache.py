"""The cache that a user's processes share: an index that lies about a block's place changes nobody else's bytes."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from flyteplugins_vol.errors import IndexDamagedError
from flyteplugins_vol.store.cache import BlockCache, BlockRef
from flyteplugins_vol.store.container import Entry, block_hash

PACK = "ab" + "0" * 62
GOOD = b"honest bytes " * 1000
BAD = b"of a stranger" * 1000


def ref(at: int, plain: bytes) -> BlockRef:
    return BlockRef(PACK, at, Entry(block_hash(plain), 16 + at, len(plain), len(plain), 0))


def read(cache: BlockCache, at: int, plain: bytes) -> bytes | None:
    return cache.read(PACK, at, len(plain), 0, len(plain))


@pytest.fixture
def honest(tmp_path: Path) -> BlockCache:
    return BlockCache(str(tmp_path))


@pytest.fixture
def lied_to(tmp_path: Path, honest: BlockCache) -> BlockCache:
    """The cache of another session on the same directory, whose index lies about places."""
    return BlockCache(str(tmp_path))


@pytest.mark.parametrize("at", [0, 1, 5000, len(GOOD) - 1])
def test_what_one_has_verified_no_other_overwrites(honest: BlockCache, lied_to: BlockCache, at: int) -> None:
    honest.put(PACK, 0, [GOOD])
    lied_to.put(PACK, at, [BAD])
    assert read(honest, 0, GOOD) == GOOD
    assert read(lied_to, at, BAD) == BAD  # from memory: it gets what it asked for, and nobody else does


def test_nor_what_was_verified_on_disk(tmp_path: Path, honest: BlockCache, lied_to: BlockCache) -> None:
    first = BlockCache(str(tmp_path))
    first.put(PACK, 0, [GOOD])
    first.close()
    assert honest.admit(ref(0, GOOD))
    lied_to.put(PACK, 100, [BAD])
    assert read(honest, 0, GOOD) == GOOD


def test_a_lie_that_came_first_is_found_by_hash_and_not_believed(honest: BlockCache, lied_to: BlockCache) -> None:
    lied_to.put(PACK, 100, [BAD])
    assert not honest.admit(ref(0, GOOD))
    honest.put(PACK, 0, [GOOD])
    assert read(honest, 0, GOOD) == GOOD
    assert read(lied_to, 100, BAD) == BAD


def test_a_lie_is_forgotten_with_who_believed_it(honest: BlockCache, lied_to: BlockCache) -> None:
    lied_to.put(PACK, 100, [BAD])
    lied_to.close()
    assert not honest.admit(ref(0, GOOD))
    honest.put(PACK, 0, [GOOD])
    assert not honest._overflow
    assert read(honest, 0, GOOD) == GOOD


def test_two_who_are_told_the_same_share_it(honest: BlockCache, tmp_path: Path) -> None:
    other = BlockCache(str(tmp_path))
    for cache in (honest, other):
        cache.put(PACK, 0, [GOOD])
        cache.put(PACK, len(GOOD), [BAD])
    for cache in (honest, other):
        assert not cache._overflow
        assert read(cache, 0, GOOD) == GOOD
        assert read(cache, len(GOOD), BAD) == BAD


def test_between_processes_too(honest: BlockCache, tmp_path: Path) -> None:
    honest.put(PACK, 0, [GOOD])
    liar = multiprocessing.get_context("fork").Process(target=_lie, args=(str(tmp_path),))
    liar.start()
    liar.join()
    assert liar.exitcode == 0
    assert read(honest, 0, GOOD) == GOOD


def _lie(directory: str) -> None:
    cache = BlockCache(directory)
    cache.put(PACK, 7, [BAD])
    assert read(cache, 7, BAD) == BAD


def test_an_index_that_contradicts_itself_harms_nobody(honest: BlockCache) -> None:
    honest.put(PACK, 0, [GOOD])
    assert not honest.admit(ref(10, BAD))
    assert read(honest, 0, GOOD) == GOOD


@pytest.mark.parametrize(("skip", "count"), [(-1, 1), (0, len(GOOD) + 1), (len(GOOD), 1), (1 << 62, 1)])
def test_no_byte_beside_a_block_is_read(honest: BlockCache, skip: int, count: int) -> None:
    honest.put(PACK, 0, [GOOD, BAD])
    with pytest.raises(IndexDamagedError):
        honest.read(PACK, 0, len(GOOD), skip, count)
