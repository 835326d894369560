"""Looking twice: an OK that was a lie fails the write, an answer of absence that was stale is asked for again."""

from __future__ import annotations

from uuid import uuid4

import pytest

from flyteplugins_vol.errors import StoreUnavailableError
from flyteplugins_vol.store.base import ObjectStore
from flyteplugins_vol.store.doubting import Doubting
from flyteplugins_vol.store.faulty import Faulty
from flyteplugins_vol.store.memory import MemoryStore
from flyteplugins_vol.store.retrying import Retrying
from flyteplugins_vol.store.wrapper import Wrapper


class Liar(Wrapper):
    """Says OK to the first writes and does nothing."""

    def __init__(self, inner: ObjectStore, lies: int) -> None:
        super().__init__(inner)
        self.lies = lies

    def around(self, verb, key, call, sent=0):
        if verb in ("create", "replace") and self.lies:
            self.lies -= 1
            return True if verb == "create" else "a tag"
        return call()


@pytest.fixture
def memory() -> MemoryStore:
    return MemoryStore(f"memory://{uuid4().hex}")


def at_once(seconds: float) -> None:
    return


def test_a_create_that_did_not_happen_fails_and_is_tried_again(memory: MemoryStore) -> None:
    with pytest.raises(StoreUnavailableError, match="does not have it") as caught:
        Doubting(Liar(memory, 1)).create("a", b"data")
    assert caught.value.hint
    assert Retrying(Doubting(Liar(memory, 3), sleep=at_once), sleep=at_once).create("a", b"data")
    assert memory.get("a") == b"data"


def test_a_replace_that_did_not_happen_fails_and_is_tried_again(memory: MemoryStore) -> None:
    tag = memory.replace("a", b"one", None)
    with pytest.raises(StoreUnavailableError, match="does not have it"):
        Doubting(Liar(memory, 1)).replace("a", b"two", tag)
    with pytest.raises(StoreUnavailableError, match="does not have it"):
        Doubting(Liar(memory, 1)).replace("b", b"two", None)
    new = Retrying(Doubting(Liar(memory, 3), sleep=at_once), sleep=at_once).replace("a", b"two", tag)
    assert memory.get_tagged("a") == (b"two", new)


def test_an_empty_object_is_looked_for_as_well(memory: MemoryStore) -> None:
    assert Doubting(memory).create("empty", b"")
    with pytest.raises(StoreUnavailableError):
        Doubting(Liar(memory, 1)).create("other", b"")


def test_who_moved_on_meanwhile_does_not_make_it_untrue(memory: MemoryStore) -> None:
    faulty = Faulty(memory)
    tag = memory.replace("a", b"one", None)

    def next_writer(new: str) -> str:
        memory.replace("a", b"three", new)
        return new

    faulty.alter("replace", "a", next_writer)
    assert Doubting(faulty).replace("a", b"two", tag) is not None


def test_what_is_lost_or_taken_stays_so(memory: MemoryStore) -> None:
    store = Doubting(memory, sleep=at_once)
    assert store.create("a", b"one")
    assert not store.create("a", b"two")
    assert store.replace("a", b"two", "another tag") is None


@pytest.mark.parametrize("read", [("get", ()), ("get_range", (1, 2)), ("get_tail", (2,))])
def test_a_stale_404_is_asked_again(memory: MemoryStore, read: tuple[str, tuple[int, ...]]) -> None:
    verb, args = read
    memory.create("a", b"data")
    faulty = Faulty(memory)
    waits: list[float] = []
    store = Doubting(faulty, sleep=waits.append)
    faulty.alter(verb, "a", lambda _: None, times=2)
    assert getattr(store, verb)("a", *args) == getattr(memory, verb)("a", *args)
    assert len(waits) == 2
    assert getattr(store, verb)("absent", *args) is None


def test_a_ref_may_be_absent(memory: MemoryStore) -> None:
    faulty = Faulty(memory)
    assert Doubting(faulty).get_tagged("refs/main") is None
    assert len(faulty.log) == 1
