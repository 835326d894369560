"""Copies that are stopped, lied to, or meet damage: nothing is named that is not whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from flyteplugins_vol.errors import (
    DamageError,
    IndexDamagedError,
    ObjectMissingError,
    PackDamagedError,
    RecordDamagedError,
    StoreUnavailableError,
)
from flyteplugins_vol.history import carrying
from flyteplugins_vol.history.carrying import Item
from flyteplugins_vol.history.record import load_record
from flyteplugins_vol.history.refs import read_ref, ref_key
from flyteplugins_vol.history.tags import set_tag
from flyteplugins_vol.store.container import PACK
from flyteplugins_vol.store.faulty import Faulty, StoppedError
from flyteplugins_vol.store.memory import MemoryStore
from flyteplugins_vol.store.wrapper import Wrapper
from tests.history.copies import Origin, data
from tests.history.world import World


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("options", [{}, {"history": True}, {"name": "copy"}], ids=["one", "history", "name"])
def test_stopped_at_any_call_it_is_taken_up_again(
    world: World, origin: Origin, after: bool, options: dict[str, Any]
) -> None:
    first = origin.commit("one", files=2)
    origin.copy(first, **options)
    for number in range(3):
        origin.commit(f"{number}")
    last = origin.commit("last")
    set_tag(origin.store, last.locator, "v1")
    contents = world.store.contents()
    objects = len(origin.objects("packs/") | origin.objects("index/"))
    stops = 0
    for call in range(1, 400):
        world.store.put_back(contents)
        start = world.store.calls
        world.store.stop(call, after=after)
        with suppress(StoppedError):
            origin.copy(last, LeasesApart(world.store), **options)
        done = world.store.calls - start < call
        world.store.restart()
        if done:
            break
        stops += 1
        world.check_refs()
        there = len(world.objects("packs/") | world.objects("index/"))
        found = origin.copy(last, **options)
        assert found.copied.objects <= objects - there
        assert found.copied.objects + there == len(world.objects("packs/") | world.objects("index/"))
        assert load_record(world.store, found.record.locator).message == "last"
        world.check()
    assert stops > 15


class LeasesApart(Wrapper):
    """A holder that died has tests of its own: leases are taken and given back also when all else has stopped."""

    def replace(self, key: str, data: Any, tag: str | None) -> str | None:
        return self._inner(key).replace(key, data, tag)

    def get_tagged(self, key: str) -> Any:
        return self._inner(key).get_tagged(key)

    def _inner(self, key: str) -> Any:
        inner: Any = self.inner
        return inner.inner if key.endswith("lease.json") else inner


@pytest.mark.parametrize("lie", ["absent afterwards", "lost answer"])
def test_what_a_store_only_says_it_wrote_is_not_named(world: World, origin: Origin, lie: str) -> None:
    record = origin.commit("one", files=3)
    target = Faulty(world.store)
    if lie == "absent afterwards":
        target.alter("get_tail", "packs/*", lambda _: None, times=None)
    else:
        target.fail("create", "packs/*", after=True, times=None)
    with pytest.raises(StoreUnavailableError) as caught:
        origin.copy(record, target)
    assert caught.value.hint
    assert not world.objects("volumes/")
    target.clear()
    assert origin.copy(record, target).moved
    world.check()


def harmed(data: bytes, where: int) -> bytes:
    return data[:where] + bytes([data[where] ^ 1]) + data[where + 1 :]


@pytest.mark.parametrize("kind", ["packs/", "index/"])
@pytest.mark.parametrize("where", [3, 100, -3, -45, -30], ids=["header", "body", "magic", "entry", "nonce"])
def test_what_is_damaged_here_is_not_copied(world: World, origin: Origin, kind: str, where: int) -> None:
    record = origin.commit("one", files=3)
    (key,) = origin.objects(kind)
    whole = origin.store.inner.get(key)
    assert whole is not None
    origin.store.inner.delete(key)
    origin.store.inner.create(key, harmed(whole, where))
    with pytest.raises(DamageError) as caught:
        origin.copy(record)
    assert key[-8:] in caught.value.message or key[:16] in caught.value.message
    assert caught.value.hint
    assert not world.objects("volumes/")
    assert key not in data(world)


@pytest.mark.parametrize("harm", ["cut", "missing"])
def test_what_is_not_all_here_is_not_copied(world: World, origin: Origin, harm: str) -> None:
    record = origin.commit("one", files=3)
    (key,) = origin.objects("packs/")
    whole = origin.store.inner.get(key)
    assert whole is not None
    origin.store.inner.delete(key)
    if harm == "cut":
        origin.store.inner.create(key, whole[:-9])
    with pytest.raises(DamageError if harm == "cut" else ObjectMissingError, match=key) as caught:
        origin.copy(record)
    assert "flytevol verify" in caught.value.hint
    assert data(world) == {}


def test_what_is_harmed_on_its_way_is_asked_for_again(world: World, origin: Origin) -> None:
    record = origin.commit("one", files=3)
    fault = origin.store.alter("get_range", "packs/*", lambda found: harmed(found, 500), times=2)
    assert origin.copy(record).moved
    assert fault.hits == 2
    world.check()


@pytest.mark.parametrize("where", [-1, -45])
def test_what_is_damaged_there_is_told_and_not_written_over(world: World, origin: Origin, where: int) -> None:
    record = origin.commit("one", files=3)
    (key,) = origin.objects("packs/")
    whole = origin.store.inner.get(key)
    assert whole is not None
    world.store.create(key, harmed(whole, len(whole) + where))
    with pytest.raises(PackDamagedError, match=f"{world.store.url}/{key} is there") as caught:
        origin.copy(record)
    assert "delete it" in caught.value.hint
    assert not world.objects("volumes/")
    world.store.delete(key)
    origin.copy(record)
    world.check()


def test_one_that_comes_to_be_there_meanwhile_and_is_another(world: World, origin: Origin) -> None:
    record = origin.commit("one", files=3)
    (key,) = origin.objects("index/")
    target = Faulty(world.store)
    target.alter("list", "*", lambda _: iter(()), times=None)
    world.store.create(key, b"something else")
    with pytest.raises(IndexDamagedError, match="other bytes"):
        origin.copy(record, target)
    assert not world.objects("volumes/")


def test_a_record_that_is_damaged_there(world: World, origin: Origin) -> None:
    record = origin.commit("one")
    world.store.create(record.locator.key, b"{}")
    with pytest.raises(RecordDamagedError) as caught:
        origin.copy(record)
    assert "delete that object" in caught.value.hint
    assert read_ref(world.store, ref_key("test", origin.entry.id)) is None


@pytest.mark.parametrize(("size", "most"), [(16 << 20, carrying.PACKS_AT_ONCE), (60 << 20, 2), (1 << 30, 1)])
def test_few_containers_are_under_way_at_once(size: int, most: int) -> None:
    """And few bytes: one that is large goes alone."""
    taken: list[Item] = []
    done: list[Item] = []

    def items() -> Iterator[Item]:
        for number in range(20):
            taken.append(Item(PACK, f"{number:064x}", size))
            yield taken[-1]

    steps = carrying._each(items(), done.append)
    first = next(iter(steps))
    assert len(taken) == most + 1, "so many, and the next, for which there is no room"
    assert [first, *steps] == taken
    assert set(done) == set(taken)


def test_the_first_error_ends_it(world: World, origin: Origin) -> None:
    for number in range(30):
        origin.commit(f"{number}")
    target = Faulty(world.store)
    target.fail("create", "packs/*", times=None)
    with pytest.raises(StoreUnavailableError):
        origin.copy(origin.commit("last"), target, history=True)
    assert len([verb for verb, _ in target.log if verb == "create"]) <= 2 * carrying.PACKS_AT_ONCE


def test_an_index_that_names_what_no_pack_can_be(world: World, origin: Origin) -> None:
    import shutil
    import sqlite3

    from flyteplugins_vol.history.segments import publish_segments

    record = origin.commit("one")
    there = Faulty(MemoryStore("memory://there"))
    (pack,) = (key for key in origin.objects("packs/"))
    real = len(origin.store.inner.get(pack) or b"")
    assert there.inner.create(pack, origin.store.inner.get(pack) or b"")
    for size in (1 << 60, 0, -5, real + 1):
        path = str(origin.directory / "hostile.db")
        shutil.copyfile(os.path.join(world.root, "cache", "index", f"{record.locator.hash}.db"), path)
        with sqlite3.connect(path) as sql:
            sql.execute("UPDATE pack SET size = ?", (size,))
        sql.close()
        published = publish_segments(origin.store, path, None)
        hostile = replace(record, index=published.segments.map)
        assert origin.store.create(hostile.locator.key, hostile.encode())
        for target in (Faulty(MemoryStore("memory://empty")), there):
            with pytest.raises(DamageError) as caught:
                origin.copy(hostile, target)
            assert caught.value.hint
            assert not [key for key in target.log if key[0] == "create" and key[1].startswith("volumes/")]


def test_what_is_told_while_it_runs(world: World, origin: Origin) -> None:
    told: list[Any] = []
    done = origin.copy(origin.commit("one", files=3), progress=told.append)
    assert [event["phase"] for event in told] == ["looking", "copy", "copy", "version"]
    assert told[-2]["done"] == told[-2]["total"] == done.copied.bytes
