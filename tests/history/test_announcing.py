"""The record of a new version: looked for beside the reads that follow it, and never believed where it is not there."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar
from uuid import uuid4

import pytest

from flyteplugins_vol.errors import CommitError, StoreUnavailableError
from flyteplugins_vol.history.announcing import announce
from flyteplugins_vol.history.marks import KEY, write_marks
from flyteplugins_vol.history.record import VersionRecord
from flyteplugins_vol.history.refs import move_ref, read_ref, ref_key
from flyteplugins_vol.store.doubting import Doubting
from flyteplugins_vol.store.faulty import Faulty
from flyteplugins_vol.store.memory import MemoryStore
from flyteplugins_vol.store.retrying import Retrying
from flyteplugins_vol.store.wrapper import Wrapper
from tests.driven import Driven

T = TypeVar("T")


@pytest.fixture
def record(volume: Driven) -> VersionRecord:
    return volume.commit()


@pytest.fixture
def memory() -> MemoryStore:
    return MemoryStore(f"memory://{uuid4().hex}")


class Meeting(Wrapper):
    """Lets nobody read before all three do."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.barrier = threading.Barrier(3, timeout=10)

    def around(self, verb: str, key: str, call: Callable[[], T], sent: int = 0) -> T:
        if verb != "create":
            self.barrier.wait()
        return call()


class Forgetful(Wrapper):
    """Says that it has created the first ones, and has not. ``marks``: what happens before the second try."""

    def __init__(self, inner: Any, lies: int, *, meanwhile: Callable[[], Any]) -> None:
        super().__init__(inner)
        self.lies = lies
        self.meanwhile = meanwhile

    def create(self, key: str, data: Any) -> bool:
        if self.lies:
            self.lies -= 1
            return True
        self.meanwhile()
        return self.inner.create(key, data)


def test_the_record_the_ref_and_the_marks_are_looked_for_at_once(record: VersionRecord, memory: MemoryStore) -> None:
    key = ref_key(record.volume_name, record.volume_id)
    move_ref(memory, key, record.locator.file, "me", None)
    write_marks(memory, (), None)
    store = Doubting(Meeting(memory))
    found = announce(store, record, lambda: read_ref(store, key))
    assert found.ref is not None
    assert found.ref.version == record.locator.file
    assert found.marks is not None
    assert memory.get(record.locator.key) == record.encode()


def test_what_was_read_before_the_record_was_there_is_read_again(record: VersionRecord, memory: MemoryStore) -> None:
    forgetful = Forgetful(memory, 1, meanwhile=lambda: write_marks(memory, (), None))
    store = Retrying(Doubting(forgetful, sleep=lambda _: None), sleep=lambda _: None)
    found = announce(store, record, lambda: None)
    assert found.marks is not None
    assert memory.get(record.locator.key) == record.encode()


def test_a_look_that_the_store_does_not_answer_is_done_again(record: VersionRecord, memory: MemoryStore) -> None:
    faulty = Faulty(memory)
    faulty.fail("get_range", record.locator.key)
    announce(Retrying(Doubting(faulty), sleep=lambda _: None), record, lambda: None)
    assert [call for call in faulty.log if call[1] == KEY] == [("get_tagged", KEY)] * 2


def test_other_content_under_its_name_is_said(record: VersionRecord, memory: MemoryStore) -> None:
    memory.create(record.locator.key, b"other")
    with pytest.raises(CommitError, match="other content"):
        announce(Doubting(memory), record, lambda: None)


def test_a_store_that_never_has_it_is_an_error(record: VersionRecord, memory: MemoryStore) -> None:
    forgetful = Forgetful(memory, 1000, meanwhile=lambda: None)
    store = Retrying(Doubting(forgetful, sleep=lambda _: None), sleep=lambda _: None)
    with pytest.raises(StoreUnavailableError, match="does not have it"):
        announce(store, record, lambda: None)
