"""What commits, forks and checkouts cost in requests and bytes: promises that do not depend on a machine."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from flyteplugins_vol.history.record import VersionRecord
from flyteplugins_vol.history.segments import _MAX_OBJECTS
from flyteplugins_vol.store.counting import Counting
from flyteplugins_vol.store.faulty import Faulty
from flyteplugins_vol.store.memory import MemoryStore
from tests.driven import ME, Driven

KB, MB = 1 << 10, 1 << 20


@pytest.fixture
def store() -> Counting:
    return Counting(Faulty(MemoryStore(f"memory://{uuid4().hex}")))


@pytest.fixture
def volume(tmp_path: Path, store: Counting) -> Iterator[Driven]:
    driven = Driven.new(tmp_path, store)
    yield driven
    driven.close()


def fill(volume: Driven, count: int, size: int = 0) -> list[int]:
    """Files in directories of 1,000, as a data set has them."""
    inos: list[int] = []
    rng = random.Random(7)
    for i in range(count):
        if i % 1000 == 0:
            parent = volume.workspace.mkdir(1, b"part-%05d" % (i // 1000), 0o755, ME).ino
        inos.append(volume.create(b"sample-%07d.json" % i, rng.randbytes(size), parent))
    return inos


def test_ten_files_of_a_hundred_thousand_cost_four_puts_and_under_two_megabytes(
    volume: Driven, store: Counting
) -> None:
    inos = fill(volume, 100_000, 8)
    volume.commit()
    assert volume.workspace.status()["files"] == 100_101
    store.reset()
    for ino in random.Random(1).sample(inos, 10):  # scattered all over the index
        volume.workspace.write(ino, 0, os.urandom(4000))
    record = volume.commit("ten changed")
    assert store.puts <= 4
    assert store.sent < 2 * MB
    assert store.calls["list"] == store.calls["list_dirs"] == 0
    assert record.stats["new_index_bytes"] + record.stats["new_pack_bytes"] <= store.sent
    volume.check(record)


def test_ten_new_and_ten_deleted_files_of_fifty_thousand_cost_as_little(volume: Driven, store: Counting) -> None:
    fill(volume, 50_000)
    volume.commit()
    store.reset()
    for i in range(10):
        parent = volume.find(b"part-%05d" % (5 * i)).ino
        volume.create(b"new", os.urandom(4000), parent)
        volume.workspace.unlink(parent, b"sample-%07d.json" % (5000 * i + 500))
    volume.check(volume.commit())
    assert store.puts <= 4
    assert store.sent < 2 * MB


def test_ten_thousand_small_files_cost_ten_puts(volume: Driven, store: Counting) -> None:
    fill(volume, 10_000, KB)
    record = volume.commit()
    assert store.puts <= 10
    assert sum(verb == "create" and key.startswith("packs/") for verb, key in _log(store)) <= 3
    volume.check(record)


def test_nothing_changed_nothing_put(volume: Driven, store: Counting) -> None:
    fill(volume, 10, KB)
    record = volume.commit()
    store.reset()
    assert volume.commit() is record
    for _, inode in volume.workspace.readdir(1, None, 10):
        volume.workspace.readdir(inode.ino, None, 100)  # looking is no change
    assert volume.commit() is record
    assert store.puts == 0


def test_a_message_alone_is_a_record_and_a_ref(volume: Driven, store: Counting) -> None:
    fill(volume, 10, KB)
    volume.commit()
    store.reset()
    volume.commit("the same again")
    assert store.puts == 2


def test_the_first_commit_of_an_empty_volume(volume: Driven, store: Counting) -> None:
    volume.check(volume.commit())
    assert store.puts == 3  # index, record, ref


def test_a_fork_shares_all_and_reads_no_pack(volume: Driven, store: Counting, tmp_path: Path) -> None:
    fill(volume, 3000, KB)
    parent = volume.commit()
    store.reset()
    _log(store).clear()
    fork = volume.fork(str(parent.locator), cache_dir=str(tmp_path / "elsewhere"))
    first = fork.commit("fork")
    assert store.puts == 2, "its record and its ref"
    assert first.index.objects == parent.index.objects
    assert first.parents == (str(parent.locator),)
    assert first.sequence == 1
    inode = fork.find(b"part-00001/sample-0001234.json")
    fork.workspace.write(inode.ino, 0, b"changed")
    store.reset()
    second = fork.commit()
    assert store.puts <= 4
    assert not [key for verb, key in _log(store) if verb.startswith("get") and key.startswith("packs/")]
    shared = {item.name for item in parent.index.objects} & {item.name for item in second.index.objects}
    assert shared == {item.name for item in parent.index.objects}
    assert fork.content(b"part-00001/sample-0001234.json").startswith(b"changed")
    fork.check(second)
    fork.close()


def test_a_mount_reads_a_record_and_the_index_objects_and_no_pack(
    volume: Driven, store: Counting, tmp_path: Path
) -> None:
    fill(volume, 2000, 100)
    record = volume.commit()
    store.reset()
    _log(store).clear()
    other = volume.at(str(record.locator), cache_dir=str(tmp_path / "elsewhere"))
    assert store.gets <= 2 + len(record.index.objects)
    assert not [key for _, key in _log(store) if key.startswith("packs/")]
    store.reset()
    volume.at(str(record.locator), cache_dir=str(tmp_path / "elsewhere")).close()
    assert store.gets == 1, "the index is in the cache: only the record is read"
    other.close()


def test_many_commits_of_scattered_changes_keep_the_index_in_few_objects(
    volume: Driven, store: Counting, tmp_path: Path
) -> None:
    inos = fill(volume, 20_000, 8)
    records: list[VersionRecord] = [volume.commit()]
    rng = random.Random(3)
    for i in range(2 * _MAX_OBJECTS):
        for ino in rng.sample(inos, 5):
            volume.workspace.write(ino, 0, b"%08d" % i)
        store.reset()
        records.append(volume.commit())
        assert store.puts <= 4
        assert len(records[-1].index.objects) <= _MAX_OBJECTS + 1
        assert len(records[-1].index.runs) < 5000
    volume.check(records[-1])
    expected = volume.tree()
    for record in (records[-1], records[_MAX_OBJECTS + 1], records[0]):
        other = volume.at(str(record.locator), cache_dir=str(tmp_path / record.locator.hash))
        other.check(record)
        if record is records[-1]:
            assert other.tree() == expected
        other.close()


def test_a_scan_over_small_files_is_a_few_requests(volume: Driven, store: Counting, tmp_path: Path) -> None:
    fill(volume, 4000, KB)  # one pack of 4 MB
    record = volume.commit()
    other = volume.at(str(record.locator), cache_dir=str(tmp_path / "elsewhere"))
    store.reset()
    assert len(other.tree()) == 4004
    assert store.gets <= 12
    other.close()


def _log(store: Counting) -> list[tuple[str, str]]:
    assert isinstance(store.inner, Faulty)
    return store.inner.log
