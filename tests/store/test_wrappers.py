"""Counts, faults and latency do what tests of the layers above rely on."""

from __future__ import annotations

import pytest

from flyteplugins_vol.errors import StoreAccessError, StoreUnavailableError
from flyteplugins_vol.store.base import StoreOptions
from flyteplugins_vol.store.counting import Counting
from flyteplugins_vol.store.delayed import Delayed
from flyteplugins_vol.store.faulty import Faulty, StoppedError
from flyteplugins_vol.store.memory import MemoryStore

from .conftest import Opener


def test_counting_counts_verbs_and_bytes(memory_url: str) -> None:
    store = Counting(MemoryStore(memory_url))
    store.create("o", b"12345")
    store.replace("ref", b"123", None)
    store.get("o")
    store.get("absent")
    store.get_range("o", 1, 2)
    store.get_tagged("ref")
    store.get_tail("o", 1)
    list(store.list(""))
    store.list_dirs("")
    store.delete("o")
    assert (store.puts, store.gets) == (2, 5)
    assert (store.sent, store.received) == (8, 5 + 2 + 3 + 1)
    assert store.snapshot()["list"] == 1
    store.reset()
    assert store.snapshot() == {"sent": 0, "received": 0}


def test_counting_counts_failures(memory_url: str) -> None:
    faulty = Faulty(MemoryStore(memory_url))
    faulty.fail()
    store = Counting(faulty)
    with pytest.raises(StoreUnavailableError):
        store.create("o", b"1")
    assert store.puts == 1


def test_faulty_before_and_after(memory_url: str) -> None:
    store = Faulty(MemoryStore(memory_url))
    store.fail("create", "before")
    store.fail("create", "after", after=True)
    for key in ("before", "after"):
        with pytest.raises(StoreUnavailableError):
            store.create(key, b"1")
    assert (store.get("before"), store.get("after")) == (None, b"1")


def test_faulty_skips_and_stops_hitting(memory_url: str) -> None:
    store = Faulty(MemoryStore(memory_url))
    fault = store.fail("get", "packs/*", error=StoreAccessError("no"), times=2, skip=1)
    store.get("other")
    store.get("packs/1")
    for _ in range(2):
        with pytest.raises(StoreAccessError):
            store.get("packs/1")
    store.get("packs/1")
    assert fault.hits == 2
    assert store.log.count(("get", "packs/1")) == 4


def test_faulty_alters_answers(memory_url: str) -> None:
    store = Faulty(MemoryStore(memory_url))
    store.create("o", b"abc")
    store.alter("get", "o", lambda data: data[:-1])
    store.alter("get_tail", "o", lambda data: None)
    assert store.get("o") == b"ab"
    assert store.get_tail("o", 2) is None
    assert store.get("o") == b"abc"


def test_faulty_stops_for_good(memory_url: str) -> None:
    store = Faulty(MemoryStore(memory_url))
    store.stop_at(2)
    store.create("o", b"1")
    for _ in range(2):
        with pytest.raises(StoppedError):
            store.create("p", b"1")
    store.clear()
    assert store.get("p") is None


def test_delayed_waits_for_latency_and_bytes(memory_url: str) -> None:
    slept: list[float] = []
    store = Delayed(MemoryStore(memory_url), latency=1.0, bandwidth=10.0, sleep=slept.append)
    store.create("o", b"12345")
    store.get("o")
    store.get("absent")
    store.get_tagged("o")
    assert slept == [1.5, 1.5, 1.0, 1.5]


def test_wrappers_tell_what_is_inside(bare: Opener, memory_url: str) -> None:
    best_effort = bare("memory://x", StoreOptions(backend="fsspec"))
    assert Counting(best_effort).conditional is False
    assert repr(Counting(Faulty(MemoryStore(memory_url)))) == f"<Counting <Faulty <MemoryStore {memory_url}>>>"
