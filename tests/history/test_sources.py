"""Blocks taken over from other versions: after a kill, and beside prunings and collections."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from flyteplugins_vol.errors import CommitError, ObjectMissingError, OtherStoreError, VersionNotFoundError
from flyteplugins_vol.history.record import VersionRecord, parse_locator
from flyteplugins_vol.history.sources import sources
from flyteplugins_vol.index.index import Index
from flyteplugins_vol.store.memory import MemoryStore
from tests.driven import Driven
from tests.history.garbage import two_versions
from tests.history.world import World

# -- a kill ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def driven(tmp_path: Path) -> Any:
    volume = Driven.new(tmp_path, MemoryStore("memory://kills"))
    yield volume
    volume.close()


@pytest.mark.parametrize("synced", [False, True])
def test_a_kill_leaves_what_was_there_or_what_came(driven: Driven, synced: bool) -> None:
    driven.create(b"a", b"old" * 1000)
    first = driven.commit("one")
    driven.workspace.unlink(1, b"a")
    driven.create(b"a", b"new" * 1000)
    driven.commit("two")
    driven.create(b"taken", b"to be replaced")
    driven.workspace.begin_sync()
    World.take(driven, first.locator, b"a")
    if synced:
        driven.workspace.begin_sync()
    driven.kill()
    assert driven.content(b"taken") == (b"old" * 1000 if synced else b"to be replaced")
    driven.check()
    driven.check(driven.commit("three"))


@pytest.mark.logs_warnings
def test_half_of_it_is_not_committed_where_the_local_disk_fails_in_the_middle(driven: Driven) -> None:
    driven.create(b"a", b"old" * 1000)
    first = driven.commit("one")
    driven.create(b"taken", b"to be replaced")
    driven.workspace.begin_sync()

    def deny(action: int, table: str | None, *_: str | None) -> int:
        """As a disk that cannot be written any more, from the moment at which a name is to be taken away."""
        return sqlite3.SQLITE_DENY if action == sqlite3.SQLITE_DELETE and table == "entry" else sqlite3.SQLITE_OK

    driven.workspace.index.db.sql.set_authorizer(deny)
    with pytest.raises(OSError, match="cannot be written"):
        World.take(driven, first.locator, b"a")
    driven.workspace.index.db.sql.set_authorizer(None)
    with pytest.raises(OSError, match="cannot be written"):
        driven.create(b"more")
    with pytest.raises(OSError, match="cannot be written"):
        driven.commit("half of it")
    driven.kill()
    assert driven.content(b"taken") == b"to be replaced"
    driven.check(driven.commit("two"))


def test_no_commit_comes_between_the_look_and_the_rows(driven: Driven) -> None:
    """It would count as a later look at what the other version names."""
    driven.create(b"a", b"a")
    first = driven.commit("one")
    commits: Any = driven.session._committer
    with sources(driven.session, driven.spec.cache_dir, [first.locator]):
        assert not commits._lock.acquire(blocking=False)
    assert commits._lock.acquire(blocking=False)
    commits._lock.release()


def test_of_another_store(driven: Driven) -> None:
    driven.create(b"a", b"a")
    first = driven.commit("one")
    elsewhere = parse_locator(str(first.locator).replace("kills", "elsewhere"))
    with pytest.raises(OtherStoreError), sources(driven.session, driven.spec.cache_dir, [elsewhere]):
        pass


def test_more_versions_than_the_cache_keeps_indexes_of(driven: Driven) -> None:
    made = []
    for number in range(12):
        driven.create(b"%d" % number, b"%d" % number)
        made.append(driven.commit(f"{number}").locator)
    with sources(driven.session, driven.spec.cache_dir, made) as found:
        for number, source in enumerate(found):
            index = Index.open(source.path, read_only=True)
            assert index.files == number + 2
            index.close()
    assert not [path for path in Path(driven.spec.cache_dir, "index").iterdir() if path.name.startswith("new-")]


# -- prunings and collections ----------------------------------------------------------------------------------------


def taker(world: World) -> tuple[Driven, Driven, VersionRecord]:
    """A workspace that has taken ``a`` over from the first version of a volume, which only that one has."""
    volume, first, _ = two_versions(world)
    mine = world.open()
    world.write(mine, b"mine")
    mine.commit("mine")
    world.take(mine, first.locator, b"a")
    return mine, volume, first


@pytest.mark.parametrize("days", [0, 2, 5, 10, 30])
def test_what_was_taken_over_is_whole_whenever_it_is_committed(world: World, days: int) -> None:
    """Its version is pruned at once, and collections run; or it is said that it is gone, after more than a week."""
    mine, volume, _ = taker(world)
    tree = mine.tree()
    world.prune(volume, last=1)
    for _ in range(days):
        world.store.pass_time(days=1)
        world.collect()
    if days > 14:
        with pytest.raises(ObjectMissingError):
            mine.commit("late")
    else:
        record = mine.commit("with what was taken")
        world.collect_all()
        world.check_tree(record, tree)
    world.check()


def test_it_is_stored_anew_by_whom_it_was_not_committed_for_days(world: World) -> None:
    mine, volume, _ = taker(world)
    world.prune(volume, last=1)
    world.store.pass_time(days=5)
    before = world.objects("packs/")
    record, tree = mine.commit("late"), mine.tree()
    assert len(world.objects("packs/") - before) == 1
    world.collect_all()
    world.check_tree(record, tree)


def test_by_a_clock_that_stood_still_nothing_is_published_that_was_collected(world: World) -> None:
    mine, volume, _ = taker(world)
    before = world.versions()
    asleep = world.store.now
    world.prune(volume, last=1)
    world.collect_all()
    world.lag = (world.store.now - asleep).total_seconds()
    with pytest.raises(CommitError, match="garbage was collected"):
        mine.commit("by a clock that stood still")
    assert set(world.versions()) < set(before)
    world.check()


def test_a_resumed_workspace_knows_it_still(world: World) -> None:
    mine, volume, _ = taker(world)
    tree = mine.tree()
    mine.close(keep=True)
    world.prune(volume, last=1)
    world.store.pass_time(days=5)
    mine.open()
    record = mine.commit("resumed")
    world.collect_all()
    world.check_tree(record, tree)


def test_a_version_that_is_about_to_be_withdrawn(world: World) -> None:
    """Its writer, whose clock stood still, has created the record and not yet found out that its packs are gone.

    This workspace has looked at the marks since they went, and nobody collects any more: it looks all the same.
    """
    volume, first, _ = two_versions(world)
    mine = world.open()
    record = world.store.inner.get(first.locator.key)
    assert record is not None
    world.prune(volume, last=1)
    world.collect_all()
    world.write(mine, b"mine")
    mine.commit("mine")
    world.store.inner.create(first.locator.key, bytes(record))
    world.take(mine, first.locator, b"a")
    world.store.inner.delete(first.locator.key)
    with pytest.raises(CommitError, match="garbage was collected"):
        mine.commit("with what was taken")
    world.check()


def test_a_version_that_was_pruned(world: World) -> None:
    volume, first, _ = two_versions(world)
    mine = world.open()
    world.prune(volume, last=1)
    with pytest.raises(VersionNotFoundError):
        world.take(mine, first.locator, b"a")
