"""Verification: what is whole is said to be, and each harm is found, with the files that it costs."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from flyteplugins_vol.config import StoreOptions
from flyteplugins_vol.errors import (
    EncryptionKeyError,
    NewerFormatError,
    StoreUnavailableError,
    VersionNotFoundError,
)
from flyteplugins_vol.history import verify as verify_module
from flyteplugins_vol.history.record import VersionRecord
from flyteplugins_vol.history.verify import BrokenFile, Verification, verify
from flyteplugins_vol.store.base import ObjectStore
from flyteplugins_vol.store.container import INDEX, PACK, object_key
from flyteplugins_vol.store.counting import Counting
from flyteplugins_vol.store.faulty import Faulty
from flyteplugins_vol.store.open import open_store
from tests.driven import ME, Driven

DEEP = pytest.mark.parametrize("deep", [False, True])


def noise(seed: int, size: int = 20_000) -> bytes:
    return random.Random(seed).randbytes(size)


def one_pack(volume: Driven, name: bytes, data: bytes, parent: int = 1) -> str:
    """A file in a pack of its own; the pack's name."""
    before = {pack for pack, _ in volume.workspace.index.blocks.packs()}
    volume.create(name, data, parent)
    assert volume.seal()
    (pack,) = {pack for pack, _ in volume.workspace.index.blocks.packs()} - before
    return pack


def look(store: ObjectStore, record: VersionRecord, tmp_path: Path, *, deep: bool = False) -> Verification:
    return verify(store, record.locator, deep=deep, scratch=str(tmp_path))


def harm(store: Faulty, key: str, change: Callable[[bytes], bytes | None]) -> None:
    data = store.inner.get(key)
    assert data is not None
    store.inner.delete(key)
    if (other := change(data)) is not None:
        store.inner.create(key, other)


def flipped(at: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@DEEP
def test_a_version_that_is_whole(volume: Driven, store: Faulty, tmp_path: Path, deep: bool) -> None:
    volume.create(b"empty")
    volume.workspace.symlink(1, b"link", b"nowhere", ME)
    for number in range(30):
        volume.create(b"%d" % number, noise(number, 1 + 997 * number))
    volume.create(b"large", noise(99, 9 << 20))
    record = volume.commit()
    found = look(store, record, tmp_path, deep=deep)
    assert found.ok
    assert (found.problems, found.files, found.locator) == ((), (), str(record.locator))
    assert found.packs == record.stats["packs"]
    assert found.blocks == 30 + 3
    assert found.read_bytes == (sum(1 + 997 * n for n in range(30)) + (9 << 20) if deep else 0)
    assert list(tmp_path.glob("verify-*")) == []


@DEEP
def test_an_empty_version(volume: Driven, store: Faulty, tmp_path: Path, deep: bool) -> None:
    assert look(store, volume.commit(), tmp_path, deep=deep).ok


@DEEP
def test_a_pack_that_is_missing_names_its_files_by_all_their_paths(
    volume: Driven, store: Faulty, tmp_path: Path, deep: bool
) -> None:
    directory = volume.workspace.mkdir(1, b"d", 0o755, ME).ino
    inner = volume.workspace.mkdir(directory, b"\xff", 0o755, ME).ino
    pack = one_pack(volume, b"a", noise(1), directory)
    volume.workspace.link(volume.find(b"d/a").ino, inner, b"again")
    one_pack(volume, b"whole", noise(2))
    record = volume.commit()
    harm(store, object_key(PACK, pack), lambda _: None)
    found = look(store, record, tmp_path, deep=deep)
    assert not found.ok
    assert [(one.kind, one.key, one.message) for one in found.problems][:1] == [
        ("pack", object_key(PACK, pack), "it is missing")
    ]
    (file,) = found.files
    assert (file.paths, file.bytes) == (("d/a", "d/\udcff/again"), 20_000)
    assert object_key(PACK, pack) in file.reasons[0]
    assert "missing" in file.reasons[0]


def test_a_flipped_bit_is_found_by_reading(volume: Driven, store: Faulty, tmp_path: Path) -> None:
    pack = one_pack(volume, b"a", noise(1))
    other = one_pack(volume, b"b", noise(2))
    record = volume.commit()
    harm(store, object_key(PACK, pack), flipped(5000))
    assert look(store, record, tmp_path).ok, "the ends of packs say nothing of their middles"
    found = look(store, record, tmp_path, deep=True)
    assert [(file.paths, file.bytes) for file in found.files] == [(("a",), 20_000)]
    assert "does not match its hash" in found.files[0].reasons[0]
    assert [one.kind for one in found.problems] == ["block"]
    assert other not in str(found)
    assert found.read_bytes == 20_000


@DEEP
def test_only_the_ranges_that_are_lost_count(volume: Driven, store: Faulty, tmp_path: Path, deep: bool) -> None:
    """A file of three blocks in two packs, and one that shares a block with it."""
    ino = volume.create(b"large", noise(1, 4 << 20))
    assert volume.seal()
    ((pack, _),) = volume.workspace.index.blocks.packs()
    volume.workspace.write(ino, 4 << 20, noise(2, 5 << 20))
    volume.create(b"same", noise(1, 4 << 20))
    volume.create(b"orphan", noise(1, 4 << 20))
    record = volume.commit()
    harm(store, object_key(PACK, pack), flipped(1 << 20) if deep else lambda _: None)
    found = look(store, record, tmp_path, deep=deep)
    assert [(file.paths, file.bytes) for file in found.files] == [
        (("large",), 4 << 20), (("orphan",), 4 << 20), (("same",), 4 << 20),
    ]  # fmt: skip


def test_blocks_beside_a_broken_one_are_whole(volume: Driven, store: Faulty, tmp_path: Path) -> None:
    names = [b"%02d" % number for number in range(50)]
    for number, name in enumerate(names):
        volume.create(name, noise(number, 10_000))
    record = volume.commit()
    ((pack, _),) = volume.workspace.index.blocks.packs()
    harm(store, object_key(PACK, pack), flipped(16 + 123_456))
    found = look(store, record, tmp_path, deep=True)
    assert [file.paths for file in found.files] == [("12",)]
    assert found.read_bytes == 49 * 10_000


@DEEP
@pytest.mark.parametrize("cut", [1, 40, 1000])
def test_a_pack_that_is_cut_short(volume: Driven, store: Faulty, tmp_path: Path, cut: int, deep: bool) -> None:
    pack = one_pack(volume, b"a", noise(1))
    record = volume.commit()
    harm(store, object_key(PACK, pack), lambda data: data[:-cut])
    found = look(store, record, tmp_path, deep=deep)
    assert found.problems[0].kind == "pack"
    assert bool(found.files) == (not deep or cut == 1000), "by its hash the block is whole without the footer"


@DEEP
def test_another_pack_under_its_name(volume: Driven, store: Faulty, tmp_path: Path, deep: bool) -> None:
    pack = one_pack(volume, b"a", noise(1))
    other = one_pack(volume, b"b", noise(2))
    record = volume.commit()
    harm(store, object_key(PACK, pack), lambda _: store.inner.get(object_key(PACK, other)))
    found = look(store, record, tmp_path, deep=deep)
    assert [file.paths for file in found.files] == [("a",)]


def test_what_was_altered_on_its_way_is_asked_for_again(volume: Driven, store: Faulty, tmp_path: Path) -> None:
    one_pack(volume, b"a", noise(1))
    record = volume.commit()
    store.alter("get_range", "packs/*", flipped(77), times=2)
    assert look(store, record, tmp_path, deep=True).ok


@pytest.mark.parametrize("harmed", ["flip", "cut", "gone"])
def test_an_index_object_that_is_damaged(volume: Driven, store: Faulty, tmp_path: Path, harmed: str) -> None:
    volume.create(b"a", noise(1))
    record = volume.commit()
    key = object_key(INDEX, record.index.objects[0].name)
    change = {"flip": flipped(50), "cut": lambda data: data[:-10], "gone": lambda _: None}[harmed]
    harm(store, key, change)
    found = look(store, record, tmp_path)
    assert [one.kind for one in found.problems] == ["index"]
    assert key in found.problems[0].message
    assert not found.ok


def test_an_index_that_breaks_its_schema_though_every_hash_is_right(
    volume: Driven, store: Faulty, tmp_path: Path
) -> None:
    """Also counters, which nothing relies on: a bug of a writer is found before it does harm."""
    one_pack(volume, b"a", noise(1))
    volume.workspace.index.flush()
    volume.workspace.index.db.sql.execute("UPDATE block SET refs = refs + 1")
    found = look(store, volume.commit(), tmp_path)
    assert [(one.kind, "extents" in one.message) for one in found.problems] == [("index", True)]


def test_a_record_that_was_altered(volume: Driven, store: Faulty, tmp_path: Path) -> None:
    record = volume.commit("hello")
    harm(store, record.locator.key, lambda data: data.replace(b"hello", b"hallo"))
    found = look(store, record, tmp_path)
    assert [(one.kind, one.key) for one in found.problems] == [("record", record.locator.key)]


def test_what_keeps_us_from_looking_is_an_error(volume: Driven, store: Faulty, tmp_path: Path) -> None:
    one_pack(volume, b"a", noise(1))
    record = volume.commit()
    for verb, deep in (("get_tail", False), ("get_range", True)):
        fault = store.fail(verb, "packs/*", times=None)
        with pytest.raises(StoreUnavailableError):
            look(store, record, tmp_path, deep=deep)
        assert fault.hits
        store.clear()
    harm(store, record.locator.key, lambda _: None)
    with pytest.raises(VersionNotFoundError):
        look(store, record, tmp_path)


def test_a_codec_of_a_newer_release_is_no_damage(volume: Driven, store: Faulty, tmp_path: Path) -> None:
    pack = one_pack(volume, b"a", noise(1))
    record = volume.commit()
    harm(store, object_key(PACK, pack), lambda data: data[:-19] + b"\x02" + data[-18:])
    with pytest.raises(NewerFormatError):
        look(store, record, tmp_path)


def test_many_packs_are_listed_and_looked_at_where_they_seem_wrong(
    volume: Driven, store: Faulty, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify_module, "_MANY", 3)
    packs = [one_pack(volume, b"%d" % number, noise(number)) for number in range(6)]
    record = volume.commit()
    counting = Counting(store)
    assert look(counting, record, tmp_path).ok
    assert (counting.calls["list"], counting.calls["get_tail"]) == (1, 0)
    harm(store, object_key(PACK, packs[1]), lambda _: None)
    harm(store, object_key(PACK, packs[4]), lambda data: data[:500])
    counting.reset()
    found = look(counting, record, tmp_path)
    assert [file.paths for file in found.files] == [("1",), ("4",)]
    assert counting.calls["get_tail"] == 2


@DEEP
def test_an_encrypted_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deep: bool) -> None:
    url = f"file://{tmp_path}/store"
    with open_store(url, StoreOptions(encryption="a secret of some length")) as store:
        volume = Driven.new(tmp_path, store)
        packs = [one_pack(volume, b"%d" % number, noise(number, 100_000)) for number in range(3)]
        record = volume.commit()
        volume.close()
        assert look(store, record, tmp_path, deep=deep).ok
        monkeypatch.setattr(verify_module, "_MANY", 1)
        assert look(store, record, tmp_path, deep=deep).ok
        path = tmp_path / "store" / object_key(PACK, packs[1])
        path.write_bytes(flipped(50_000)(path.read_bytes()) if deep else path.read_bytes()[:-40])
        found = look(store, record, tmp_path, deep=deep)
        assert [file.paths for file in found.files] == [("1",)]
    with open_store(url) as store, pytest.raises(EncryptionKeyError):
        look(store, record, tmp_path)


def test_progress_comes_to_its_total(volume: Driven, store: Faulty, tmp_path: Path) -> None:
    for number in range(4):
        one_pack(volume, b"%d" % number, noise(number))
    record = volume.commit()
    told: list[tuple[int, int]] = []
    verify(store, record.locator, scratch=str(tmp_path), progress=lambda e: told.append((e["done"], e["total"])))
    assert told == sorted(told)
    assert told[-1] == (record.stats["pack_bytes"],) * 2


def test_a_file_that_was_deleted_while_it_was_open_has_no_path(volume: Driven, store: Faulty, tmp_path: Path) -> None:
    pack = one_pack(volume, b"a", noise(1))
    ino = volume.find(b"a").ino
    volume.workspace.open(ino, 0)
    volume.workspace.unlink(1, b"a")
    record = volume.commit()
    harm(store, object_key(PACK, pack), lambda _: None)
    (file,) = look(store, record, tmp_path).files
    assert file == BrokenFile((), 20_000, (f"{object_key(PACK, pack)}: it is missing",))
    volume.workspace.release(ino, 0)
