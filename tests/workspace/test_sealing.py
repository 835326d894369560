"""Sealing beside writers: whatever happens between picking the work and settling it, no byte is lost or mixed up."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest

from flyteplugins_vol.errors import StoreError, StoreUnavailableError
from flyteplugins_vol.model import AttrChange
from flyteplugins_vol.store.base import Data, ObjectStore
from flyteplugins_vol.store.container import block_hash
from flyteplugins_vol.store.encrypted import Encrypted
from flyteplugins_vol.store.faulty import Faulty
from flyteplugins_vol.store.local import LocalStore
from flyteplugins_vol.store.memory import MemoryStore
from flyteplugins_vol.store.open import open_store
from flyteplugins_vol.store.wrapper import Wrapper
from flyteplugins_vol.workspace import data as data_module
from flyteplugins_vol.workspace.sealing import SealedPack, SealJob, read_pieces
from tests.driven import ME, Driven

MB = 1 << 20


@pytest.fixture
def store() -> Faulty:
    return Faulty(MemoryStore(f"memory://{uuid4().hex}"))


@pytest.fixture
def volume(tmp_path: Path, store: Faulty) -> Iterator[Driven]:
    driven = Driven.new(tmp_path, store)
    yield driven
    driven.close()


def noise(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def begin(volume: Driven) -> SealJob:
    job = volume.workspace.next_seal(True)
    assert job is not None
    return job


def finish(volume: Driven, job: SealJob) -> SealedPack | None:
    plains = read_pieces(job)
    hashes = [block_hash(plain) for plain in plains]
    fresh = volume.workspace.settle_known(job, hashes)
    sealed = volume.session.sealer._put(*volume.session.sealer._pack(plains, hashes, fresh)) if fresh else None
    volume.workspace.settle_pack(job, sealed)
    return sealed


def test_bytes_overwritten_during_a_seal_stay_the_new_ones(volume: Driven) -> None:
    expected = bytearray(noise(1, 3 * MB))
    ino = volume.create(b"f", bytes(expected))
    job = begin(volume)
    for offset, size in ((0, 10), (1000, 5000), (3 * MB - 1, 1), (3 * MB - 1, 2)):
        volume.workspace.write(ino, offset, noise(offset, size))
        expected[offset : offset + size] = noise(offset, size)
    finish(volume, job)
    assert volume.read(ino) == bytes(expected)
    assert volume.workspace.staged_bytes == 10 + 5000 + 2
    volume.check_staging()
    volume.commit()
    assert volume.read(ino) == bytes(expected)
    volume.check()


def test_all_overwritten_during_a_seal(volume: Driven) -> None:
    ino = volume.create(b"f", noise(1, MB))
    job = begin(volume)
    volume.workspace.write(ino, 0, noise(2, MB))
    finish(volume, job)
    assert volume.read(ino) == noise(2, MB)
    volume.check(volume.commit())  # the first block was named by nobody: it is not in the index


@pytest.mark.parametrize("kept", [0, 1, 1000, MB - 1])
def test_a_file_truncated_during_a_seal(volume: Driven, kept: int) -> None:
    ino = volume.create(b"f", noise(1, MB))
    job = begin(volume)
    volume.workspace.setattr(ino, AttrChange(size=kept), ME)
    volume.workspace.setattr(ino, AttrChange(size=2 * MB), ME)
    finish(volume, job)
    assert volume.read(ino) == noise(1, MB)[:kept] + bytes(2 * MB - kept)
    assert volume.workspace.staged_bytes == 0
    volume.check(volume.commit())


def test_a_file_deleted_during_a_seal(volume: Driven) -> None:
    volume.create(b"f", noise(1, MB))
    job = begin(volume)
    volume.workspace.unlink(1, b"f")
    finish(volume, job)
    assert volume.workspace.staged_bytes == 0
    record = volume.commit()
    volume.check(record)
    assert record.stats["packs"] == 0


def test_what_lies_on_the_cache_s_own_disk_is_not_kept_twice(tmp_path: Path) -> None:
    volume = Driven.new(tmp_path, open_store(f"file://{tmp_path}/store"))
    try:
        ino = volume.create(b"f", noise(1, MB))
        volume.commit()
        cache = volume.session.cache
        assert cache.used() == 0
        assert volume.read(ino) == noise(1, MB)
        assert cache.used() >= MB, "who reads it is served by the cache from then on"
    finally:
        volume.close()


@pytest.mark.parametrize("where", ["memory", "another disk", "encrypted"])
def test_what_is_farther_away_is_cached_as_it_is_sealed(tmp_path: Path, where: str) -> None:
    store: ObjectStore = LocalStore(f"file://{tmp_path}/store", str(tmp_path / "store"))
    if where == "memory":
        store = MemoryStore(f"memory://{uuid4().hex}")
    elif where == "encrypted":
        store = Encrypted(store, "a secret of the tests")
    else:
        store = _Elsewhere(store)
    volume = Driven.new(tmp_path, store)
    try:
        ino = volume.create(b"f", noise(1, MB))
        volume.commit()
        assert volume.session.cache.used() >= MB
        assert volume.read(ino) == noise(1, MB)
    finally:
        volume.close()


class _Elsewhere(Wrapper):
    @property
    def disk(self) -> int | None:
        return -1


def test_no_more_uploads_at_once_than_are_allowed(tmp_path: Path) -> None:
    store = _Counted(MemoryStore(f"memory://{uuid4().hex}"))
    volume = Driven.new(tmp_path, store, max_uploads=1)
    try:
        for i in range(5):
            volume.create(b"%d" % i, noise(i, 16 * MB))
        volume.commit()
        assert volume.session.sealer.packs == 5
        assert store.most == 1
    finally:
        volume.close()


class _Counted(Wrapper):
    """Counts the packs that are written at once."""

    def __init__(self, inner: ObjectStore) -> None:
        super().__init__(inner)
        self._lock = threading.Lock()
        self._now = self.most = 0

    def create(self, key: str, data: Data) -> bool:
        with self._lock:
            self._now += key.startswith("packs/")
            self.most = max(self.most, self._now)
        try:
            return super().create(key, data)
        finally:
            with self._lock:
                self._now -= key.startswith("packs/")


def test_a_file_deleted_before_its_seal_is_never_uploaded(volume: Driven, store: Faulty) -> None:
    for i in range(20):
        volume.create(b"%d" % i, noise(i, 10_000))
        volume.workspace.unlink(1, b"%d" % i)
    volume.commit()
    assert not [key for verb, key in store.log if verb == "create" and key.startswith("packs/")]


@pytest.mark.parametrize("size", [1, 10, MB])
def test_a_truncate_that_leaves_nothing_staged_does_not_stop_the_commit(volume: Driven, size: int) -> None:
    ino = volume.workspace.mknod(1, b"f", 0o644, 0, ME).ino
    volume.workspace.write(ino, size, b"tail")
    volume.workspace.setattr(ino, AttrChange(size=size), ME)
    volume.check_staging()
    volume.check(volume.commit())
    assert volume.read(ino) == bytes(size)


def test_a_failing_store_loses_nothing_and_the_next_try_succeeds(volume: Driven, store: Faulty) -> None:
    inos = [volume.create(b"%d" % i, noise(i, 100_000)) for i in range(5)]
    fault = store.fail("create", "packs/*", times=2)
    for _ in range(2):
        with pytest.raises(StoreUnavailableError):
            volume.seal()
        assert volume.workspace.staged_bytes == 500_000
        assert volume.workspace.unsealed_bytes == 500_000
        volume.check_staging()
    assert fault.hits == 2
    assert volume.seal()
    assert volume.workspace.staged_bytes == 0
    assert [volume.read(ino) for ino in inos] == [noise(i, 100_000) for i in range(5)]
    volume.check(volume.commit())


def test_a_pack_whose_answer_was_lost_is_uploaded_again_under_another_name(volume: Driven, store: Faulty) -> None:
    ino = volume.create(b"f", noise(1, 1000))
    store.fail("create", "packs/*", after=True)
    with pytest.raises(StoreUnavailableError):
        volume.seal()
    volume.check(volume.commit())
    assert volume.read(ino) == noise(1, 1000)


def test_a_bug_in_a_seal_gives_the_work_back(volume: Driven, store: Faulty) -> None:
    volume.create(b"f", noise(1, 1000))
    store.fail("create", "packs/*", error=ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        volume.seal()
    volume.check_staging()
    assert volume.seal()


def test_equal_files_of_one_job_are_one_block(volume: Driven) -> None:
    inos = [volume.create(b"%d" % i, noise(i % 2, 50_000)) for i in range(10)]
    record = volume.commit()
    volume.check(record)
    assert volume.session.sealer.plain_bytes == 100_000
    assert all(volume.read(ino) == noise(i % 2, 50_000) for i, ino in enumerate(inos))


def test_equal_files_of_several_versions_are_one_block(volume: Driven, store: Faulty) -> None:
    volume.create(b"a", noise(1, 50_000))
    volume.commit()
    volume.create(b"b", noise(1, 50_000))
    record = volume.commit()
    volume.check(record)
    assert record.stats["packs"] == 1
    assert record.stats["new_pack_bytes"] == 0


def test_equal_files_of_two_jobs_at_once_are_one_block(volume: Driven) -> None:
    """Both find the block unknown; the second to settle learns of the first's."""
    for name in (b"a", b"b"):
        volume.create(name, noise(1, 50_000))
        if name == b"a":
            first = begin(volume)
    second = begin(volume)
    plains = [read_pieces(job) for job in (first, second)]
    hashes = [[block_hash(plain) for plain in part] for part in plains]
    fresh = [volume.workspace.settle_known(job, h) for job, h in zip((first, second), hashes, strict=True)]
    assert fresh == [[0], [0]]
    sealed = [
        volume.session.sealer._put(*volume.session.sealer._pack(p, h, [0])) for p, h in zip(plains, hashes, strict=True)
    ]
    volume.workspace.settle_pack(first, sealed[0])
    volume.workspace.settle_pack(second, sealed[1])
    record = volume.commit()
    volume.check(record)
    assert record.stats["packs"] == 1
    assert volume.content(b"a") == volume.content(b"b") == noise(1, 50_000)


def test_a_block_that_everyone_left_goes_with_its_pack_and_comes_back_in_a_new_one(volume: Driven) -> None:
    volume.create(b"a", noise(1, 50_000))
    volume.commit()
    volume.workspace.unlink(1, b"a")
    record = volume.commit()
    volume.check(record)
    assert record.stats["packs"] == 0
    volume.create(b"b", noise(1, 50_000))
    record = volume.commit()
    volume.check(record)
    assert record.stats["packs"] == 1
    assert volume.content(b"b") == noise(1, 50_000)


def test_windows_that_are_not_ripe_wait_unless_they_are_full_and_many(
    tmp_path: Path, store: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = Driven.new(tmp_path, store, upload_delay=3600.0)
    volume.create(b"small", noise(1, 1000))
    assert not volume.seal(everything=False)
    big = volume.workspace.mknod(1, b"big", 0o644, 0, ME).ino
    for i in range(16):
        volume.workspace.write(big, i * MB, noise(i, MB))
    assert volume.session.sealer.ready()
    assert not volume.seal(everything=False)  # a burst of writes is not slowed down by sealing
    monkeypatch.setattr(data_module, "_PRESSURE", 16 * MB)
    assert volume.seal(everything=False)
    assert volume.workspace.staged_bytes == 1000
    assert not volume.session.sealer.ready()
    volume.close()


def test_sealers_side_by_side_seal_everything_once(volume: Driven) -> None:
    for i in range(400):
        volume.create(b"%d" % i, noise(i, 120_000))
    with ThreadPoolExecutor(8) as pool:
        while any(pool.map(lambda _: volume.seal(), range(8))):
            pass
    assert volume.workspace.staged_bytes == volume.workspace.unsealed_windows == 0
    assert volume.session.sealer.plain_bytes == 400 * 120_000
    assert volume.session.sealer.packs <= 4
    volume.check(volume.commit())


def test_a_commit_waits_for_seals_that_others_have_under_way(volume: Driven, store: Faulty) -> None:
    volume.create(b"f", noise(1, 1000))
    with ThreadPoolExecutor(1) as pool:
        slow = store.alter("create", "packs/*", lambda answer: (time.sleep(0.2), answer)[1])
        other = pool.submit(volume.seal)
        while not volume.workspace._data._in_jobs:
            time.sleep(0.001)
        record = volume.commit()
        assert other.result()
    assert slow.hits == 1
    assert record.stats["packs"] == 1


def test_a_window_in_thousands_of_pieces_does_not_hold_up_the_owner(volume: Driven) -> None:
    """Writes of 512 bytes with holes between them: 4,096 blocks, each settled in turn by the owner thread."""
    ino = volume.workspace.mknod(1, b"f", 0o644, 0, ME).ino
    expected = bytearray(4 * MB)
    for i in range(4096):
        volume.workspace.write(ino, i * 1024, noise(i, 512))
        expected[i * 1024 : i * 1024 + 512] = noise(i, 512)
    job = begin(volume)
    plains = read_pieces(job)
    hashes = [block_hash(plain) for plain in plains]
    fresh = volume.workspace.settle_known(job, hashes)
    sealed = volume.session.sealer._put(*volume.session.sealer._pack(plains, hashes, fresh))
    began = time.process_time()
    volume.workspace.settle_pack(job, sealed)
    assert time.process_time() - began < 1.0
    assert volume.read(ino, 0, 4 * MB) == bytes(expected)[: 4 * MB - 512]
    volume.check(volume.commit())


def test_a_window_written_at_random_is_one_block(volume: Driven) -> None:
    """4 KiB writes in random order: 1,024 runs of one piece."""
    ino = volume.workspace.mknod(1, b"f", 0o644, 0, ME).ino
    order = list(range(1024))
    random.Random(3).shuffle(order)
    for i in order:
        volume.workspace.write(ino, i * 4096, noise(i, 4096))
    job = begin(volume)
    assert len(job.pieces) == 1
    began = time.process_time()
    finish(volume, job)
    assert time.process_time() - began < 0.5
    assert volume.read(ino) == b"".join(noise(i, 4096) for i in range(1024))
    record = volume.commit()
    volume.check(record)


def test_staged_bytes_that_cannot_be_read_fail_the_seal_and_stay(volume: Driven) -> None:
    volume.create(b"f", noise(1, 1000))
    volume.workspace.housekeep()  # else the bytes are not in the file yet
    log = next(Path(volume.spec.meta_dir, "staging").iterdir())
    content = log.read_bytes()
    assert len(content) == 1000
    log.write_bytes(content[:10])
    with pytest.raises(OSError, match="ends before"):
        volume.seal()
    log.write_bytes(content)
    assert volume.seal()
    assert volume.content(b"f") == noise(1, 1000)


def test_errors_of_a_round_are_raised_and_nothing_is_lost(volume: Driven, store: Faulty) -> None:
    for i in range(40):
        volume.create(b"%d" % i, noise(i, MB))
    store.fail("create", "packs/*", times=None)
    with pytest.raises(StoreError):
        volume.session.sealer.run_round()
    volume.check_staging()
    assert volume.workspace.staged_bytes == 40 * MB
    store.clear()
    record = volume.commit()
    volume.check(record)
    assert all(volume.content(b"%d" % i) == noise(i, MB) for i in range(40))
