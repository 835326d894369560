"""Copies beside other copies, commits and collections: at each call of either."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flyteplugins_vol.errors import (
    CollectedError,
    ConflictError,
    RefMovedError,
    StoreUnavailableError,
)
from flyteplugins_vol.history.collect import ABANDONED, WEEK, collect
from flyteplugins_vol.history.deletion import delete_volume
from flyteplugins_vol.history.marks import read_marked, read_marks, write_marks
from flyteplugins_vol.history.record import Locator, VersionRecord
from flyteplugins_vol.store.base import ObjectStore
from flyteplugins_vol.store.container import TRAILER_SIZE
from flyteplugins_vol.store.faulty import Faulty
from flyteplugins_vol.store.wrapper import Wrapper
from tests.history.copies import Origin, around, data
from tests.history.world import World

# -- beside others -----------------------------------------------------------------------------------------------------


def test_two_copies_of_the_same_at_once(world: World, origin: Origin) -> None:
    first = origin.commit("one")
    second = origin.commit("two")
    for before in (None, first):
        if before is not None:
            origin.copy(before)
        contents = world.store.contents()
        for _, _, error in around(world, contents, lambda: origin.copy(second), lambda: beside(origin, second)):
            assert error is None
            assert origin.newest() == second.locator.file
            world.check()


def beside(origin: Origin, record: VersionRecord) -> None:
    with suppress(ConflictError):
        origin.copy(record)


def test_two_copies_of_different_versions_at_once(world: World, origin: Origin) -> None:
    """In any order, what becomes the newest is one of the two, and the newer one after another try."""
    first, second = origin.commit("one"), origin.commit("two")
    contents = world.store.contents()
    for a, b in ((first, second), (second, first)):
        for _, _, error in around(world, contents, lambda a=a: origin.copy(a), lambda b=b: beside(origin, b)):
            assert error is None or isinstance(error, ConflictError)
            world.check()
            origin.copy(second)
            origin.copy(first)
            assert origin.newest() == second.locator.file
            world.check()


def test_a_commit_there_at_any_call_is_never_lost(world: World, origin: Origin) -> None:
    """The writer takes no lease here: conditional puts have to be enough."""
    first = origin.commit("one")
    origin.copy(first)
    second = origin.commit("two")
    contents = world.store.contents()
    outcomes: set[str] = set()
    committed: list[VersionRecord] = []

    def commit() -> None:
        writer = world.open(volume_id=origin.entry.id, base=str(replace(first.locator, store_url=world.store.url)))
        try:
            world.write(writer, b"there")
            with suppress(RefMovedError):
                committed.append(writer.commit("there"))
        finally:
            writer.close()

    for _, _, error in around(world, contents, lambda: origin.copy(second), commit):
        if committed:
            assert error is None or isinstance(error, ConflictError)
            assert origin.newest() == committed.pop().locator.file
            outcomes.add(type(error).__name__)
        else:
            assert error is None
            assert origin.newest() == second.locator.file
            outcomes.add("copied")
        world.check()
    assert outcomes == {"copied", "DivergedError", "RefMovedError"}


class Hooked(Wrapper):
    """Does something of a test's before the first call of this verb whose key has this in it."""

    def __init__(self, inner: ObjectStore, verb: str, key: str, hook: Callable[[], object]) -> None:
        super().__init__(inner)
        self._at = (verb, key)
        self._hook: Callable[[], object] | None = hook

    def around(self, verb: str, key: str, call: Callable[[], Any], sent: int = 0) -> Any:
        if self._hook is not None and verb == self._at[0] and self._at[1] in key:
            hook, self._hook = self._hook, None
            hook()
        return call()


@pytest.mark.parametrize("again", [False, True])
def test_one_that_is_withdrawn_while_the_ref_moves(world: World, origin: Origin, again: bool) -> None:
    """Another copy of it had created the same record, and deletes it: the ref must not lead to nothing."""
    record = origin.commit("one")
    if again:
        origin.copy(record)
        record = origin.commit("two")
    before = origin.newest()
    target = Hooked(world.store, "replace", "refs/main", lambda: world.store.delete(record.locator.key))
    with pytest.raises(ConflictError, match="withdrawn") as caught:
        origin.copy(record, target)
    assert "copy again" in caught.value.hint
    assert origin.newest() == before
    world.check()
    assert origin.copy(record).moved
    world.check()


@pytest.mark.parametrize("when", [("list", "refs/"), ("delete", "versions/")])
def test_one_that_finds_something_gone_does_not_take_back_what_another_published(
    world: World, origin: Origin, when: tuple[str, str]
) -> None:
    record = origin.commit("one")

    class Losing(Wrapper):
        """While the record is created, a collection begins; and then, for this one, every pack is gone."""

        def create(self, key: str, data: Any) -> bool:
            if "/versions/" in key:
                assert write_marks(world.store, (), read_marks(world.store))
            return super().create(key, data)

        def get_tail(self, key: str, size: int) -> bytes | None:
            return None if size == TRAILER_SIZE else super().get_tail(key, size)

    other: list[bool] = []
    target = Faulty(Hooked(Losing(world.store), *when, lambda: other.append(origin.copy(record).moved)))
    with pytest.raises(CollectedError):
        origin.copy(record, target)
    assert other == [True]
    assert record.locator.key in data(world)
    deleted = [key for verb, key in target.log if verb == "delete"]
    assert deleted == ([] if when[0] == "list" else [record.locator.key])
    assert origin.newest() == record.locator.file
    world.check()


# -- beside collections there ------------------------------------------------------------------------------------------


def deleted_there(world: World, origin: Origin, record: VersionRecord) -> None:
    """What the version needs is there, and named by nothing."""
    origin.copy(record)
    delete_volume(world.store, origin.entry, force=True)


AGES = {
    "deleted": (),
    "old": (8,),
    "marked": (8, 0),
    "ripe": (8, 0, 8),
    "collected": (8, 0, 8, 0),
    "over": (8, 0, 8, 0, 3, 0),
}


@pytest.mark.parametrize("age", AGES)
def test_what_was_deleted_there_comes_back_whole_or_not_at_all(world: World, origin: Origin, age: str) -> None:
    record = origin.commit("one", files=3)
    deleted_there(world, origin, record)
    for days in AGES[age]:
        if days:
            world.store.pass_time(days=days)
        else:
            world.collect()
    if age in ("deleted", "old", "over"):
        done = origin.copy(record)
        assert done.copied.objects == (2 if age == "over" else 0)
    else:
        before = data(world)
        with pytest.raises(CollectedError) as caught:
            origin.copy(record)
        assert "flytevol gc" in caught.value.hint
        assert data(world) == before
        world.store.pass_time(days=20)
        world.collect()
        world.store.pass_time(days=3)
        world.collect()
        done = origin.copy(record)
    assert done.moved
    world.check()
    world.collect_all()
    world.check()
    world.check_tree(done.record, origin.volume.tree())


@pytest.mark.parametrize("age", ["old", "marked", "ripe", "collected"])
def test_a_collection_at_any_call_of_a_copy(world: World, origin: Origin, age: str) -> None:
    """Also those that begin in its middle, and all that come later, never take what it named."""
    record = origin.commit("one", files=3)
    deleted_there(world, origin, record)
    for days in AGES[age]:
        world.store.pass_time(days=days) if days else world.collect()
    contents = world.store.contents()
    ended = set[str]()
    for _, _, error in around(world, contents, lambda: origin.copy(record), world.collect):
        assert error is None or isinstance(error, CollectedError)
        ended.add(type(error).__name__)
        if error is not None:
            assert not world.objects(f"volumes/test-{origin.entry.id}/refs/")
        world.check()
        world.collect()
        world.check()
    assert ended == ({"NoneType", "CollectedError"} if age == "old" else {"CollectedError"})


@pytest.mark.parametrize("age", ["old", "marked", "ripe", "collected"])
def test_a_copy_at_any_call_of_a_collection(world: World, origin: Origin, age: str) -> None:
    record = origin.commit("one", files=3)
    deleted_there(world, origin, record)
    for days in AGES[age]:
        world.store.pass_time(days=days) if days else world.collect()
    contents = world.store.contents()
    copied: list[bool] = []

    def copy() -> None:
        with suppress(CollectedError):
            copied.append(origin.copy(record).moved)

    for _ in around(world, contents, world.collect, copy):
        world.check()
        for _ in range(2):
            world.store.pass_time(days=8)
            world.collect()
            world.check()
    assert bool(copied) == (age == "old")


@pytest.mark.parametrize("hours", [0, 19])
def test_a_collection_that_slept_among_its_deletions(world: World, origin: Origin, hours: int) -> None:
    """Another one deletes the same meanwhile, and then a copy would bring the same names back."""
    record = origin.commit("one", files=3)
    deleted_there(world, origin, record)
    for days in AGES["ripe"]:
        world.store.pass_time(days=days) if days else world.collect()
    contents = world.store.contents()
    refused = 0

    def meanwhile() -> None:
        nonlocal refused
        with suppress(ConflictError):
            world.collect()
            world.store.pass_time(hours=hours)
            world.collect()
        try:
            origin.copy(record)
        except CollectedError:
            refused += 1

    for _ in around(world, contents, world.collect, meanwhile):
        world.check()
    assert refused > 10


def test_a_copy_that_slept_until_a_collection_was_about_to_delete(world: World, origin: Origin) -> None:
    """It looked at the marks when nothing was marked; when it goes on, a collection has listed the records already."""
    record = origin.commit("one", files=3)
    deleted_there(world, origin, record)
    world.store.pass_time(days=8)
    contents, now = world.store.contents(), world.store.now
    ended: list[str] = []
    for call in range(1, 100):
        world.store.put_back(contents)
        world.store.now = now
        asleep, awake = threading.Event(), threading.Event()

        class Sleepy(Wrapper):
            calls = 0
            lock = threading.Lock()

            def around(self, verb: str, key: str, work: Callable[[], Any], sent: int = 0) -> Any:
                with self.lock:
                    self.calls += 1
                    is_it = self.calls == call  # noqa: B023
                if is_it:
                    asleep.set()  # noqa: B023
                    assert awake.wait(60)  # noqa: B023
                return work()

        def copy(target: Wrapper) -> None:
            try:
                ended.append("copied" if origin.copy(record, target).moved else "")
            except CollectedError:
                ended.append("refused")
            finally:
                asleep.set()  # noqa: B023

        thread = threading.Thread(target=copy, args=(Sleepy(world.store),))
        thread.start()
        assert asleep.wait(60)
        if ended and len(ended) == call:
            thread.join()
            break  # it had no such call
        world.collect()
        world.store.pass_time(days=8)

        def go_on(thread: threading.Thread = thread, awake: threading.Event = awake) -> None:
            awake.set()
            thread.join()

        collection = Hooked(world.store, "delete", "/", go_on)
        collect(
            collection, scratch=str(world.root), clock=world.store.now.timestamp, now=world.store.now, abandoned=WEEK
        )  # fmt: skip
        awake.set()
        thread.join()
        world.check()
    assert ended[-1] == "copied", "the last one did not sleep"
    assert {"refused", "copied"} == set(ended)
    assert ended.count("refused") > 8


def test_what_an_older_list_names_is_not_brought_back_either(world: World, origin: Origin) -> None:
    """The last list names what was deleted last; a collection that deletes the rest may have slept since."""
    record = origin.commit("one", files=3)
    deleted_there(world, origin, record)
    world.store.pass_time(hours=36)
    other = Origin(world)
    deleted_there(world, other, other.commit("other", files=3))
    other.volume.close()
    for days in (6.5, 1, 6.1, 1):  # the first is marked, the other one too; the first is deleted, the other one too
        world.store.pass_time(days=days)
        world.collect()
    marks, last = read_marked(world.store)
    assert marks is not None
    gone = {key for key in origin.objects("packs/") if key not in data(world)}
    assert gone
    assert not gone & last
    before = data(world)
    with pytest.raises(CollectedError):
        origin.copy(record)
    assert data(world) == before


def test_the_newest_there_is_pruned_while_an_older_one_comes(world: World, origin: Origin) -> None:
    """What both name was there because the newest named it, and is gone with that."""
    first = origin.commit("one", files=3)
    second = origin.commit("two")
    origin.copy(second)

    def weeks() -> None:
        writer = origin.writer()
        for name in (b"1", b"2"):
            writer.workspace.unlink(1, name)
        writer.commit("third")
        writer.close()
        world.prune(origin.volume, last=1)
        for _ in range(3):
            world.store.pass_time(days=8)
            world.collect(abandoned=ABANDONED)  # which spares what came for the older one

    target = Hooked(world.store, "create", first.locator.key, weeks)
    with pytest.raises(CollectedError):
        origin.copy(first, target)
    assert first.locator.key not in data(world)
    world.check()


def test_what_a_living_version_there_names_needs_no_look(world: World, origin: Origin) -> None:
    """The newest there is named by a ref: what it names is safe, whatever was once marked."""
    first = origin.commit("one", files=3)
    deleted_there(world, origin, first)
    world.store.pass_time(days=8)
    origin.copy(first)
    world.collect()
    second = origin.commit("two")
    world.store.calls = 0
    done = origin.copy(second)
    assert done.skipped.objects >= 1
    world.collect_all()
    world.check()


def test_a_copy_that_took_weeks(world: World, origin: Origin) -> None:
    """Packs that came first are old when the record comes; collections ran meanwhile, and the last copy is whole."""
    record = origin.commit("one", files=3)
    contents = world.store.contents()

    def weeks() -> None:
        for _ in range(5):
            world.store.pass_time(days=8)
            world.collect()

    ended = set[str]()
    for _, _, error in around(world, contents, lambda: origin.copy(record), weeks):
        assert error is None or isinstance(error, (CollectedError, StoreUnavailableError))
        ended.add(type(error).__name__)
        world.check()
        world.collect_all()
        world.check()
    assert "NoneType" in ended


def test_locators_say_where(world: World, origin: Origin) -> None:
    record = origin.commit("one")
    there = origin.copy(record).record.locator
    assert isinstance(there, Locator)
    assert str(there) == str(record.locator).replace(origin.store.url, world.store.url)
    assert Path(there.file).suffix == ".json"
