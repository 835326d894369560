"""Collecting beside prunings and other collections: only the one that began last deletes, and none that slept."""

from __future__ import annotations

from contextlib import suppress

import pytest

from flyteplugins_vol.errors import ConflictError, StoreUnavailableError
from flyteplugins_vol.history import collect as collect_module
from flyteplugins_vol.history.collect import WEEK, collect
from flyteplugins_vol.history.marks import KEY, read_all_marked, read_marks, write_marks
from flyteplugins_vol.store.wrapper import Wrapper
from tests.history.garbage import NOTHING, ripe
from tests.history.world import World


def test_a_pruning_at_any_call_is_no_hindrance(world: World) -> None:
    """Records go between the listing and their reading: their copies are there by then."""
    ripe(world)
    other = world.open()
    for number in range(3):
        world.write(other, b"a")
        other.commit(f"{number}")
    contents = world.store.contents()
    for call in range(1, 200):
        world.store.put_back(contents)
        done: list[object] = []
        world.store.interrupt(call, lambda done=done: done.append(world.prune(other, last=1)))
        found = world.collect()
        if not done:
            break
        world.store.restart()
        assert found.deleted.objects >= 1
        assert len(world.objects("packs/")) == 4
        world.check()
    assert call > 20


def test_only_the_collection_that_began_last_deletes(world: World) -> None:
    ripe(world)
    contents = world.store.contents()
    conflicts = 0
    for call in range(1, 200):
        world.store.put_back(contents)
        start = world.store.calls
        world.store.interrupt(call, world.collect)
        try:
            world.collect()
        except ConflictError as error:
            conflicts += 1
            assert error.hint
        if world.store.calls - start < call:
            break
        world.store.restart()
        assert len(world.objects("packs/")) == 1, "one of them did it"
        world.check()
        assert world.collect().marked == NOTHING
    assert conflicts > 10


def test_what_was_deleted_stays_marked_for_a_day(world: World) -> None:
    """Whoever would create it again under its name, as a copy does, finds it there while deletions may go on."""
    ripe(world)
    before = world.objects("packs/") | world.objects("index/")
    assert world.collect().deleted.objects >= 1
    gone = before - (world.objects("packs/") | world.objects("index/"))
    for hours in (0, 12, 11):
        world.store.pass_time(hours=hours)
        world.collect()
        assert gone <= read_all_marked(world.store)[1]
    world.store.pass_time(hours=2)
    world.collect()
    assert read_all_marked(world.store)[1] == frozenset()
    world.store.pass_time(days=2)
    world.collect()
    assert world.objects("gc/") == {KEY}


def test_deletions_day_after_day_need_few_lists(world: World) -> None:
    volume = world.open()
    most = 0
    for _ in range(80):
        world.write(volume, b"a")
        volume.commit("again")
        world.prune(volume, last=1)
        world.store.pass_time(days=1)
        world.collect()
        marks = read_marks(world.store)
        most = max(most, len(marks.lists) if marks else 0)
    assert 1 < most <= 20
    assert len(world.objects("packs/")) <= 30
    world.check()


def test_one_that_slept_between_two_deletions_goes_on_with_none(world: World) -> None:
    volume = world.open()
    for number in range(60):
        world.write(volume, b"a")
        volume.commit(f"{number}")
    world.prune(volume, last=1)
    world.store.pass_time(days=8)
    world.collect()
    world.store.pass_time(days=8)
    before = world.objects("index/")
    deletes = 0

    class Sleepy(Wrapper):
        def delete(self, key: str) -> None:
            nonlocal deletes
            deletes += 1
            if deletes == 5:
                world.store.pass_time(hours=21)
            super().delete(key)

    with pytest.raises(StoreUnavailableError, match="too long"):
        collect(Sleepy(world.store), scratch=str(world.root), abandoned=WEEK, clock=lambda: world.store.now.timestamp())
    assert deletes <= 5 + 16, "what was on its way by then"
    assert len(before - world.objects("index/")) < 40
    world.check()


def test_one_that_is_not_the_last_any_more_stops_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect_module, "_AT_ONCE", 1)
    volume = world.open()
    for number in range(8):
        world.write(volume, b"a")
        volume.commit(f"{number}")
    world.prune(volume, last=1)
    world.store.pass_time(days=8)
    world.collect()
    world.store.pass_time(days=8)
    contents = world.store.contents()
    stopped = 0
    for call in range(2, 200):  # from its own beginning on
        world.store.put_back(contents)
        left: list[int] = []

        def begin(left: list[int] = left) -> None:
            left.append(len(world.objects("packs/") | world.objects("index/")))
            marks = read_marks(world.store.inner)
            assert write_marks(world.store.inner, marks.lists if marks else (), marks)

        world.store.interrupt(call, begin)
        with suppress(ConflictError):
            world.collect()
        if not left:
            break
        world.store.restart()
        after = len(world.objects("packs/") | world.objects("index/"))
        assert left[0] - after <= 1, "the one that was on its way"
        stopped += after > 2
    assert stopped > 8


def test_a_collection_that_slept_deletes_nothing_any_more(world: World) -> None:
    ripe(world)
    before = world.objects("packs/")
    contents = world.store.contents()
    refusals = 0
    for call in range(1, 200):
        world.store.put_back(contents)
        start = world.store.calls
        hours = [0.0]
        world.store.interrupt(call, lambda hours=hours: hours.append(21.0))
        try:
            collect(world.store, abandoned=WEEK, scratch=str(world.root), clock=lambda hours=hours: hours[-1] * 3600)
        except StoreUnavailableError:
            refusals += 1
            assert world.objects("packs/") == before
        if world.store.calls - start < call:
            break
        world.store.restart()
    assert refusals > 5
