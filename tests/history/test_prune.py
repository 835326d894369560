"""Pruning: what a policy keeps, what is kept in any case, and that no ref ever names what is gone."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest

from flyteplugins_vol.errors import ConflictError, RefMovedError, UsageError
from flyteplugins_vol.history.copies import copy_key, keep_copy, read_copy
from flyteplugins_vol.history.deletion import delete_version
from flyteplugins_vol.history.prune import Retention, plan_pruning, prune
from flyteplugins_vol.history.record import Locator, VersionRecord, load_record
from flyteplugins_vol.history.refs import move_ref, read_ref, ref_key
from flyteplugins_vol.store.faulty import StoppedError
from tests.driven import Driven
from tests.history.world import World


def commits(world: World, volume: Driven, count: int, **apart: float) -> list[VersionRecord]:
    made: list[VersionRecord] = []
    for number in range(count):
        if number:
            world.store.pass_time(**apart)
        world.write(volume, b"a")
        made.append(volume.commit(f"{number}"))
    return made


def kept(world: World, volume: Driven, **policy: object) -> list[int]:
    plan = world.prune(volume, dry_run=True, **policy)
    sequences = [int(one.locator.file[:8]) for one in plan.kept]
    removed = [record.sequence for record in plan.removed]
    assert sorted(sequences + removed) == sorted(int(at.file[:8]) for at in world.versions())
    return sequences


def tag(world: World, record: VersionRecord, name: str = "tag") -> None:
    key = ref_key(record.volume_name, record.volume_id, name)
    ref = read_ref(world.store.inner, key)
    assert move_ref(world.store.inner, key, record.locator.file, "tagger", ref.tag if ref else None)


def copied(world: World, record: VersionRecord) -> bool:
    copy = read_copy(world.store, record.locator)  # whose name is the hash of its bytes
    return copy is not None and copy.locator == record.locator


# -- policies ----------------------------------------------------------------------------------------------------------


def test_a_policy_keeps_the_same_also_behind_what_was_pruned_before(world: World) -> None:
    """Parents in between are gone by then, and nothing else says who led to the newest."""
    volume = world.open()
    commits(world, volume, 40, hours=12)
    policy = {"last": 2, "weekly": 3}
    first = kept(world, volume, **policy)
    assert first == [12, 26, 39, 40]
    world.prune(volume, **policy)
    world.store.pass_time(days=8)
    for _ in range(2):
        assert kept(world, volume, **policy) == first
        world.prune(volume, **policy)
    assert kept(world, volume, last=3) == [26, 39, 40]
    world.check()


def test_who_lost_a_race_is_known_also_behind_what_was_pruned(world: World) -> None:
    volume = world.open()
    _, second, third, fourth, _ = commits(world, volume, 5, days=1)
    lost = replace(second, message="lost", writer="another")
    assert world.store.create(lost.locator.key, lost.encode())
    delete_version(world.store, fourth.locator)
    world.store.pass_time(days=8)
    plan = world.prune(volume, dry_run=True, last=10)
    assert [record.message for record in plan.removed] == ["lost"]
    delete_version(world.store, third.locator)
    assert kept(world, volume, last=10) == [1, 2, 2, 5], "nothing says any more which of the two it was"


def test_what_each_part_of_a_policy_keeps(world: World) -> None:
    volume = world.open()
    commits(world, volume, 40, hours=12)  # from Tuesday, 1 January 2030, 0:00, to 20 January, 12:00
    assert kept(world, volume, last=3) == [38, 39, 40]
    assert kept(world, volume, daily=3) == [36, 38, 40], "the newest of each day"
    assert kept(world, volume, weekly=2) == [26, 40], "weeks begin on Monday"
    assert kept(world, volume, monthly=5) == [40]
    assert kept(world, volume, within=timedelta(hours=25)) == [38, 39, 40]
    assert kept(world, volume, last=1, daily=2, weekly=3) == [12, 26, 38, 40]
    assert kept(world, volume, last=100) == list(range(1, 41))


def test_days_without_versions_do_not_count(world: World) -> None:
    volume = world.open()
    commits(world, volume, 4, days=10)
    assert kept(world, volume, daily=3) == [2, 3, 4]


@pytest.mark.parametrize("policy", [Retention(), Retention(last=-1, daily=3), Retention(within=timedelta(-1))])
def test_a_policy_that_nobody_can_mean_is_refused(world: World, policy: Retention) -> None:
    volume = world.open()
    volume.commit("one")
    with pytest.raises(UsageError) as caught:
        plan_pruning(world.store, world.entry(volume), policy)
    assert caught.value.hint


def test_the_newest_stays_whatever_the_policy_says(world: World) -> None:
    volume = world.open()
    commits(world, volume, 3, days=1)
    world.store.pass_time(days=1000)
    assert kept(world, volume, within=timedelta(hours=1)) == [3]


def test_what_a_tag_names_stays(world: World) -> None:
    volume = world.open()
    made = commits(world, volume, 4, days=1)
    tag(world, made[1])
    plan = world.prune(volume, last=1)
    assert [one.reasons for one in plan.kept] == [("ref tag",), ("ref main", "last")]
    world.check()


def test_a_lost_race_stays_for_a_week_to_be_forked(world: World) -> None:
    """Versions that no ref leads to do not count among the last, either."""
    volume = world.open()
    first = commits(world, volume, 1)[0]
    other = world.fork(first, volume_id=volume.spec.volume_id)
    commits(world, volume, 3, hours=1)
    world.write(other, b"theirs")
    with pytest.raises(RefMovedError):
        other.commit("lost")
    assert kept(world, volume, last=2) == [2, 3, 4], "the lost one is the second 2"
    world.store.pass_time(days=8)
    assert kept(world, volume, last=2) == [3, 4]


def test_what_cannot_be_read_is_kept(world: World) -> None:
    volume = world.open()
    made = commits(world, volume, 3, days=1)
    data = world.store.inner.get(made[0].locator.key)
    assert data is not None
    world.store.inner.delete(made[0].locator.key)
    world.store.inner.create(made[0].locator.key, data[:-1])
    plan = world.prune(volume, last=1)
    assert [one.reasons for one in plan.kept] == [("its record is damaged",), ("ref main", "last")]
    assert world.store.inner.get(made[0].locator.key)


def test_a_volume_without_its_main_ref_is_left_alone(world: World) -> None:
    volume = world.open()
    commits(world, volume, 2)
    world.store.delete(ref_key("test", volume.spec.volume_id))
    with pytest.raises(ConflictError, match="no ref main"):
        world.prune(volume, last=1)
    assert len(world.versions()) == 2


# -- deletion ----------------------------------------------------------------------------------------------------------


def test_only_records_go_and_each_leaves_a_copy(world: World) -> None:
    volume = world.open()
    made = commits(world, volume, 3, days=1)
    before = world.objects("packs/") | world.objects("index/")
    plan = world.prune(volume, last=1)
    assert [record.locator for record in plan.removed] == [record.locator for record in made[:2]]
    assert world.versions() == [made[2].locator]
    assert world.objects("packs/") | world.objects("index/") == before
    for record in made[:2]:
        assert copied(world, record)


def test_a_copy_is_written_anew_by_who_tries_again(world: World) -> None:
    """Its age counts from the last try, and it is never missing."""
    volume = world.open()
    first, _ = commits(world, volume, 2)
    for _ in range(4):
        world.store.pass_time(days=6)
        assert keep_copy(world.store, first.locator)
        assert world.store.times[copy_key(first.locator)] == world.store.now
        assert copied(world, first)
    world.store.delete(first.locator.key)
    assert not keep_copy(world.store, first.locator)
    assert copied(world, first)


@pytest.mark.parametrize("after", [False, True])
def test_stopped_at_any_call_it_leaves_whole_versions_and_can_be_done_again(world: World, after: bool) -> None:
    volume = world.open()
    made = commits(world, volume, 4, days=1)
    tag(world, made[1])
    contents = world.store.contents()
    world.prune(volume, last=1)
    expected = set(world.versions())
    for call in range(1, 100):
        world.store.put_back(contents)
        world.store.stop(call, after=after)
        try:
            world.prune(volume, last=1)
        except StoppedError:
            world.store.restart()
            world.check()
            assert expected <= set(world.versions()) <= {record.locator for record in made}
            world.prune(volume, last=1)
            assert set(world.versions()) == expected
            world.check()
        else:
            world.store.restart()
            assert call > 8
            return
    raise AssertionError("it never ended")


@pytest.mark.parametrize("after", [False, True])
def test_a_tag_given_at_any_call_is_never_left_naming_nothing(world: World, after: bool) -> None:
    """As whoever gives one should: look for the record once more when the ref is there."""
    volume = world.open()
    made = commits(world, volume, 3, days=1)
    contents = world.store.contents()
    refused = 0

    def give() -> None:
        nonlocal refused
        if world.store.inner.get(made[0].locator.key) is None:
            refused += 1
            return
        tag(world, made[0])

    for call in range(1, 100):
        world.store.put_back(contents)
        world.store.interrupt(call, give, after=after)
        start = world.store.calls
        world.prune(volume, last=1)
        if world.store.calls - start < call:
            break
        world.store.restart()
        world.check()
        tagged = world.store.inner.get(ref_key("test", volume.spec.volume_id, "tag")) is not None
        assert (made[0].locator in world.versions()) == tagged
    assert refused < call - 5


def test_a_tag_given_after_the_plan_is_never_left_naming_nothing_by_a_kill(world: World) -> None:
    volume = world.open()
    made = commits(world, volume, 3, days=1)
    plan = plan_pruning(world.store, world.entry(volume), Retention(last=1), now=world.store.now)
    tag(world, made[0])
    contents = world.store.contents()
    for call in range(1, 100):
        world.store.put_back(contents)
        world.store.stop(call)
        with suppress(StoppedError):
            prune(world.store, world.entry(volume), plan)
            break
        world.store.restart()
        world.check()
    world.store.restart()
    assert world.versions() == [made[0].locator, made[2].locator]
    assert call > 8


@pytest.mark.parametrize("after", [False, True])
def test_a_commit_at_any_call(world: World, after: bool) -> None:
    """Also of a workspace whose own commit was stopped between record and ref."""
    volume = world.open()
    made = commits(world, volume, 3, days=1)
    contents = world.store.contents()
    for call in range(1, 100):
        world.store.put_back(contents)
        other = world.fork(made[2], volume_id=volume.spec.volume_id)
        world.write(other, b"b")
        done: list[VersionRecord] = []
        world.store.interrupt(call, lambda other=other, done=done: done.append(other.commit("beside")), after=after)
        world.prune(volume, last=1)
        world.store.restart()
        other.close()
        if not done:
            break
        world.check()
        assert done[0].locator in world.versions()
    assert call > 8


def test_a_commit_that_was_stopped_before_its_ref_for_weeks_goes_on(world: World) -> None:
    """However often the volume is pruned meanwhile: what may become the newest is not older than the newest."""
    volume = world.open()
    commits(world, volume, 3, days=1)

    def weeks() -> None:
        for _ in range(5):
            world.store.pass_time(days=8)
            assert [record.sequence for record in world.prune(volume, last=1).removed] in ([1, 2], [])

    world.write(volume, b"b")
    world.store.interrupt(4, weeks)  # after pack, index object and record
    record = volume.commit("slow")
    assert record.sequence == 4
    world.check()


def test_nor_is_it_deleted_by_name(world: World) -> None:
    """While its commit is stopped before its ref; one that lost a race is."""
    volume = world.open()
    first, _ = commits(world, volume, 2)
    other = world.fork(first, volume_id=volume.spec.volume_id)
    world.write(other, b"theirs")
    with pytest.raises(RefMovedError):
        other.commit("lost")
    (lost,) = {at for at in world.versions() if at.sequence == 2} - {volume.session.base.locator}
    world.write(volume, b"b")
    refused: list[str] = []

    def by_name() -> None:
        for locator in world.versions()[1:]:
            try:
                delete_version(world.store, locator)
            except ConflictError as error:
                assert error.hint
                refused.append(locator.file)

    world.store.interrupt(4, by_name)  # after pack, index object and record
    third = volume.commit("slow")
    assert refused[-1] == third.locator.file
    assert len(refused) == 2
    assert lost not in world.versions()
    world.check()


def test_two_prunings_at_once(world: World) -> None:
    volume = world.open()
    made = commits(world, volume, 4, days=1)
    contents = world.store.contents()
    for call in range(1, 100):
        world.store.put_back(contents)
        start = world.store.calls
        world.store.interrupt(call, lambda: world.prune(volume, last=2))
        world.prune(volume, last=1)
        if world.store.calls - start < call:
            break
        world.store.restart()
        assert world.versions() == [made[3].locator]
        for record in made[:3]:
            assert copied(world, record), "what others may be building on"
    assert call > 8


def test_a_version_that_was_pruned_is_not_found(world: World) -> None:
    volume = world.open()
    first, _ = commits(world, volume, 2)
    plan = plan_pruning(world.store, world.entry(volume), Retention(last=1), now=world.store.now)
    assert prune(world.store, world.entry(volume), plan) == [first.locator]
    assert prune(world.store, world.entry(volume), plan) == [], "somebody did it already"
    assert isinstance(first.locator, Locator)
    with pytest.raises(Exception, match="there is no version"):
        load_record(world.store, first.locator)
