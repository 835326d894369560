"""Collecting garbage: what goes, what stays, and how long it waits."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from itertools import cycle

import pytest

from flyteplugins_vol.errors import UsageError
from flyteplugins_vol.history import collect as collect_module
from flyteplugins_vol.history.collect import ABANDONED
from flyteplugins_vol.history.marks import KEY, create_list, read_marked, read_marks, write_marks
from flyteplugins_vol.store.container import INDEX, object_key
from flyteplugins_vol.store.faulty import StoppedError
from tests.history.garbage import NOTHING, garbage, two_versions
from tests.history.world import World


def test_what_was_pruned_goes_after_a_week_and_the_grace_time(world: World) -> None:
    volume, _, second = two_versions(world)
    tree = volume.tree()
    assert len(world.objects("packs/")) == 2
    world.prune(volume, last=1)
    found = world.collect()
    assert (found.versions, found.kept_deleted) == (1, 1)
    assert (found.deleted, found.marked, found.recent) == (NOTHING, NOTHING, NOTHING), "its copy still counts"
    world.store.pass_time(days=7, hours=1)
    found = world.collect()
    assert found.deleted == NOTHING
    assert found.marked.objects >= 1
    assert found.next == world.store.now + timedelta(days=7)
    assert not world.objects(f"volumes/test-{volume.spec.volume_id}/deleted/"), "of no use any more"
    world.store.pass_time(days=6)
    again = world.collect()
    assert (again.deleted, again.marked, again.next) == (NOTHING, found.marked, found.next)
    world.store.pass_time(days=1, minutes=1)
    last = world.collect()
    assert (last.deleted, last.marked) == (found.marked, NOTHING)
    assert len(world.objects("packs/")) == 1
    world.check()
    world.check_tree(second, tree)


def test_a_dry_run_writes_nothing_and_says_what_would_happen(world: World) -> None:
    garbage(world)
    contents = world.store.contents()
    planned = world.collect(dry_run=True)
    assert world.store.contents() == contents
    assert planned.dry_run
    done = world.collect()
    assert (planned.deleted, planned.marked) == (done.deleted, done.marked)
    world.store.pass_time(days=8)
    contents = world.store.contents()
    planned = world.collect(dry_run=True)
    assert world.store.contents() == contents
    assert (planned.deleted, planned.marked) == (done.marked, NOTHING)
    assert world.collect().deleted == planned.deleted


def test_an_empty_store(world: World) -> None:
    assert world.collect(dry_run=True).objects == NOTHING
    assert world.collect().objects == NOTHING


def test_uploads_without_a_version_are_left_alone_for_a_week(world: World) -> None:
    volume = world.open()
    world.write(volume, b"a")
    assert volume.seal()
    world.store.pass_time(days=6, hours=23)
    found = world.collect()
    assert (found.recent.objects, found.marked) == (1, NOTHING)
    world.store.pass_time(hours=2)
    assert world.collect().marked.objects == 1


def test_what_no_version_has_named_stays_for_three_months(world: World) -> None:
    """It may be all that is left of what a killed workspace wrote."""
    volume = world.open()
    world.write(volume, b"a")
    volume.commit("one")
    world.write(volume, b"b")
    assert volume.seal()
    volume.workspace.begin_sync()
    tree = volume.tree()
    volume.close(keep=True)
    for _ in range(9):
        world.store.pass_time(days=9)
        found = world.collect(abandoned=ABANDONED)
        assert (found.deleted, found.marked, found.recent.objects) == (NOTHING, NOTHING, 1)
    volume.open(cache_dir=str(world.root / "elsewhere"))
    record = volume.commit("after 81 days")
    world.check_tree(record, tree)
    for _ in range(12):
        world.store.pass_time(days=9)
        world.collect(abandoned=ABANDONED)
    assert len(world.objects("packs/")) == 2, "the one that was stored anew took its place"
    world.check()


@pytest.mark.parametrize("every", [1, 5, 20])
def test_what_a_version_has_named_does_not_wait_so_long(world: World, every: int) -> None:
    """However often collections run, and wherever one of them is killed."""
    volume, _, second = two_versions(world)
    tree = volume.tree()
    world.prune(volume, last=1)
    kills = cycle(range(3, 60))
    for _ in range(0, 60, every):
        world.store.stop(next(kills))
        with suppress(StoppedError):
            world.collect(abandoned=ABANDONED)
        world.store.restart()
        world.collect(abandoned=ABANDONED)
        world.store.pass_time(days=every)
    world.collect(abandoned=ABANDONED)  # what was deleted last is in a list for another day
    assert len(world.objects("packs/")) == 1
    assert world.objects("gc/") == {KEY}
    assert not world.objects(f"volumes/test-{volume.spec.volume_id}/deleted/")
    world.check_tree(second, tree)


def test_nor_where_there_was_no_need_for_another_list(world: World) -> None:
    """Copies stay until what they named is in a list: two prunings and two collections within a day."""
    one, two = two_versions(world)[0], two_versions(world)[0]
    world.prune(one, last=1)
    world.store.pass_time(hours=12)
    world.prune(two, last=1)
    world.store.pass_time(days=6, hours=13)
    for hours in (12, 12, 24, 8 * 24, 0):
        world.collect(abandoned=ABANDONED)
        world.store.pass_time(hours=hours)
    assert len(world.objects("packs/")) == 2
    assert not [key for key in world.objects("volumes/") if "/deleted/" in key]


def test_what_a_fork_needs_outlives_the_volume(world: World) -> None:
    volume, first, _ = two_versions(world)
    fork = world.fork(first)
    tree = fork.tree()
    record = fork.commit("fork")
    world.prune(volume, last=1)
    world.collect_all()
    world.check()
    world.check_tree(record, tree)


def test_all_that_was_pruned_is_freed_and_nothing_else(world: World) -> None:
    """A random history of files that come, go and are shared, pruned to its last version."""
    volume = world.open()
    for number in range(12):
        for name in range(number % 4 + 1):
            world.write(volume, b"%d" % ((number + name) % 6), 3000 + 100 * number)
        record = volume.commit(f"{number}")
    tree = volume.tree()
    world.prune(volume, last=1)
    world.collect_all()
    wanted = {f"packs/{name[:2]}/{name}" for name, _ in volume.workspace.index.blocks.packs()}
    assert world.objects("packs/") == wanted
    assert world.objects("index/") == {object_key(INDEX, item.name) for item in record.index.objects}
    assert world.objects("gc/") == {KEY}
    world.check_tree(record, tree)


def test_objects_that_are_none_of_ours_stay(world: World) -> None:
    garbage(world)
    world.store.create("packs/readme.txt", b"hello")
    world.store.create("packs/aa/" + "b" * 64, b"under another directory than its own")
    world.store.create("index/other/thing", b"x")
    before = {"packs/readme.txt", "packs/aa/" + "b" * 64, "index/other/thing"}
    world.collect_all()
    assert before <= world.objects("packs/") | world.objects("index/")


@pytest.mark.parametrize("grace", [timedelta(), timedelta(hours=23), timedelta(-1)])
def test_a_grace_time_under_a_day_is_refused(world: World, grace: timedelta) -> None:
    with pytest.raises(UsageError) as caught:
        world.collect(grace=grace)
    assert caught.value.hint
    assert not world.objects("gc/")


def test_an_object_must_be_in_every_mark_since_the_first(world: World) -> None:
    """What one listing left out is not believed until the next ones do."""
    _, _, dead = garbage(world)
    (key,) = dead
    live = sorted(world.objects("packs/") - dead)
    name = create_list(world.store, [*live, key])  # a listing of records that was empty, say
    assert write_marks(world.store, [name], read_marks(world.store))
    world.store.pass_time(days=8)
    found = world.collect()
    assert found.deleted.objects == 1
    assert world.objects("packs/") == set(live)
    world.check()


def test_what_came_to_life_between_two_marks_begins_anew(world: World) -> None:
    _, _, packs = garbage(world)
    world.collect()
    every = read_marked(world.store)[1]
    assert packs < every
    world.store.pass_time(days=6)
    marks = read_marks(world.store)
    assert marks is not None
    assert write_marks(world.store, [*marks.lists, create_list(world.store, packs)], marks)  # the rest was named then
    world.store.pass_time(days=2)
    before = world.objects("index/")
    assert world.collect().deleted.objects == len(packs)
    assert world.objects("index/") == before
    world.store.pass_time(days=8)
    world.collect()
    world.store.pass_time(days=8)
    world.collect()
    assert len(world.objects("index/")) == len(before) - len(every - packs)


def test_collections_every_few_hours_keep_few_lists(world: World) -> None:
    volume = world.open()
    most = 0
    for hour in range(0, 24 * 6, 3):
        if hour % 12 == 0:
            world.write(volume, b"a", 100)
            volume.commit(f"{hour}")
            world.prune(volume, last=1)
        world.collect(grace=timedelta(days=1))
        most = max(most, len(world.objects("gc/")))
        world.store.pass_time(hours=3)
    assert most <= 15
    assert len(world.objects("packs/")) < 25


def test_more_garbage_than_a_list_has_room_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect_module, "MOST", 3)
    volume = world.open()
    for number in range(5):
        world.write(volume, b"a")
        volume.commit(f"{number}")
    world.prune(volume, last=1)
    world.store.pass_time(days=8)
    counts: list[int] = []
    for _ in range(5):
        counts.append(world.collect().deleted.objects)
        world.store.pass_time(days=8)
    assert max(counts) == 3
    assert sum(counts) >= 4
    assert world.collect().marked == NOTHING
    world.check()


def test_marks_of_the_first_format_stay_readable(world: World) -> None:
    """Byte for byte as docs/FORMAT.md has them, with a field that somebody adds later."""
    marks = (
        '{"format":"flytevol/marks","format_version":1,"requires":[],"run":"x","lists":["0123456789abcdef"],"new":0}'
    )
    marked = (
        f'{{"format":"flytevol/marked","format_version":1,"requires":[],"packs":["{"a" * 64}"],"index":["{"b" * 64}"]}}'
    )
    world.store.create("gc/marks.json", marks.encode())
    world.store.create("gc/lists/0123456789abcdef.json", marked.encode())
    found, keys = read_marked(world.store)
    assert found is not None
    assert (found.run, found.lists) == ("x", ("0123456789abcdef",))
    assert keys == {f"packs/aa/{'a' * 64}", f"index/bb/{'b' * 64}"}
    world.store.pass_time(days=8)
    assert world.collect().deleted.objects == 0
    assert world.objects("gc/") == {KEY}, "a list of what is not there any more is done with"
