"""Refs and leases have no hash in their names: they carry one, and what was altered on the way is asked for again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from uuid import uuid4

import pytest

from flyteplugins_vol.errors import NewerFormatError, RecordDamagedError
from flyteplugins_vol.history.holding import Holding, look_at_lease, read_lease
from flyteplugins_vol.history.lease import Lease
from flyteplugins_vol.history.refs import move_ref, read_ref
from flyteplugins_vol.store.base import Tagged
from flyteplugins_vol.store.faulty import Faulty
from flyteplugins_vol.store.memory import MemoryStore

VOLUME_ID = "0" * 16
REF, LEASE = "refs/main.json", "volumes/data-0000000000000000/lease.json"
VERSION = f"00000001-{'a' * 40}.json"


@pytest.fixture
def store() -> Faulty:
    """With one ref and one lease."""
    store = Faulty(MemoryStore(f"memory://{uuid4().hex}"))
    assert move_ref(store, REF, VERSION, "writer", None, fence=17)
    lease = Lease(store, "data", VOLUME_ID, "holder", seconds=60.0, user="user", fresh=True)
    lease.take(lambda _: None)
    store.log.clear()
    return store


READERS: list[tuple[str, Callable[[Faulty], object]]] = [
    (REF, lambda store: read_ref(store, REF)),
    (LEASE, lambda store: read_lease(store, LEASE)),
]


@pytest.mark.parametrize(("key", "read"), READERS, ids=["ref", "lease"])
def test_no_flipped_bit_changes_what_is_read(store: Faulty, key: str, read: Callable[[Faulty], object]) -> None:
    right = read(store)
    found = store.inner.get_tagged(key)
    assert found is not None
    refused = 0
    for place in range(len(found.data) * 8):
        altered = bytearray(found.data)
        altered[place // 8] ^= 1 << place % 8
        store.alter("get_tagged", key, lambda tagged, data=bytes(altered): replace_data(tagged, data), times=3)
        try:
            assert same(read(store)) == same(right)
        except (RecordDamagedError, NewerFormatError):
            refused += 1
        store.faults.clear()
    assert refused > 0.9 * len(found.data) * 8


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize(("key", "read"), READERS, ids=["ref", "lease"])
def test_a_damaged_answer_is_asked_for_again(
    store: Faulty, key: str, read: Callable[[Faulty], object], times: int
) -> None:
    right = read(store)
    store.log.clear()
    store.alter("get_tagged", key, lambda tagged: replace_data(tagged, tagged.data.replace(b"1", b"2", 1)), times=times)
    if times == 3:
        with pytest.raises(RecordDamagedError, match="altered"):
            read(store)
    else:
        assert read(store) == right
    assert len(store.log) == min(times + 1, 3)


def test_a_lease_that_stays_damaged_is_nobodys(store: Faulty) -> None:
    store.alter("get_tagged", LEASE, lambda tagged: replace_data(tagged, tagged.data[:-2] + b" }"), times=None)
    found = look_at_lease(store, LEASE)
    assert found is not None
    assert "altered" in found.damage


def replace_data(tagged: Tagged, data: bytes) -> Tagged:
    return tagged._replace(data=data)


def same(value: object) -> object:
    """Without the bytes that it was read from."""
    return replace(value, data=b"") if isinstance(value, Holding) else value
