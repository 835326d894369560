"""The local cache: what it serves is what was verified, whatever happens to its files meanwhile."""

from __future__ import annotations

import errno
import multiprocessing
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flyteplugins_vol.store import cache as cache_module
from flyteplugins_vol.store import mirror as mirror_module
from flyteplugins_vol.store.cache import BlockCache, BlockRef
from flyteplugins_vol.store.container import PLAIN, Entry, block_hash

PACKS = [f"{i:02x}" * 32 for i in range(16)]


def block(seed: int, size: int = 10_000) -> bytes:
    return random.Random(seed).randbytes(size)


def ref(pack: str, at: int, plain: bytes) -> BlockRef:
    return BlockRef(pack, at, Entry(block_hash(plain), 16 + at, len(plain), len(plain), PLAIN))


def mirror(directory: Path, pack: str) -> Path:
    return directory / "blocks" / pack[:2] / pack


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[BlockCache]:
    made = BlockCache(str(tmp_path))
    yield made
    made.close()


def test_a_block_is_served_once_it_was_put(cache: BlockCache) -> None:
    a, b = block(1), block(2)
    assert cache.read(PACKS[0], 0, len(a), 0, 10) is None
    cache.put(PACKS[0], 0, [a, b])
    assert cache.read(PACKS[0], 0, len(a), 5, 10) == a[5:15]
    assert cache.read(PACKS[0], len(a), len(b), 0, len(b)) == b
    assert cache.read(PACKS[0], 1_000_000, 10, 0, 10) is None
    assert cache.read(PACKS[1], 0, len(a), 0, 10) is None


def test_half_a_block_is_no_block(cache: BlockCache) -> None:
    a = block(1)
    cache.put(PACKS[0], 0, [a])
    assert cache.read(PACKS[0], 0, len(a) + 1, 0, 10) is None
    assert cache.read(PACKS[0], 5, len(a), 0, 10) is None


def test_another_process_finds_the_block_after_it_has_verified_it(cache: BlockCache, tmp_path: Path) -> None:
    a = block(1)
    cache.put(PACKS[0], 0, [a])
    other = BlockCache(str(tmp_path))
    assert other.read(PACKS[0], 0, len(a), 0, 10) is None
    assert other.admit(ref(PACKS[0], 0, a))
    assert other.read(PACKS[0], 0, len(a), 0, 10) == a[:10]
    other.close()


@pytest.mark.parametrize("harm", ["flip", "hole", "cut", "empty"])
def test_a_harmed_block_is_not_admitted_and_a_put_repairs_it(tmp_path: Path, harm: str) -> None:
    a = block(1)
    first = BlockCache(str(tmp_path))
    first.put(PACKS[0], 0, [a])
    first.close()
    path = mirror(tmp_path, PACKS[0])
    raw = bytearray(path.read_bytes())
    if harm == "flip":
        raw[77] ^= 1
    elif harm == "hole":
        raw[4096:8192] = bytes(4096)
    path.write_bytes(raw[:-1] if harm == "cut" else b"" if harm == "empty" else raw)
    again = BlockCache(str(tmp_path))
    assert not again.admit(ref(PACKS[0], 0, a))
    assert again.read(PACKS[0], 0, len(a), 0, 10) is None
    again.put(PACKS[0], 0, [a])
    assert again.read(PACKS[0], 0, len(a), 0, len(a)) == a
    again.close()


def test_a_cut_mirror_that_is_open_gives_a_miss_not_short_bytes(cache: BlockCache, tmp_path: Path) -> None:
    a = block(1)
    cache.put(PACKS[0], 0, [a])
    os.truncate(mirror(tmp_path, PACKS[0]), 100)
    assert cache.read(PACKS[0], 0, len(a), 0, len(a)) is None


def test_a_mirror_deleted_under_our_feet_still_serves_and_takes_blocks(cache: BlockCache, tmp_path: Path) -> None:
    a, b = block(1), block(2)
    cache.put(PACKS[0], 0, [a])
    mirror(tmp_path, PACKS[0]).unlink()
    assert cache.read(PACKS[0], 0, len(a), 0, len(a)) in (a, None)
    cache.put(PACKS[0], len(a), [b])
    assert cache.read(PACKS[0], len(a), len(b), 0, len(b)) == b
    assert cache.used() > 0, "what is put now must be seen, counted and evicted"


def test_a_whole_directory_deleted_under_our_feet(cache: BlockCache, tmp_path: Path) -> None:
    subprocess.run(["rm", "-r", str(tmp_path / "blocks")], check=True)
    a = block(1)
    cache.put(PACKS[0], 0, [a])
    assert cache.read(PACKS[0], 0, len(a), 0, len(a)) == a


def test_eviction_keeps_the_limit_and_drops_what_was_used_longest_ago(tmp_path: Path) -> None:
    cache = BlockCache(str(tmp_path), limit=1 << 20)
    blocks = [block(i, 256 << 10) for i in range(8)]
    for i, plain in enumerate(blocks):
        cache.put(PACKS[i], 0, [plain])
        os.utime(mirror(tmp_path, PACKS[i]), (i, i)) if mirror(tmp_path, PACKS[i]).exists() else None
        assert cache.used() <= (1 << 20) + (256 << 10)
    kept = [cache.read(PACKS[i], 0, len(plain), 0, len(plain)) == plain for i, plain in enumerate(blocks)]
    assert kept[-1]
    assert not any(kept[:3])
    assert not mirror(tmp_path, PACKS[0]).exists()
    cache.close()


@pytest.mark.parametrize("limit", [0, 1, 1 << 20])
def test_a_block_that_was_just_put_can_be_read_however_small_the_cache_is(tmp_path: Path, limit: int) -> None:
    """Else its reader would fetch it again for ever."""
    cache = BlockCache(str(tmp_path), limit=limit)
    for i in range(6):
        plain = block(i, 4 << 20)
        cache.put(PACKS[i], 0, [plain])
        assert cache.read(PACKS[i], 0, len(plain), 0, len(plain)) == plain
    assert cache.used() <= limit + (4 << 20)
    cache.close()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_full_disk_is_no_error_the_block_is_kept_in_memory(
    cache: BlockCache, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def full(fd: int, data: object, at: int) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(cache_module.os, "pwrite", full)
    a, b = block(1), block(2)
    cache.put(PACKS[0], 500, [a, b])
    assert cache.read(PACKS[0], 500, len(a), 1, 9) == a[1:10]
    assert cache.read(PACKS[0], 500 + len(a), len(b), 0, len(b)) == b


def test_other_errors_of_the_disk_are_errors(cache: BlockCache, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, data: object, at: int) -> int:
        raise OSError(errno.EPERM, "no")

    monkeypatch.setattr(cache_module.os, "pwrite", refuse)
    with pytest.raises(PermissionError):
        cache.put(PACKS[0], 0, [block(1)])


def test_a_write_in_pieces_is_whole_in_the_end(cache: BlockCache, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    monkeypatch.setattr(cache_module.os, "pwrite", lambda fd, data, at: real(fd, bytes(data[:777]), at))
    a = block(1)
    cache.put(PACKS[0], 100, [a])
    assert cache.read(PACKS[0], 100, len(a), 0, len(a)) == a


def test_a_really_full_disk(tiny_disk: Path) -> None:
    cache = BlockCache(str(tiny_disk / "cache"))
    for i in range(6):
        plain = block(i, 1 << 20)
        cache.put(PACKS[i], 0, [plain])
        assert cache.read(PACKS[i], 0, len(plain), 0, len(plain)) == plain
    cache.close()


def test_a_mirror_that_cannot_be_deleted_now_is_left_and_others_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows: as long as another process has it open."""
    cache = BlockCache(str(tmp_path), None)
    for number, pack in enumerate(("aa", "bb", "cc")):
        cache.put(pack, 0, [block(number, 1 << 20)])
        os.utime(mirror(tmp_path, pack), (number, number))
    unlink = os.unlink

    def refused(path: str) -> None:
        if path.endswith("aa"):
            raise PermissionError(errno.EACCES, "in use")
        unlink(path)

    monkeypatch.setattr(cache_module.os, "unlink", refused)
    assert cache.trim(1 << 20) >= 2 << 20
    assert [pack for pack in ("aa", "bb", "cc") if mirror(tmp_path, pack).exists()] == ["aa"]
    cache.close()


def test_two_caches_on_one_directory_evict_from_each_other_and_stay_right(tmp_path: Path) -> None:
    caches = [BlockCache(str(tmp_path), limit=1 << 20) for _ in range(2)]
    rng = random.Random(5)
    plains = [block(i, 300_000) for i in range(8)]
    for _ in range(100):
        cache, i = rng.choice(caches), rng.randrange(8)
        wanted = ref(PACKS[i], 0, plains[i])
        if not cache.admit(wanted):
            cache.put(PACKS[i], 0, [plains[i]])
        assert cache.read(PACKS[i], 0, len(plains[i]), 7, 1000) == plains[i][7:1007]
    for cache in caches:
        cache.close()


def test_threads_read_and_put_while_others_trim(tmp_path: Path) -> None:
    cache = BlockCache(str(tmp_path), limit=1 << 20)
    plains = [block(i, 100_000) for i in range(16)]
    wrong: list[int] = []

    def work(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(150):
            i = rng.randrange(16)
            found = cache.read(PACKS[i], 0, 100_000, 0, 100_000)
            if found is None:
                cache.put(PACKS[i], 0, [plains[i]])
            elif found != plains[i]:
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    cache.close()


def test_open_mirrors_are_bounded_and_their_descriptors_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "_OPEN_MIRRORS", 4)
    before = len(os.listdir("/proc/self/fd"))
    cache = BlockCache(str(tmp_path))
    for pack in PACKS:
        cache.put(pack, 0, [b"x" * 100])
    assert len(os.listdir("/proc/self/fd")) <= before + 4
    cache.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_who_claims_what_another_process_fetches_waits_for_it(tmp_path: Path) -> None:
    one, other = BlockCache(str(tmp_path)), BlockCache(str(tmp_path))
    order: list[str] = []
    waiting = threading.Event()

    def second() -> None:
        waiting.set()
        with other.claim(PACKS[0], 5_000, 20_000):
            order.append("granted")
            assert other.admit(ref(PACKS[0], 0, block(1)))

    thread = threading.Thread(target=second)
    with one.claim(PACKS[0], 0, 10_000):
        thread.start()
        assert waiting.wait(10)
        with other.claim(PACKS[0], 20_000, 30_000), other.claim(PACKS[1], 0, 10_000):
            order.append("elsewhere")
        one.put(PACKS[0], 0, [block(1)])
        order.append("done")
    thread.join()
    assert order == ["elsewhere", "done", "granted"]
    one.close()
    other.close()


def test_a_claim_ends_with_its_process(cache: BlockCache, tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe()
    child = fork.Process(target=_claim_and_say_so, args=(str(tmp_path), theirs))
    child.start()
    assert ours.poll(10)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    before = time.monotonic()
    with cache.claim(PACKS[0], 0, 10_000):
        assert time.monotonic() - before < 5


def _claim_and_say_so(directory: str, pipe: Any) -> None:
    with BlockCache(directory).claim(PACKS[0], 0, 10_000):
        pipe.send("claimed")
        signal.pause()


def test_nobody_waits_for_ever_for_a_process_that_is_stopped(
    cache: BlockCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror_module, "_CLAIM_SECONDS", 0.05)
    stopped = BlockCache(str(tmp_path))
    with stopped.claim(PACKS[0], 0, 10_000):
        with cache.claim(PACKS[0], 0, 10_000):
            cache.put(PACKS[0], 0, [block(1)])
        with cache.claim(PACKS[0], 0, 10_000):  # and the one who was late takes nobody's claim along
            pass
        assert cache.read(PACKS[0], 0, 10_000, 0, 10_000) == block(1)
    stopped.close()


def test_a_full_disk_claims_nothing_and_fetches_all_the_same(
    cache: BlockCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(cache_module.os, "open", full)
        with cache.claim(PACKS[0], 0, 10_000):
            cache.put(PACKS[0], 0, [block(1)])
    assert cache.read(PACKS[0], 0, 10_000, 0, 10_000) == block(1)


def test_a_view_of_something_larger_is_kept_without_the_rest(
    cache: BlockCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int, data: object, at: int) -> int:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(cache_module.os, "pwrite", full)
    larger = block(1, 100_000)
    cache.put(PACKS[0], 0, [memoryview(larger)[:10], memoryview(larger)[10:30]])
    assert {type(plain) for plain in cache._overflow.values()} == {bytes}
    assert cache.read(PACKS[0], 10, 20, 0, 20) == larger[10:30]


def test_what_is_absent_of_many_blocks(cache: BlockCache, tmp_path: Path) -> None:
    blocks = [block(number, 5_000) for number in range(40)]
    refs = [ref(PACKS[0], 5_000 * number, plain) for number, plain in enumerate(blocks)]
    assert cache.absent(refs) == refs
    there = {0, 1, 2, 17, 18, 39}
    for number in there:
        cache.put(PACKS[0], 5_000 * number, [blocks[number]])
    assert cache.absent(refs) == [wanted for number, wanted in enumerate(refs) if number not in there]
    other = BlockCache(str(tmp_path))
    assert other.absent(refs[::-1]) == [wanted for number, wanted in enumerate(refs) if number not in there][::-1]
    assert other.read(PACKS[0], 85_000, 5_000, 0, 5_000) == blocks[17]
    assert cache.absent([]) == []
    other.close()


def test_who_goes_through_a_block_has_it_from_memory_until_its_end(cache: BlockCache) -> None:
    a = block(1)
    cache.pass_on(PACKS[0], 0, a)
    assert cache.read(PACKS[0], 0, len(a), 0, 4_000) == a[:4_000]
    assert cache.read(PACKS[0], 0, len(a), 4_000, 6_000) == a[4_000:]
    assert cache.read(PACKS[0], 0, len(a), 0, 4_000) is None  # it was never put into the mirror


def test_a_block_in_memory_is_not_taken_for_one_of_another_size(cache: BlockCache) -> None:
    a = block(1)
    cache.pass_on(PACKS[0], 0, a)
    assert cache.read(PACKS[0], 0, len(a) - 1, 0, 100) is None
    assert cache.read(PACKS[0], 0, len(a) + 1, 0, 100) is None
    assert cache.read(PACKS[0], 1, len(a), 0, 100) is None


def test_blocks_in_memory_are_bounded_and_let_go(cache: BlockCache) -> None:
    """Those who were there first stay: with one reader more than there is room for, none would find his own."""
    large = block(1, 4 << 20)
    assert [cache.pass_on(PACKS[0], i << 22, large) for i in range(22)] == [True] * 20 + [False] * 2  # 80 MiB
    assert cache.read(PACKS[0], 0, 4 << 20, 0, 4 << 20) == large
    assert cache.pass_on(PACKS[0], 21 << 22, large)
    cache.let_go()
    assert cache.read(PACKS[0], 1 << 22, 4 << 20, 0, 1) is None


def test_a_block_that_nobody_came_for_makes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "_PASSING_SECONDS", 0.0)
    cache = BlockCache(str(tmp_path))
    large = block(1, 4 << 20)
    assert all(cache.pass_on(PACKS[0], i << 22, large) for i in range(40))
    cache.close()


def test_a_part_of_an_answer_counts_as_what_it_keeps_in_memory(cache: BlockCache) -> None:
    answer = memoryview(block(1, 5 << 20))
    held = [cache.pass_on(PACKS[0], i << 22, answer[: 1 << 20]) for i in range(20)]
    assert sum(held) == 16  # of 5 MiB each


@pytest.mark.parametrize("limit", [1 << 20, 2 << 20, 4 << 20, 6 << 20])
@pytest.mark.parametrize("sizes", [[900_000, 4 << 20], [100_000] * 64])
def test_what_was_put_can_be_read_however_small_the_cache(tmp_path: Path, limit: int, sizes: list[int]) -> None:
    """A part that goes from the mirror at once would be fetched again and again."""
    cache = BlockCache(str(tmp_path), limit)
    blocks = [block(i, size) for i, size in enumerate(sizes)]
    cache.put(PACKS[0], 0, blocks)
    at = 0
    for plain in blocks:
        assert cache.read(PACKS[0], at, len(plain), 0, len(plain)) == plain
        at += len(plain)
    cache.close()


def test_a_look_for_evicted_mirrors_leaves_their_order(cache: BlockCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "_OPEN_MIRRORS", 3)
    cache = BlockCache(str(cache_directory(cache)))
    a = block(1)
    for i in range(3):
        cache.put(PACKS[i], 0, [a])
    assert cache.read(PACKS[0], 0, len(a), 0, 1) is not None  # the first is the most recent now
    cache.close_evicted()
    cache.put(PACKS[3], 0, [a])
    assert [cache.read(PACKS[i], 0, len(a), 0, 1) is not None for i in range(4)] == [True, False, True, True]
    cache.close()


def cache_directory(cache: BlockCache) -> Path:
    return Path(cache._root).parent


def test_many_small_blocks_are_put_at_their_places(cache: BlockCache) -> None:
    blocks = [block(i, 50_000 + i) for i in range(64)]
    cache.put(PACKS[0], 300, blocks)
    at = 300
    for plain in blocks:
        assert cache.read(PACKS[0], at, len(plain), 0, len(plain)) == plain
        at += len(plain)


@pytest.mark.parametrize("look", [BlockCache.close_evicted, BlockCache.trim])
def test_the_space_of_what_another_process_evicted_is_given_up(
    tmp_path: Path, look: Callable[[BlockCache], Any]
) -> None:
    """An open file that was deleted takes space that no listing shows."""
    mine, other = BlockCache(str(tmp_path)), BlockCache(str(tmp_path))
    large = block(1, 1 << 20)
    for pack in PACKS[:3]:
        mine.put(pack, 0, [large])
    other.trim(limit=0)
    assert unlinked_bytes() >= 3 << 20
    look(mine)
    assert unlinked_bytes() == 0
    assert mine.read(PACKS[0], 0, len(large), 0, 10) is None
    mine.put(PACKS[0], 0, [large])
    assert mine.read(PACKS[0], 0, len(large), 0, len(large)) == large
    mine.close()
    other.close()


def unlinked_bytes() -> int:
    """Bytes of files of caches that this process has open, and that have no name any more."""
    found = 0
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
            if "/blocks/" in target and target.endswith(" (deleted)"):
                found += os.stat(f"/proc/self/fd/{fd}").st_blocks * 512
        except FileNotFoundError:  # the listing's own
            pass
    return found


def test_a_mirror_that_is_evicted_as_it_is_opened_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(path: str) -> None:
        os.unlink(path)
        raise FileNotFoundError(path)

    monkeypatch.setattr(os, "utime", gone)
    assert mirror_module.open_mirror(str(tmp_path / "mirror"), create=True) is not None
