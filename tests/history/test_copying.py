"""Copies in another store: the same bytes, only what is missing, and never over what somebody did there."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest

from flyteplugins_vol.errors import (
    DivergedError,
    TagExistsError,
    UsageError,
    VersionNotFoundError,
    VolumeBusyError,
    VolumeExistsError,
)
from flyteplugins_vol.history.copying import copy_version
from flyteplugins_vol.history.deletion import delete_version
from flyteplugins_vol.history.lease import Lease
from flyteplugins_vol.history.processes import Process
from flyteplugins_vol.history.record import VersionRecord
from flyteplugins_vol.history.refs import read_ref, ref_key
from flyteplugins_vol.history.tags import list_tags, set_tag
from flyteplugins_vol.history.volumes import head, list_versions
from flyteplugins_vol.store.faulty import Faulty
from flyteplugins_vol.store.memory import MemoryStore
from tests.driven import Driven
from tests.history.copies import Origin, bytes_of, data
from tests.history.world import World

# -- what is copied ----------------------------------------------------------------------------------------------------


def test_a_copy_is_the_same_version_byte_for_byte(world: World, origin: Origin) -> None:
    record = origin.commit("one", files=3)
    done = origin.copy(record)
    assert done.record.locator == replace(record.locator, store_url=world.store.url)
    assert done.record.encode() == record.encode()
    assert (done.versions, done.moved, done.tags) == (1, True, ())
    wanted = origin.objects("packs/") | origin.objects("index/") | {record.locator.key}
    assert bytes_of(world.store, wanted) == bytes_of(origin.store.inner, wanted)
    assert set(data(world)) == wanted | {ref_key("test", origin.entry.id)}, "and nothing else"
    assert done.copied.objects == len(wanted) - 1
    assert done.copied.bytes == sum(len(data(world)[key]) for key in wanted - {record.locator.key})
    assert done.skipped.objects == 0
    assert world.verify(done.record.locator, deep=True).ok
    world.check_tree(done.record, origin.volume.tree())


def test_a_later_copy_sends_what_is_new_and_goes_on_to_it(world: World, origin: Origin) -> None:
    first = origin.commit("one", files=3)
    origin.copy(first)
    before = set(data(world))
    second = origin.commit("two")
    origin.store.log.clear()
    done = origin.copy(second)
    new = {key for key in set(data(world)) - before if not key.startswith("volumes/")}
    assert (done.copied.objects, done.moved, done.versions) == (len(new), True, 1) == (2, True, 1)
    assert done.skipped.objects == 1, "the pack of what did not change; all of so small an index did"
    assert [key for verb, key in origin.store.log if key.startswith("packs/")] == [
        key for key in new if key.startswith("packs/")
    ]
    assert origin.newest() == second.locator.file
    world.check_tree(done.record, origin.volume.tree())
    world.check()


def test_again_it_writes_nothing(world: World, origin: Origin) -> None:
    record = origin.commit("one", files=3)
    for _ in range(2):
        set_tag(origin.store, record.locator, "v1")
        origin.copy(record, history=True)
    before = world.store.contents()
    done = origin.copy(record, history=True)
    assert world.store.contents() == before
    assert (done.copied.objects, done.versions, done.moved, done.tags) == (0, 0, False, ("v1",))
    assert done.skipped.objects == len(origin.objects("packs/") | origin.objects("index/"))


def test_history_brings_all_that_is_not_newer_with_its_tags(world: World, origin: Origin) -> None:
    made = [origin.commit(f"{number}") for number in range(5)]
    lost = replace(made[2], message="lost a race", writer="another")
    assert origin.store.create(lost.locator.key, lost.encode())
    for record, name in ((made[1], "v1"), (made[3], "v3"), (lost, "lost"), (made[4], "newest")):
        set_tag(origin.store, record.locator, name)
    done = origin.copy(made[3], history=True)
    assert {at.file for at in list_versions(world.store, origin.entry)} == {
        record.locator.file for record in [*made[:4], lost]
    }
    assert done.tags == ("lost", "v1", "v3")
    assert {name: at.file for name, at in list_tags(world.store, origin.entry).items()} == {
        "lost": lost.locator.file, "v1": made[1].locator.file, "v3": made[3].locator.file,
    }  # fmt: skip
    assert (done.versions, done.moved, origin.newest()) == (5, True, made[3].locator.file)
    world.check()
    target = Faulty(world.store)
    done = origin.copy(made[4], target, history=True)
    assert (done.versions, done.copied.objects, origin.newest()) == (1, 2, made[4].locator.file)
    assert len([verb for verb, _ in target.log if verb == "create"]) == 3, "what is new, and no record twice"
    assert done.tags == ("lost", "newest", "v1", "v3")
    world.check()


def test_a_tag_that_names_another_version_there_is_left(world: World, origin: Origin) -> None:
    first, second = origin.commit("one"), origin.commit("two")
    set_tag(origin.store, first.locator, "stable")
    origin.copy(first, history=True)
    set_tag(origin.store, second.locator, "stable", force=True)
    before = data(world)
    with pytest.raises(TagExistsError) as caught:
        origin.copy(second, history=True)
    assert "--force" in caught.value.hint
    assert data(world) == before, "known before anything is sent"
    assert origin.copy(second).moved, "without history no tag is touched"
    origin.copy(second, history=True, force=True)
    assert list_tags(world.store, origin.entry)["stable"].file == second.locator.file
    world.check()


def test_an_older_version_comes_beside_the_newest(world: World, origin: Origin) -> None:
    first, second, third = (origin.commit(f"{number}") for number in range(3))
    origin.copy(third)
    for older in (first, second):
        done = origin.copy(older)
        assert (done.moved, done.versions) == (False, 1)
        assert origin.newest() == third.locator.file
    world.store.pass_time(days=30)
    assert [one.reasons for one in world.prune(world_volume(origin), last=3).kept] == [
        ("last",), ("last",), ("ref main", "last"),
    ]  # fmt: skip
    world.check()


def world_volume(origin: Origin) -> Driven:
    """What `World.prune` asks for a volume: its spec, as the source has it, is that of the copy as well."""
    return origin.volume


def test_a_copy_of_a_copy_and_the_way_back(world: World, origin: Origin) -> None:
    first = origin.commit("one")
    there = origin.copy(first).record
    writer = origin.writer()
    world.write(writer, b"there")
    second = writer.commit("there")
    third = Faulty(MemoryStore(f"memory://{uuid4().hex}"))
    copy_version(world.store, third, there.locator, history=True, scratch=str(world.root))
    done = copy_version(world.store, third, second.locator, scratch=str(world.root))
    assert (done.moved, done.record.parents) == (True, (str(replace(first.locator, store_url=third.url)),))
    origin.volume.close()
    back = copy_version(world.store, origin.store, second.locator, scratch=str(world.root))
    assert (back.moved, back.versions) == (True, 1)
    assert head(origin.store, replace(origin.entry, store_url=origin.store.url)) == back.record.locator
    assert back.record.encode() == second.encode()


# -- where it must not go ----------------------------------------------------------------------------------------------


def test_not_into_the_same_store(origin: Origin) -> None:
    record = origin.commit("one")
    with pytest.raises(UsageError, match="is the store") as caught:
        origin.copy(record, origin.store)
    assert "flytevol fork" in caught.value.hint


def test_where_both_went_on_nothing_changes(world: World, origin: Origin) -> None:
    first = origin.commit("one")
    origin.copy(first)
    writer = origin.writer()
    world.write(writer, b"there")
    theirs = writer.commit("there")
    second, third = origin.commit("here"), origin.commit("here again")
    before = data(world)
    for record in (second, third):
        with pytest.raises(DivergedError, match="gone on by itself") as caught:
            origin.copy(record, history=True)
        assert "--name" in caught.value.hint
    assert data(world) == before
    assert origin.copy(first).moved is False, "what both have may be copied"
    assert origin.newest() == theirs.locator.file


def test_a_version_that_lost_a_race_is_not_put_beside_another_line(world: World, origin: Origin) -> None:
    first, second = origin.commit("one"), origin.commit("two")
    origin.copy(second)
    lost = replace(second, message="lost", writer="another")
    assert origin.store.create(lost.locator.key, lost.encode())
    with pytest.raises(DivergedError):
        origin.copy(lost)
    assert origin.copy(first).moved is False


def test_a_name_that_another_volume_has(world: World, origin: Origin) -> None:
    other = world.open()
    world.write(other, b"a")
    other.commit("another volume of this name")
    record = origin.commit("one")
    before = data(world)
    for options in ({}, {"history": True}):
        with pytest.raises(VolumeExistsError) as caught:
            origin.copy(record, **options)
        assert "--name" in caught.value.hint
    assert data(world) == before
    assert origin.copy(record, name="free").record.volume_name == "free"
    world.check()


def test_who_has_it_open_for_writing_there_is_left_alone(world: World, origin: Origin) -> None:
    first, second = origin.commit("one"), origin.commit("two")
    origin.copy(first)
    lease = Lease(world.store, "test", origin.entry.id, uuid4().hex, seconds=60, user="zoë", fresh=False)
    lease.take(lambda _: None)
    with pytest.raises(VolumeBusyError, match="zoë") as caught:
        origin.copy(second)
    assert "end that mount" in caught.value.hint
    assert origin.newest() == first.locator.file
    assert origin.copy(first).moved is False, "nothing moves, so nobody is asked"
    lease.release()
    assert origin.copy(second).moved
    ref = read_ref(world.store, ref_key("test", origin.entry.id))
    assert ref is not None
    assert ref.fence == 2, "a writer that was there before cannot move it any more"
    lease = Lease(world.store, "test", origin.entry.id, uuid4().hex, seconds=60, user=None, fresh=False)
    lease.take(lambda _: None)
    assert lease.fence == 3, "and the copy has given the lease back"


def test_who_had_it_open_and_died_is_succeeded(world: World, origin: Origin) -> None:
    """Taking the lease over changes the ref: it is read again, and no second try is needed."""
    first, second = origin.commit("one"), origin.commit("two")
    origin.copy(first)
    here = Process.current()
    dead = Process(here.host, 1 << 22, here.machine, "never")  # no process has such a number
    lease = Lease(
        world.store, "test", origin.entry.id, uuid4().hex, seconds=60, user=None, fresh=False, process=dead
    )  # fmt: skip
    lease.take(lambda _: None)
    assert origin.copy(second).moved
    ref = read_ref(world.store, ref_key("test", origin.entry.id))
    assert ref is not None
    assert (ref.version, ref.fence) == (second.locator.file, 2)


def test_versions_that_are_not_there(world: World, origin: Origin) -> None:
    first, _ = origin.commit("one"), origin.commit("two")
    delete_version(origin.store, first.locator)
    with pytest.raises(VersionNotFoundError):
        origin.copy(first)
    assert data(world) == {}


# -- where it came from, when what was in between is gone --------------------------------------------------------------


def pruned(origin: Origin, count: int = 6) -> tuple[VersionRecord, VersionRecord]:
    """The first version was copied; then the source goes on, and prunes all but the last."""
    first = origin.commit("first")
    origin.copy(first)
    made = [origin.commit(f"{number}") for number in range(count)]
    for record in [first, *made[:-1]]:
        delete_version(origin.store, record.locator)
    return first, made[-1]


def test_a_copy_goes_on_where_the_source_was_pruned(world: World, origin: Origin) -> None:
    _, last = pruned(origin)
    assert origin.copy(last).moved
    assert origin.newest() == last.locator.file
    world.check()


def test_but_not_from_another_store_nor_over_a_commit(world: World, origin: Origin) -> None:
    first, last = pruned(origin)
    elsewhere = Faulty(MemoryStore(f"memory://{uuid4().hex}"))
    copy_version(origin.store, elsewhere, last.locator, scratch=str(world.root))
    with pytest.raises(DivergedError, match="cannot be told"):
        copy_version(elsewhere, world.store, last.locator, scratch=str(world.root))
    writer = origin.writer()
    world.write(writer, b"there")
    theirs = writer.commit("there")
    with pytest.raises(DivergedError):
        origin.copy(last)
    assert origin.newest() == theirs.locator.file
    assert theirs.parents == (str(replace(first.locator, store_url=world.store.url)),)
