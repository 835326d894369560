"""Golden objects: what a released format wrote is read for ever, and what a later one wrote is refused as such."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from flyteplugins_vol.errors import DamageError, IndexDamagedError, NewerFormatError, RecordDamagedError
from flyteplugins_vol.history.record import Locator, VersionRecord, decode_record, load_record, parse_locator
from flyteplugins_vol.history.refs import read_ref, ref_key
from flyteplugins_vol.history.session import Session, open_session
from flyteplugins_vol.index.database import IndexDatabase
from flyteplugins_vol.index.schema import create_statements
from flyteplugins_vol.model import ROOT_INO, Inode, MountSpec
from flyteplugins_vol.store.base import ObjectStore
from flyteplugins_vol.store.container import INDEX, PACK, ZSTD, block_hash, build, parse_footer
from flyteplugins_vol.store.fetch import Miss
from flyteplugins_vol.store.open import open_store
from tests.driven import Driven
from tests.golden import independent_reader as second

GOLDEN = Path(__file__).parent
STORES = sorted(path for path in GOLDEN.glob("v*") if path.is_dir())
VERSIONS = ("first", "second", "fork")
Tree = dict[bytes, dict[str, Any]]
UPGRADE = "install a newer release"


# -- what was written is read ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VERSIONS)
@pytest.mark.parametrize("golden", STORES, ids=lambda path: path.name)
def test_every_golden_version_is_read_exactly(golden: Path, name: str, tmp_path: Path) -> None:
    expected = _expected(golden)[name]
    session = _open(golden / "store", expected["key"], tmp_path)
    try:
        assert _as_read(session) == _tree(expected)
    finally:
        session.close(keep=False)


@pytest.mark.parametrize("golden", STORES, ids=lambda path: path.name)
def test_golden_records_say_what_they_said(golden: Path) -> None:
    with open_store(f"file://{golden}/store") as store:
        for expected in _expected(golden).values():
            record = load_record(store, parse_locator(f"{store.url}/{expected['key']}"))
            assert record.locator.key == expected["key"]
            assert (record.sequence, record.message) == (expected["sequence"], expected["message"])
            assert record.parents == tuple(f"{store.url}/{parent}" for parent in expected["parents"])
            assert record.author == "Gödel"
            assert record.produced_by is not None
            assert record.produced_by["nested"] == {"list": [None, True, -1]}
            assert VersionRecord.from_wire(record.to_wire()) == record


@pytest.mark.parametrize("golden", STORES, ids=lambda path: path.name)
def test_golden_refs_name_the_last_version(golden: Path) -> None:
    expected = _expected(golden)
    with open_store(f"file://{golden}/store") as store:
        for name in ("second", "fork"):
            where = parse_locator(f"{store.url}/{expected[name]['key']}")
            ref = read_ref(store, ref_key(where.volume_name, where.volume_id))
            assert ref is not None
            assert ref.version == where.file
            assert second.read_ref(_getter(golden / "store"), ref_key(where.volume_name, where.volume_id))["version"]


@pytest.mark.parametrize("golden", STORES, ids=lambda path: path.name)
def test_golden_versions_can_be_built_on(golden: Path, tmp_path: Path) -> None:
    shutil.copytree(golden / "store", tmp_path / "store")
    expected = _expected(golden)["second"]
    with open_store(f"file://{tmp_path}/store") as store:
        driven = Driven.new(tmp_path, store, base=f"{store.url}/{expected['key']}")
        driven.create(b"more", b"than before")
        record = driven.commit("on top of gold")
        driven.close()
        _, found = second.read_version(_getter(tmp_path / "store"), str(record.locator))
    assert found[b"/more"].content() == b"than before"
    assert {path for path in found if path != b"/more"} == set(_tree(expected))


# -- the second reader, which knows the document only ------------------------------------------------------------------


@pytest.mark.parametrize("name", VERSIONS)
@pytest.mark.parametrize("golden", STORES, ids=lambda path: path.name)
def test_the_document_is_enough_to_read_golden_versions(golden: Path, name: str) -> None:
    expected = _expected(golden)[name]
    record, found = second.read_version(_getter(golden / "store"), f"s3://elsewhere/{expected['key']}")
    assert record["parents"] == expected["parents"]
    assert _by_second(found) == _tree(expected)


def test_the_document_is_enough_to_read_a_new_volume(tmp_path: Path) -> None:
    rng = random.Random(7)
    with open_store(f"file://{tmp_path}/store") as store:
        driven = Driven.new(tmp_path, store)
        for number in range(700):
            driven.create(b"file %d" % number, rng.randbytes(300) * rng.choice((1, 30)))
        big = driven.create(b"big")
        for part in range(18):  # more than one pack
            driven.workspace.write(big, part << 20, rng.randbytes(1 << 20))
        records = [driven.commit("one")]
        for version in range(20):
            driven.workspace.write(driven.find(b"file %d" % rng.randrange(700)).ino, 100, b"change %d" % version)
            driven.workspace.write(big, rng.randrange(18 << 20), rng.randbytes(1000))
            records.append(driven.commit(None))
        driven.close()
        assert any(len(record.index.objects) > 3 for record in records)
        for record in (records[0], records[9], records[-1]):
            body, found = second.read_version(_getter(tmp_path / "store"), str(record.locator))
            assert body["stats"]["files"] == len(found) == 702
            session = _open(tmp_path / "store", record.locator.key, tmp_path / record.locator.hash)
            try:
                assert _as_read(session) == _by_second(found)
            finally:
                session.close(keep=False)


def test_the_schema_of_the_document_is_the_schema_of_the_code() -> None:
    assert second.schema() == set(create_statements())


# -- a later format is refused, as that and not as damage --------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ObjectStore]:
    """A copy of the newest golden store that a test may spoil."""
    shutil.copytree(STORES[-1] / "store", tmp_path / "store")
    with open_store(f"file://{tmp_path}/store") as opened:
        yield opened


@pytest.mark.parametrize("change", [{"format_version": 2}, {"requires": ["encryption"]}], ids=str)
def test_a_later_record_is_refused(store: ObjectStore, change: dict[str, Any]) -> None:
    body = {**_record_body(store), **change}
    del body["index"]  # whatever else it says
    where = _put_record(store, body)
    with pytest.raises(NewerFormatError, match=UPGRADE):
        load_record(store, where)
    with pytest.raises(second.Refused):
        second.read_version(store.get, str(where))


@pytest.mark.parametrize(
    "change", [{"format_version": 2}, {"requires": ["x"]}, {"requires_to_write": ["lease"]}], ids=str
)
def test_a_later_ref_is_refused(store: ObjectStore, change: dict[str, Any]) -> None:
    key = ref_key("golden", "00c0ffee00c0ffee")
    there = store.get_tagged(key)
    assert there is not None
    store.replace(key, json.dumps({**json.loads(there.data), **change}).encode(), there.tag)
    with pytest.raises(NewerFormatError, match=UPGRADE):
        read_ref(store, key)


def test_a_version_that_only_later_releases_may_build_on_is_still_read(store: ObjectStore, tmp_path: Path) -> None:
    where = _put_record(store, {**_record_body(store), "requires_to_write": ["quota"]})
    session = _open(tmp_path / "store", where.key, tmp_path)
    session.close(keep=False)
    with pytest.raises(NewerFormatError, match=UPGRADE):
        Driven.new(tmp_path / "writer", store, base=str(where))


def test_a_record_with_fields_of_a_later_release_keeps_its_name(store: ObjectStore) -> None:
    where = _put_record(store, {**_record_body(store), "later": {"any": 1.5}})
    record = load_record(store, where)
    assert record.locator == where
    assert VersionRecord.from_wire(record.to_wire()).locator == where


@pytest.mark.parametrize(("offset", "value"), [(-19, 2), (-18, 1), (-17, 1)], ids=["version", "flag", "high flag"])
@pytest.mark.parametrize("kind", [PACK, INDEX])
def test_a_later_container_is_refused(kind: bytes, offset: int, value: int) -> None:
    data = bytearray(build(kind, [(block_hash(b"x"), 1, 0, b"x")]).data)
    data[offset] = value
    with pytest.raises(NewerFormatError, match=UPGRADE):
        parse_footer(kind, blake3(bytes(data[-84:])).hexdigest(), bytes(data))


def test_a_later_codec_is_refused() -> None:
    made = build(PACK, [(block_hash(b"xy"), 2, ZSTD + 1, b"x")])
    with pytest.raises(NewerFormatError, match=UPGRADE):
        parse_footer(PACK, made.name, made.data)


def test_a_later_index_is_refused(store: ObjectStore, tmp_path: Path) -> None:
    path = _index_file(store, tmp_path)
    with sqlite3.connect(path) as sql:
        sql.execute("PRAGMA user_version=2")
        sql.execute("CREATE TABLE later (x INTEGER)")
    sql.close()
    with pytest.raises(NewerFormatError, match=UPGRADE):
        IndexDatabase.open(path, read_only=False)


@pytest.mark.parametrize("spoil", ["PRAGMA user_version=0", "PRAGMA application_id=1", "CREATE TABLE later (x INTEGER)",
                                   "CREATE TRIGGER t DELETE ON orphan BEGIN SELECT 1; END"])  # fmt: skip
def test_what_is_no_index_is_damage(store: ObjectStore, tmp_path: Path, spoil: str) -> None:
    path = _index_file(store, tmp_path)
    with sqlite3.connect(path) as sql:
        sql.execute(spoil)
    sql.close()
    with pytest.raises(IndexDamagedError):
        IndexDatabase.open(path, read_only=False)


# -- damage is found ---------------------------------------------------------------------------------------------------


def test_a_record_in_another_place_is_refused(store: ObjectStore) -> None:
    key = _expected(STORES[-1])["second"]["key"]
    data = store.get(key)
    assert data is not None
    moved = parse_locator(f"{store.url}/{key.replace('00c0ffee00c0ffee', 'feedfacefeedface')}")
    store.create(moved.key, data)
    with pytest.raises(RecordDamagedError, match="of another place"):
        load_record(store, moved)
    with pytest.raises(second.Damaged):
        second.read_version(store.get, str(moved))


def _spoilt_records() -> Iterator[tuple[str, Callable[[dict[str, Any]], Any]]]:
    yield "no list", lambda body: body.update(requires={})
    yield "version zero", lambda body: body.update(format_version=0)
    yield "negative", lambda body: body.update(sequence=-1)
    yield "fraction", lambda body: body.update(sequence=1.5)
    yield "above 2^53", lambda body: body["stats"].update(bytes=1 << 53)
    yield "time", lambda body: body.update(created="yesterday")
    yield "parent", lambda body: body.update(parents=["../../etc/passwd"])
    yield "surrogate", lambda body: body.update(message="\ud800")
    yield "produced_by", lambda body: body.update(produced_by=[])
    yield "name", lambda body: body["volume"].update(name="../x")
    yield "missing", lambda body: body.pop("stats")
    yield "object name", lambda body: body["index"]["objects"][0].update(name="x")
    yield "entries", lambda body: body["index"]["objects"][0].update(entries=1 << 40)
    yield "run", lambda body: body["index"].update(map=[[0, 0, 1 << 40]])
    yield "short run", lambda body: body["index"].update(map=[[0, 0]])
    yield "bomb", lambda body: body["index"].update(size=1 << 37, segment_size=4096, map=[[0, 0, 1 << 25]])
    yield "segment size", lambda body: body["index"].update(segment_size=1000)


@pytest.mark.parametrize("spoil", [pytest.param(spoil, id=name) for name, spoil in _spoilt_records()])
def test_a_malformed_record_is_damage(store: ObjectStore, spoil: Callable[[dict[str, Any]], Any]) -> None:
    body = _record_body(store)
    spoil(body)
    with pytest.raises(RecordDamagedError):
        decode_record(json.dumps(body).encode(), store.url)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"a":1,"a":1}', b'{"format":NaN}'])
def test_what_is_no_record_is_damage(data: bytes) -> None:
    with pytest.raises(RecordDamagedError):
        decode_record(data, "memory://x")


def test_any_flipped_bit_of_the_store_is_found(store: ObjectStore, tmp_path: Path) -> None:
    """By either reader. The header of a container is the only thing that says nothing that is not said elsewhere."""
    expected = _expected(STORES[-1])["fork"]
    locator, tree = f"{store.url}/{expected['key']}", _tree(expected)
    rng = random.Random(1)
    for info in [*store.list("packs/"), *store.list("index/"), *store.list(os.path.dirname(expected["key"]) + "/")]:
        data = store.get(info.key)
        assert data is not None
        path = tmp_path / "store" / info.key
        for _ in range(12):
            at = rng.randrange(0 if info.key.startswith("volumes/") else 16, len(data))
            spoilt = bytearray(data)
            spoilt[at] ^= 1 << rng.randrange(8)
            path.write_bytes(spoilt)
            found = _outcome(lambda: _by_second(second.read_version(store.get, locator)[1]))
            assert found in ("found", tree), (info.key, at)  # the tree: it is a byte that this version does not need
            mine = _outcome(lambda: _read_and_close(tmp_path / "store", expected["key"], tmp_path / f"c{rng.random()}"))
            assert mine in ("found", tree), (info.key, at)
        path.write_bytes(data)


def _outcome(read: Callable[[], Tree]) -> Any:
    try:
        return read()
    except (DamageError, second.Damaged, NewerFormatError, second.Refused):
        return "found"


# -- helpers -----------------------------------------------------------------------------------------------------------


def _expected(golden: Path) -> dict[str, Any]:
    return json.loads((golden / "expected.json").read_bytes())


def _tree(expected: dict[str, Any]) -> Tree:
    """What make.py wrote down, as the readers' answers are put down below."""
    found: Tree = {}
    for path, file in expected["tree"].items():
        content: bytes | None = None
        if stat.S_ISREG(file["mode"]):
            whole = bytearray(min(file["size"], _LIMIT))
            for offset, data in file["data"]:
                whole[offset : offset + len(data) // 2] = bytes.fromhex(data)
            content = bytes(whole)
        found[bytes.fromhex(path)] = {
            **{name: file[name] for name in _NUMBERS},
            "target": None if file["target"] is None else bytes.fromhex(file["target"]),
            "content": content,
            "xattr": {bytes.fromhex(name): bytes.fromhex(value) for name, value in file["xattr"].items()},
        }
    return found


_NUMBERS = ("ino", "mode", "nlink", "uid", "gid", "rdev", "size", "mtime")
_LIMIT = 32 << 20  # bytes of a file that are compared; beyond are only holes


def _as_read(session: Session) -> Tree:
    """Every path of a session, with this package's own reader."""
    workspace = session.workspace

    def content(inode: Inode) -> bytes | None:
        if not inode.is_file:
            return None
        while isinstance(data := workspace.read(inode.ino, 0, min(inode.size, _LIMIT)), Miss):
            session.fetcher.fetch(data).result(30)
        return data

    found: Tree = {}
    todo = [(b"", workspace.getattr(ROOT_INO))]
    while todo:
        path, inode = todo.pop()
        names = workspace.listxattr(inode.ino)
        found[path] = {
            **{name: getattr(inode, name) for name in _NUMBERS},
            "target": inode.target,
            "content": content(inode),
            "xattr": {name: workspace.getxattr(inode.ino, name) for name in names},
        }
        if inode.is_dir:
            todo += [(path + b"/" + name, child) for name, child in workspace.readdir(inode.ino, None, 100_000)]
    return found


def _by_second(found: dict[bytes, second.File]) -> Tree:
    def content(file: second.File) -> bytes | None:
        return replace(file, size=min(file.size, _LIMIT)).content() if stat.S_ISREG(file.mode) else None

    return {
        path: {
            **{name: getattr(file, name) for name in _NUMBERS},
            "target": file.target,
            "content": content(file),
            "xattr": file.xattr,
        }
        for path, file in found.items()
    }


def _open(store: Path, key: str, room: Path) -> Session:
    spec = MountSpec(
        volume_id="0" * 16, volume_name="golden", store_url=f"file://{store}", mount_path="/", read_only=True,
        base=f"file://{store}/{key}", meta_dir=str(room / "meta"), cache_dir=str(room / "cache"),
    )  # fmt: skip
    return open_session(spec, lambda fn, *args: fn(*args), lambda event: None)


def _read_and_close(store: Path, key: str, room: Path) -> Tree:
    session = _open(store, key, room)
    try:
        return _as_read(session)
    finally:
        session.close(keep=False)


def _getter(store: Path) -> second.Get:
    def get(key: str) -> bytes | None:
        path = store / key
        return path.read_bytes() if path.exists() else None

    return get


def _record_body(store: ObjectStore) -> dict[str, Any]:
    data = store.get(_expected(STORES[-1])["second"]["key"])
    assert data is not None
    return json.loads(data)


def _put_record(store: ObjectStore, body: dict[str, Any]) -> Locator:
    data = json.dumps(body).encode()
    where = parse_locator(f"{store.url}/{_expected(STORES[-1])['second']['key']}")
    digest = blake3(data).hexdigest()[: len(where.hash)]
    where = replace(where, file=f"{where.file.split('-')[0]}-{digest}.json")
    assert store.create(where.key, data)
    return where


def _index_file(store: ObjectStore, room: Path) -> str:
    path = room / "index.db"
    path.write_bytes(second.read_index(store.get, _record_body(store)["index"]))
    return str(path)
