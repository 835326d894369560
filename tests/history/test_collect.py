"""Collecting garbage: what goes, what stays, and that a store that cannot be read whole loses nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from itertools import cycle
from pathlib import Path

import pytest

from flyteplugins_vol.config import StoreOptions
from flyteplugins_vol.errors import (
    CommitError,
    ConflictError,
    DamageError,
    EncryptionKeyError,
    IndexDamagedError,
    NewerFormatError,
    ObjectMissingError,
    RecordDamagedError,
    StoreUnavailableError,
    UsageError,
    VolumeError,
)
from flyteplugins_vol.history import collect as collect_module
from flyteplugins_vol.history.collect import ABANDONED, WEEK, Tally, collect
from flyteplugins_vol.history.copies import copy_key
from flyteplugins_vol.history.marks import KEY, create_list, read_marked, read_marks, write_marks
from flyteplugins_vol.history.record import VersionRecord
from flyteplugins_vol.store.base import ObjectInfo
from flyteplugins_vol.store.container import INDEX, object_key
from flyteplugins_vol.store.faulty import StoppedError
from flyteplugins_vol.store.open import open_store
from flyteplugins_vol.store.wrapper import Wrapper
from tests.driven import Driven
from tests.history.world import World

NOTHING = Tally()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World(tmp_path, monkeypatch)
    yield world
    world.close()


def two_versions(world: World) -> tuple[Driven, VersionRecord, VersionRecord]:
    """The second needs nothing of the first one's packs."""
    volume = world.open()
    world.write(volume, b"a")
    first = volume.commit("one")
    world.write(volume, b"a")
    return volume, first, volume.commit("two")


def garbage(world: World) -> tuple[Driven, VersionRecord, set[str]]:
    """A volume with one version left, and what only the other one, pruned more than a week ago, needed."""
    volume, _, second = two_versions(world)
    before = world.objects("packs/")
    world.prune(volume, last=1)
    world.store.pass_time(days=8)
    live = {f"packs/{name[:2]}/{name}" for name, _ in volume.workspace.index.blocks.packs()}
    return volume, second, before - live


# -- the life of garbage -----------------------------------------------------------------------------------------------


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


# -- what cannot be read is not deleted from ---------------------------------------------------------------------------


def newer(data: bytes) -> bytes:
    return data.replace(b'"format_version":1', b'"format_version":2')


def harmed(
    world: World, record: VersionRecord, change: Callable[[bytes], bytes | None], key: str | None = None
) -> None:
    key = key or record.locator.key
    data = world.store.inner.get(key)
    assert data is not None
    world.store.inner.delete(key)
    if (other := change(data)) is not None:
        world.store.inner.create(key, other)


def refused(world: World, error: type[VolumeError], match: str = "nothing was deleted") -> None:
    """Neither by a collection that would delete, nor by the next ones."""
    for _ in range(3):
        before = world.objects("packs/") | world.objects("index/")
        with pytest.raises(error, match=match) as caught:
            world.collect()
        assert caught.value.hint
        assert world.objects("packs/") | world.objects("index/") == before
        world.store.pass_time(days=8)


def ripe(world: World) -> VersionRecord:
    """Garbage that the next collection deletes."""
    _, record, dead = garbage(world)
    world.collect()
    world.store.pass_time(days=8)
    assert dead <= read_marked(world.store)[1]
    assert world.collect(dry_run=True).deleted.objects >= 1
    return record


def test_a_record_of_a_newer_release(world: World) -> None:
    record = ripe(world)
    data = newer(record.encode())
    from blake3 import blake3

    file = f"{record.sequence + 1:08d}-{blake3(data).hexdigest()[:40]}.json"
    world.store.create(f"volumes/test-{record.volume_id}/versions/{file}", data)
    refused(world, NewerFormatError)


def test_a_record_that_was_altered(world: World) -> None:
    harmed(world, ripe(world), lambda data: data[:-1] + b" ")
    refused(world, RecordDamagedError)


def test_a_record_that_names_an_index_object_that_is_gone(world: World) -> None:
    record = ripe(world)
    harmed(world, record, lambda _: None, object_key(INDEX, record.index.objects[-1].name))
    refused(world, ObjectMissingError)


def test_an_index_object_that_is_damaged(world: World) -> None:
    record = ripe(world)
    key = object_key(INDEX, record.index.objects[-1].name)
    harmed(world, record, lambda data: data[:100] + bytes([data[100] ^ 1]) + data[101:], key)
    refused(world, IndexDamagedError)


def test_the_copy_of_a_deleted_record_that_was_altered_until_it_is_old(world: World) -> None:
    volume, _, dead = garbage(world)
    world.write(volume, b"a")
    third = volume.commit("three")
    world.collect()
    world.store.pass_time(days=8)
    second = world.versions()[0]
    world.prune(volume, last=1)
    harmed(world, third, lambda data: data[:50], copy_key(second))
    world.store.times[copy_key(second)] = world.store.now
    with pytest.raises(RecordDamagedError, match="nothing was deleted"):
        world.collect()
    world.store.pass_time(days=8)
    world.collect()
    assert not dead & world.objects("packs/")
    world.check()


@pytest.mark.parametrize(
    "key",
    [
        "store.json", "volumes/test-{id}/writers/x.json", "volumes/test-{id}/volume.json",
        "volumes/test-{id}/versions/3-x.json", "volumes/elsewhere/versions/x.json",
    ],
)  # fmt: skip
def test_a_key_that_this_release_does_not_know(world: World, key: str) -> None:
    record = ripe(world)
    world.store.create(key.format(id=record.volume_id), b"{}")
    refused(world, NewerFormatError)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"{", RecordDamagedError),
        (b'{"format":"flytevol/marks","format_version":1,"requires":[],"run":"a","lists":[1]}', RecordDamagedError),
        (b'{"format":"flytevol/marks","format_version":1,"requires":[],"run":"a"}', RecordDamagedError),
        (b'{"format":"flytevol/marks","format_version":2,"requires":[],"run":"a","lists":[]}', NewerFormatError),
        (b'{"format":"flytevol/marks","format_version":1,"requires":["x"],"run":"a","lists":[]}', NewerFormatError),
    ],
)
def test_marks_that_are_none_or_newer(world: World, data: bytes, error: type[VolumeError]) -> None:
    record = ripe(world)
    harmed(world, record, lambda _: data, KEY)
    refused(world, error)


def test_a_ref_that_is_damaged(world: World) -> None:
    record = ripe(world)
    harmed(world, record, lambda _: b"{}", f"volumes/test-{record.volume_id}/refs/main.json")
    refused(world, RecordDamagedError)


class Cut(Wrapper):
    """Listings of volumes leave something out: so many of them, after some, or all."""

    leave_out = ""
    skip = 0
    times = -1

    def list(self, prefix: str, after: str = "") -> Iterator[ObjectInfo]:
        out = ""
        if prefix == "volumes/" and self.skip:
            self.skip -= 1
        elif prefix == "volumes/" and self.times:
            self.times -= 1
            out = self.leave_out
        return (info for info in super().list(prefix, after) if not out or out not in info.key)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_listing_that_leaves_out_what_a_ref_or_a_later_version_names(world: World, which: int) -> None:
    """A version of another volume that nothing names cannot be missed so; two listings a week apart must miss it."""
    volume, first, second = two_versions(world)
    world.write(volume, b"b")
    third = volume.commit("three")
    store = Cut(world.store)
    for _ in range(3):
        Cut.leave_out = ""
        world.store.pass_time(days=8)
        store.leave_out = (first, second, third)[which].locator.file
        with pytest.raises(StoreUnavailableError, match="leave out"):
            collect(store, abandoned=WEEK, scratch=str(world.root), clock=world.store.now.timestamp)
    world.check()


def test_a_second_look_finds_what_the_first_did_not(world: World) -> None:
    """A listing leaves out a whole volume, with its ref, and so does that of the week before."""
    volume = world.open()
    world.write(volume, b"a")
    volume.commit("one")
    store = Cut(world.store)
    store.leave_out = volume.spec.volume_id
    for times, versions, marked in ((2, 0, 2), (2, 1, 0)):  # the second one looks again before it deletes
        world.store.pass_time(days=8)
        store.times = times
        found = collect(store, abandoned=WEEK, scratch=str(world.root), clock=world.store.now.timestamp)
        assert (found.versions, found.marked.objects, found.deleted.objects) == (versions, marked, 0)
    world.check()


def test_a_second_look_that_misses_what_the_first_saw(world: World) -> None:
    record = ripe(world)
    store = Cut(world.store)
    store.leave_out, store.skip = record.locator.file, 2
    before = world.objects("packs/")
    with pytest.raises(StoreUnavailableError, match="nothing was deleted"):
        collect(store, abandoned=WEEK, scratch=str(world.root), clock=world.store.now.timestamp)
    assert world.objects("packs/") == before


def test_a_store_that_is_encrypted_and_a_secret_that_is_missing(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/store"
    options = StoreOptions(encryption="a secret of some length")
    with open_store(url, options) as store:
        volume = Driven.new(tmp_path, store)
        volume.create(b"a", b"x" * 5000)
        volume.commit()
        volume.close()
        assert collect(store, scratch=str(tmp_path)).versions == 1
    with open_store(url) as store, pytest.raises(EncryptionKeyError):
        collect(store, scratch=str(tmp_path))
    with (
        open_store(url, StoreOptions(encryption="another one of that kind")) as store,
        pytest.raises(EncryptionKeyError),
    ):
        collect(store, scratch=str(tmp_path), dry_run=True)


def test_a_record_that_vanishes_without_a_copy(world: World) -> None:
    record = ripe(world)
    start = world.store.calls
    world.collect(dry_run=True)
    contents = world.store.contents()
    for call in range(1, world.store.calls - start):
        world.store.put_back(contents)
        world.store.interrupt(call, lambda: world.store.inner.delete(record.locator.key))
        before = world.objects("packs/")
        try:
            found = world.collect()
        except (StoreUnavailableError, DamageError):
            assert world.objects("packs/") == before
        else:
            assert found.versions == 0 or record.locator not in world.versions()
        world.store.restart()


# -- several at once ---------------------------------------------------------------------------------------------------


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


# -- publishers beside it ----------------------------------------------------------------------------------------------


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
