"""Publishing beside collections: no version names what was collected, and a workspace keeps its data."""

from __future__ import annotations

import pytest

from flyteplugins_vol.errors import CommitError, ObjectMissingError
from tests.history.garbage import two_versions
from tests.history.world import World


def test_a_workspace_whose_clock_stood_still_publishes_nothing_that_was_collected(world: World) -> None:
    """As a virtual machine that was frozen: its packs were uploaded weeks ago, and it knows nothing of that."""
    volume = world.open()
    world.write(volume, b"a")
    first = volume.commit("one")
    world.write(volume, b"b")
    assert volume.seal()  # in the store, and in no version
    asleep = world.store.now
    world.collect_all()
    world.lag = (world.store.now - asleep).total_seconds()
    with pytest.raises(CommitError, match="garbage was collected") as caught:
        volume.commit("two")
    assert "commit again" in caught.value.hint
    assert world.versions() == [first.locator], "the record that named it is gone as well"
    world.check()
    with pytest.raises(ObjectMissingError, match="was deleted"):
        volume.commit("two")
    world.check()


def test_nor_what_the_version_that_it_builds_on_took_with_it(world: World) -> None:
    """All that it uploaded is new; what it shares with the version that was pruned is not there any more."""
    volume, first, _ = two_versions(world)
    fork = world.fork(first)
    world.write(fork, b"mine")
    asleep = world.store.now
    world.prune(volume, last=1)
    world.collect_all()
    world.lag = (world.store.now - asleep).total_seconds()
    before = world.versions()
    with pytest.raises(CommitError, match="garbage was collected"):
        fork.commit("by a clock that stood still")
    assert world.versions() == before
    world.check()


def test_what_is_only_marked_is_stored_anew(world: World) -> None:
    volume = world.open()
    world.write(volume, b"a")
    volume.commit("one")
    world.write(volume, b"b")
    assert volume.seal()
    asleep = world.store.now
    world.store.pass_time(days=8)
    world.collect()
    world.lag = (world.store.now - asleep).total_seconds()
    with pytest.raises(CommitError, match="is about to take"):
        volume.commit("two")
    record, tree = volume.commit("two"), volume.tree()
    world.lag = 0
    world.collect_all()
    world.check()
    world.check_tree(record, tree)


@pytest.mark.parametrize("days", [1, 5, 10])
def test_a_fork_whose_parent_was_pruned_publishes_what_others_need_or_what_is_still_there(
    world: World, days: int
) -> None:
    volume, first, _ = two_versions(world)
    fork = world.fork(first)
    world.write(fork, b"mine")
    world.prune(volume, last=1)
    world.store.pass_time(days=days)
    world.collect()
    record, tree = fork.commit("late"), fork.tree()
    assert record.parents == (str(first.locator),)
    world.collect_all()
    world.check()
    world.check_tree(record, tree)


def test_a_fork_whose_parent_was_collected_says_so_and_keeps_its_data(world: World) -> None:
    volume, first, _ = two_versions(world)
    fork = world.fork(first)
    data = world.write(fork, b"mine")
    world.prune(volume, last=1)
    world.collect_all()
    for _ in range(2):
        with pytest.raises(ObjectMissingError) as caught:
            fork.commit("too late")
        assert "copy the files" in caught.value.hint
    assert fork.content(b"mine") == data
    world.check()
    fork.workspace.unlink(1, b"a")  # what is gone; the rest can be published
    record = fork.commit("what is left")
    world.collect_all()
    world.check_tree(record, fork.tree())


@pytest.mark.parametrize("weeks", [1, 5])
@pytest.mark.logs_warnings
def test_a_workspace_is_resumed_though_the_version_that_it_builds_on_was_pruned(world: World, weeks: int) -> None:
    volume, first, _ = two_versions(world)
    keeper = world.fork(first)
    keeper.commit("keeps what is in it")
    fork = world.fork(first)
    world.write(fork, b"mine")
    fork.workspace.begin_sync()
    tree = fork.tree()
    fork.close(keep=True)
    world.prune(volume, last=1)
    for _ in range(weeks):
        world.store.pass_time(days=8 if weeks > 1 else 5)
        world.collect()
    fork.open(cache_dir=str(world.root / "elsewhere"))
    assert fork.tree() == tree
    record = fork.commit("resumed")
    world.collect_all()
    world.check()
    world.check_tree(record, tree)
