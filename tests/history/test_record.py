"""Version records, locators and refs: what is written comes back, and nothing else is believed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyteplugins_vol.errors import (
    LocatorError,
    NewerFormatError,
    RecordDamagedError,
    UsageError,
    VersionNotFoundError,
    VolumeNameError,
)
from flyteplugins_vol.history.record import (
    IndexMap,
    IndexObject,
    VersionRecord,
    check_name,
    decode_record,
    load_record,
    parse_locator,
)
from flyteplugins_vol.history.refs import move_ref, read_ref, ref_key
from flyteplugins_vol.store.faulty import Faulty
from flyteplugins_vol.store.memory import MemoryStore

NAME = "ab" * 32
STORE = "s3://bucket/prefix"
RECORD = VersionRecord(
    volume_name="data", volume_id="0123456789abcdef", sequence=3,
    index=IndexMap(40_000, 32768, (IndexObject(NAME, 5000, 7),), ((0, 2, 1), (0, 5, 1))),
    parents=(f"{STORE}/volumes/data-0123456789abcdef/versions/00000002-{'c' * 40}.json",),
    created="2026-01-02T03:04:05.000006Z", message="Grüße\n", author="me", produced_by={"run": "r"},
    stats={"files": 3}, writer="w", store_url=STORE,
)  # fmt: skip


def body() -> dict[str, Any]:
    return json.loads(RECORD.encode())


def decoded(changed: dict[str, Any]) -> VersionRecord:
    return decode_record(json.dumps(changed).encode(), STORE)


def test_what_is_written_comes_back() -> None:
    again = decode_record(RECORD.encode(), STORE)
    assert replace(again, software="") == RECORD
    assert again.encode() == RECORD.encode()
    assert again.locator == RECORD.locator
    assert VersionRecord.from_wire(RECORD.to_wire()).locator == RECORD.locator


@given(st.text(max_size=30), st.one_of(st.none(), st.dictionaries(st.text(), st.text(), max_size=3)))
def test_any_text_comes_back(message: str, produced_by: dict[str, str] | None) -> None:
    record = replace(RECORD, message=message, produced_by=produced_by)
    assert decode_record(record.encode(), STORE).message == message
    assert decode_record(record.encode(), STORE).produced_by == produced_by


def test_parents_move_with_the_store_and_those_elsewhere_stay() -> None:
    elsewhere = f"gs://other/volumes/x-{'1' * 16}/versions/00000001-{'d' * 40}.json"
    record = replace(RECORD, parents=(*RECORD.parents, elsewhere))
    moved = decode_record(record.encode(), "file:///copy")
    assert moved.parents == (RECORD.parents[0].replace(STORE, "file:///copy"), elsewhere)


def test_fields_of_a_later_release_are_ignored_and_the_locator_stays() -> None:
    data = json.dumps({**body(), "colour": "blue"}).encode()
    again = decode_record(data, STORE)
    assert again.encode() == data


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"null", b"[]", b"5", b'"x"', b"{}", b"[" * 100_000, b"NaN"])
def test_what_is_no_record_is_refused(data: bytes) -> None:
    with pytest.raises(RecordDamagedError):
        decode_record(data, STORE)


@pytest.mark.parametrize("field", sorted(set(body()) - {"software", "requires_to_write"}))
@pytest.mark.parametrize("value", [None, 5, -1, "x", [], {}, [[]], [None], True, 1.5, {"name": 5}, "../../x", 1 << 70])
def test_a_field_of_another_kind_is_refused_or_harmless(field: str, value: object) -> None:
    """Whatever stands in a field, a record comes out or `RecordDamagedError` or `NewerFormatError`, nothing else."""
    try:
        record = decoded({**body(), field: value})
    except (RecordDamagedError, NewerFormatError):
        return
    assert record.locator


@pytest.mark.parametrize("field", sorted(body()))
def test_a_field_that_is_missing_is_named(field: str) -> None:
    less = body()
    del less[field]
    with pytest.raises(RecordDamagedError, match=field):
        decoded(less)


@pytest.mark.parametrize("change", [{"format_version": 2}, {"format_version": 99}, {"requires": ["encryption"]}])
def test_a_newer_record_is_refused_as_such(change: dict[str, Any]) -> None:
    with pytest.raises(NewerFormatError, match=r"encryption|format (2|99)"):
        decoded({**body(), **change, "index": "unknown"})


def test_another_format_is_no_newer_one() -> None:
    with pytest.raises(RecordDamagedError, match="format"):
        decoded({**body(), "format": "flytevol/ref", "format_version": 99})


def _index(**changes: Any) -> Callable[[], dict[str, Any]]:
    return lambda: {**body(), "index": {**body()["index"], **changes}}


OBJECT = {"name": NAME, "size": 5000, "entries": 7}


@pytest.mark.parametrize(
    "change",
    [
        _index(map=[[0, 2, 1]]),  # does not cover it
        _index(map=[[0, 2, 1], [0, 5, 2]]),  # covers too much
        _index(map=[[0, 2, 2], [1, 0, 0]]),
        _index(map=[[1, 0, 2]]),  # no such object
        _index(map=[[0, 6, 2]]),  # beyond its entries
        _index(map=[[-1, 0, 2]]),
        _index(map=[[0, 0, 3], [0, 0, -1]]),
        _index(map=[[0, 2]]),
        _index(map=[[0, 2, 1, 1], [0, 5, 1, 1]]),
        _index(map=[[0.0, 2, 2]]),
        _index(map={"0": 1}),
        _index(size=1 << 50),
        _index(size=1 << 62, segment_size=4 << 20, map=[[0, 0, 1 << 40]], objects=[{**OBJECT, "entries": 1 << 40}]),
        _index(segment_size=0),
        _index(segment_size=4095),
        _index(segment_size=8 << 20, size=1, map=[[0, 0, 1]]),
        _index(objects=[{**OBJECT, "name": "../" * 21 + "x"}]),
        _index(objects=[{**OBJECT, "name": "a/b"}]),
        _index(objects=[{**OBJECT, "name": NAME[:16]}]),
        _index(objects=[{**OBJECT, "name": NAME.upper()}]),
        _index(objects=[{**OBJECT, "entries": "7"}]),
        _index(objects=[[]]),
        lambda: {**body(), "volume": {"name": "a/b", "id": "0" * 16}},
        lambda: {**body(), "volume": {"name": "..", "id": "0" * 16}},
        lambda: {**body(), "volume": {"name": "a", "id": "../x"}},
        lambda: {**body(), "volume": {"name": "a", "id": NAME}},
        lambda: {**body(), "parents": ["../../elsewhere"]},
        lambda: {**body(), "stats": {"files": "3"}},
        lambda: {**body(), "sequence": 1 << 64},
    ],
)
def test_an_absurd_record_is_refused_before_anything_is_built_of_it(change: Callable[[], dict[str, Any]]) -> None:
    with pytest.raises(RecordDamagedError):
        decoded(change())


# -- locators ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("store", ["s3://b", "s3://b/a/b", "file:///tmp/x y", "memory://x", "gs://b/volumes/x"])
def test_a_locator_is_taken_apart(store: str) -> None:
    locator = replace(RECORD, store_url=store).locator
    assert parse_locator(str(locator)) == locator
    assert parse_locator(f"  {locator}\n") == locator
    assert str(locator).startswith(store + "/volumes/data-0123456789abcdef/versions/00000003-")


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "s3://bucket", f"{RECORD.locator}x", f"{RECORD.locator}/x",
        str(RECORD.locator).replace("data", "da ta"),
        str(RECORD.locator).replace("data", "../data"), str(RECORD.locator).replace("00000003", "3"),
        str(RECORD.locator).replace(STORE, ""), "x" * 100_000, None, 5, b"x",
    ],
)  # fmt: skip
def test_what_is_no_locator(text: Any) -> None:
    with pytest.raises(LocatorError) as caught:
        parse_locator(text)
    assert len(str(caught.value)) < 1000
    assert "locator" in caught.value.hint


@pytest.mark.parametrize("name", ["a", "A.b_c-d", "0" * 63, "a-0123456789abcdef"])
def test_names_of_volumes(name: str) -> None:
    assert check_name(name) == name
    assert parse_locator(str(replace(RECORD, volume_name=name).locator)).volume_name == name


@pytest.mark.parametrize("name", ["", ".", "-a", "a/b", "a b", "ü", "a\n", "0" * 64, ".."])
def test_what_cannot_name_a_volume(name: str) -> None:
    with pytest.raises(VolumeNameError):
        check_name(name)


# -- loading -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(f"memory://{uuid4().hex}")


def test_a_record_is_loaded_and_checked_by_its_name(store: MemoryStore) -> None:
    record = replace(RECORD, store_url=store.url, parents=())
    with pytest.raises(VersionNotFoundError, match="no version"):
        load_record(store, record.locator)
    store.create(record.locator.key, record.encode())
    assert load_record(store, record.locator).locator == record.locator


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_record_whose_bytes_were_altered_on_the_way_is_asked_for_again(store: MemoryStore, times: int) -> None:
    record = replace(RECORD, store_url=store.url, parents=())
    store.create(record.locator.key, record.encode())
    faulty = Faulty(store)
    faulty.alter("get", record.locator.key, lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:], times=times)
    if times < 3:
        assert load_record(faulty, record.locator).locator == record.locator
    else:
        with pytest.raises(RecordDamagedError, match="altered"):
            load_record(faulty, record.locator)
    assert len(faulty.log) == min(times + 1, 3)


def test_a_record_under_the_name_of_another_volume_or_number_is_refused(store: MemoryStore) -> None:
    record = replace(RECORD, store_url=store.url, parents=())
    for change in ({"volume_id": "f" * 16}, {"file": "00000009" + record.locator.file[8:]}):
        wrong = replace(record.locator, **change)
        store.create(wrong.key, record.encode())
        with pytest.raises(RecordDamagedError):
            load_record(store, wrong)


# -- refs --------------------------------------------------------------------------------------------------------------


def test_a_ref_moves_only_from_where_the_mover_thinks_it_is(store: MemoryStore) -> None:
    key = ref_key("data", "0" * 16)
    assert read_ref(store, key) is None
    tag = move_ref(store, key, RECORD.locator.file, "me", None)
    found = read_ref(store, key)
    assert found is not None
    assert (found.version, found.writer, found.tag) == (RECORD.locator.file, "me", tag)
    assert move_ref(store, key, RECORD.locator.file, "other", None) is None
    newer = replace(RECORD, sequence=4).locator.file
    assert move_ref(store, key, newer, "me", tag)
    assert move_ref(store, key, newer, "other", tag) is None


@pytest.mark.parametrize("name", ["", "..", "a/b", "a\n", "x" * 64])
def test_what_cannot_name_a_ref(name: str) -> None:
    with pytest.raises(UsageError):
        ref_key("data", "0" * 16, name)


REF = {"format": "flytevol/ref", "format_version": 1, "requires": [], "requires_to_write": [], "writer": "w"}


@pytest.mark.parametrize(
    "data",
    [
        b"", b"[]", b"null", b"{}", b"\xff", b"[" * 50_000, json.dumps(REF).encode(),
        json.dumps({**REF, "version": "../../x"}).encode(),
        json.dumps({**REF, "version": 5}).encode(),
        *(json.dumps({**REF, "version": RECORD.locator.file, "fence": fence}).encode()
          for fence in (-1, True, None, 1.0, float("nan"), "1", 1 << 53, 1 << 200)),
        json.dumps({**REF, "version": RECORD.locator.file, "writer": "x" * 5000}).encode(),
        json.dumps({**REF, "version": RECORD.locator.file, "format": "x"}).encode(),
    ],
)  # fmt: skip
def test_a_damaged_ref(store: MemoryStore, data: bytes) -> None:
    store.create(ref_key("data", "0" * 16), data)
    with pytest.raises(RecordDamagedError):
        read_ref(store, ref_key("data", "0" * 16))


def test_a_ref_of_a_later_release(store: MemoryStore) -> None:
    for i, change in enumerate(({"format_version": 2}, {"requires": ["x"]})):
        key = ref_key("data", "0" * 16, f"r{i}")
        store.create(key, json.dumps({**REF, "version": RECORD.locator.file, **change}).encode())
        with pytest.raises(NewerFormatError):
            read_ref(store, key)
