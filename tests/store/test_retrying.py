"""When a call is tried again, how long is waited, when it is given up; and lost answers, which no retry may mistake."""

from __future__ import annotations

import logging

import pytest

from flyteplugins_vol.errors import StoreAccessError, StoreUnavailableError
from flyteplugins_vol.store.base import ObjectStore
from flyteplugins_vol.store.counting import Counting
from flyteplugins_vol.store.faulty import Faulty
from flyteplugins_vol.store.memory import MemoryStore
from flyteplugins_vol.store.retrying import FIRST_WAIT, LONGEST_WAIT, Retrying


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class Rig:
    """Retrying around faults around memory, with the longest waits and no real time."""

    def __init__(self, url: str, retries: int = 10, timeout: float = 120.0) -> None:
        self.clock = Clock()
        self.faulty = Faulty(MemoryStore(url))
        self.tries = Counting(self.faulty)
        self.store: ObjectStore = Retrying(
            self.tries,
            retries=retries,
            timeout=timeout,
            sleep=self.clock.sleep,
            clock=self.clock,
            jitter=lambda low, high: high,
        )


@pytest.fixture
def rig(memory_url: str) -> Rig:
    return Rig(memory_url)


def test_a_passing_fault_is_not_seen(rig: Rig) -> None:
    rig.faulty.fail("get", times=3)
    assert rig.store.get("o") is None
    assert rig.tries.calls["get"] == 4


def test_waits_double_up_to_the_longest(rig: Rig) -> None:
    rig.faulty.fail("get", times=9)
    rig.store.get("o")
    assert rig.clock.slept == [min(LONGEST_WAIT, FIRST_WAIT * 2**n) for n in range(9)]


def test_waits_are_spread_from_zero(memory_url: str) -> None:
    asked: list[tuple[float, float]] = []

    def jitter(low: float, high: float) -> float:
        asked.append((low, high))
        return 0.0

    faulty = Faulty(MemoryStore(memory_url))
    faulty.fail(times=2)
    Retrying(faulty, sleep=lambda _: None, jitter=jitter).get("o")
    assert asked == [(0.0, FIRST_WAIT), (0.0, FIRST_WAIT * 2)]


def test_retries_are_bounded(memory_url: str) -> None:
    rig = Rig(memory_url, retries=2)
    rig.faulty.fail(times=None)
    with pytest.raises(StoreUnavailableError, match="3 tries") as caught:
        rig.store.get("o")
    assert caught.value.hint
    assert rig.tries.calls["get"] == 3


def test_no_try_begins_after_the_deadline(memory_url: str) -> None:
    rig = Rig(memory_url, retries=1000, timeout=30.0)
    rig.faulty.fail(times=None)
    began = rig.clock.now
    with pytest.raises(StoreUnavailableError):
        rig.store.create("o", b"1")
    assert 15.0 < rig.clock.now - began <= 30.0


def test_only_faults_of_the_moment_are_tried_again(rig: Rig) -> None:
    rig.faulty.fail("get", error=StoreAccessError("no", hint="ask"), times=None)
    with pytest.raises(StoreAccessError):
        rig.store.get("o")
    assert rig.tries.calls["get"] == 1


def test_a_retry_is_told_to_the_log_and_is_no_warning(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.faulty.fail("get")
    with caplog.at_level(logging.INFO):
        rig.store.get("some/key")
    assert [record.levelno for record in caplog.records] == [logging.INFO]
    assert "some/key" in caplog.text


@pytest.mark.parametrize("lost", [1, 3])
def test_lost_answer_to_a_create_is_no_conflict(rig: Rig, lost: int) -> None:
    rig.faulty.fail("create", after=True, times=lost)
    assert rig.store.create("o", b"mine") is True
    assert rig.store.get("o") == b"mine"


def test_lost_answer_and_another_creator_is_a_conflict(rig: Rig, memory_url: str) -> None:
    MemoryStore(memory_url).create("o", b"theirs")
    rig.faulty.fail("create", after=True)
    assert rig.store.create("o", b"mine") is False


@pytest.mark.parametrize("lost", [1, 3])
def test_lost_answer_to_a_replace_is_no_loss(rig: Rig, lost: int) -> None:
    tag = rig.store.replace("ref", b"old", None)
    rig.faulty.fail("replace", after=True, times=lost)
    new = rig.store.replace("ref", b"mine", tag)
    assert rig.store.get_tagged("ref") == (b"mine", new)


def test_lost_answer_and_another_replacer_is_a_loss(rig: Rig, memory_url: str) -> None:
    tag = rig.store.replace("ref", b"old", None)
    other = MemoryStore(memory_url)
    assert other.replace("ref", b"theirs", tag)
    rig.faulty.fail("replace")
    assert rig.store.replace("ref", b"mine", tag) is None


def test_lost_answer_to_a_delete(rig: Rig) -> None:
    rig.store.create("o", b"1")
    rig.faulty.fail("delete", after=True)
    rig.store.delete("o")
    assert rig.store.get("o") is None


class Breaking(MemoryStore):
    """A listing that breaks after every two items, and begins in order where it is told to."""

    def list(self, prefix: str, after: str = ""):
        for number, info in enumerate(super().list(prefix, after)):
            if number == 2:
                raise StoreUnavailableError("cut", hint="again")
            yield info


def test_a_listing_goes_on_where_it_broke(memory_url: str) -> None:
    keys = [f"p/{number}" for number in range(9)]
    clock = Clock()
    store = Retrying(Breaking(memory_url), retries=1, sleep=clock.sleep, clock=clock)
    for key in keys:
        store.create(key, b"")
    assert [info.key for info in store.list("p/")] == keys
    assert len(clock.slept) == 4


def test_a_listing_that_never_comes_is_given_up(memory_url: str) -> None:
    rig = Rig(memory_url, retries=3)
    rig.faulty.fail("list", times=None)
    with pytest.raises(StoreUnavailableError, match="4 tries"):
        list(rig.store.list(""))
