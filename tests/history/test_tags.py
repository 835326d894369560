"""Tags: given, moved and deleted; and that none ever names what is gone, whatever is deleted beside it."""

from __future__ import annotations

from contextlib import suppress

import pytest

from flyteplugins_vol.errors import ConflictError, TagExistsError, UsageError, VersionNotFoundError
from flyteplugins_vol.history.deletion import delete_version, delete_volume
from flyteplugins_vol.history.record import Locator, VersionRecord
from flyteplugins_vol.history.refs import MAIN, move_ref, read_ref, ref_key
from flyteplugins_vol.history.tags import delete_tag, list_tags, set_tag
from flyteplugins_vol.store.faulty import StoppedError
from tests.driven import Driven
from tests.history.world import World


def commits(world: World, volume: Driven, count: int) -> list[Locator]:
    made: list[VersionRecord] = []
    for number in range(count):
        world.store.pass_time(days=1)
        world.write(volume, b"a")
        made.append(volume.commit(f"{number}"))
    return [record.locator for record in made]


def tags(world: World, volume: Driven) -> dict[str, Locator]:
    return list_tags(world.store, world.entry(volume))


def test_given_moved_and_deleted(world: World) -> None:
    volume = world.open()
    first, second, _ = commits(world, volume, 3)
    assert tags(world, volume) == {}
    set_tag(world.store, first, "v1")
    set_tag(world.store, first, "v1")
    set_tag(world.store, second, "a.b_c-D")
    assert tags(world, volume) == {"a.b_c-D": second, "v1": first}
    with pytest.raises(TagExistsError) as caught:
        set_tag(world.store, second, "v1")
    assert "--force" in caught.value.hint
    assert isinstance(caught.value, ConflictError)
    set_tag(world.store, second, "v1", force=True)
    assert tags(world, volume)["v1"] == second
    delete_tag(world.store, world.entry(volume), "v1")
    assert list(tags(world, volume)) == ["a.b_c-D"]
    with pytest.raises(VersionNotFoundError):
        delete_tag(world.store, world.entry(volume), "v1")
    world.check()


@pytest.mark.parametrize("name", ["", "main", "3", "00000003", "-x", ".x", "a/b", "a b", "ä", "x" * 64, "..", "a\n"])
def test_names_that_no_tag_can_have(world: World, name: str) -> None:
    volume = world.open()
    (first,) = commits(world, volume, 1)
    for refused in (
        lambda: set_tag(world.store, first, name, force=True),
        lambda: delete_tag(world.store, world.entry(volume), name),
    ):
        with pytest.raises(UsageError) as caught:
            refused()
        assert caught.value.hint
    assert tags(world, volume) == {}
    assert read_ref(world.store, ref_key("test", volume.spec.volume_id, MAIN))


def test_names_that_differ_in_case_only(world: World) -> None:
    volume = world.open()
    (first,) = commits(world, volume, 1)
    set_tag(world.store, first, "Best")
    for name in ("best", "Main"):
        with pytest.raises(UsageError, match="case"):
            set_tag(world.store, first, name, force=True)


def test_a_commit_and_a_taking_over_leave_tags_alone(world: World) -> None:
    volume = world.open(lease_seconds=60.0)
    (first,) = commits(world, volume, 1)
    set_tag(world.store, first, "v1")
    key = ref_key("test", volume.spec.volume_id, "v1")
    before = world.store.get(key)
    commits(world, volume, 2)
    assert world.store.get(key) == before


def test_a_moved_tag_keeps_its_fence(world: World) -> None:
    volume = world.open()
    first, second = commits(world, volume, 2)
    key = ref_key("test", volume.spec.volume_id, "v1")
    assert move_ref(world.store, key, first.file, "somebody", None, 7)
    set_tag(world.store, second, "v1", force=True)
    ref = read_ref(world.store, key)
    assert ref is not None
    assert (ref.version, ref.fence) == (second.file, 7)


def test_a_version_that_is_not_there(world: World) -> None:
    volume = world.open()
    first, _ = commits(world, volume, 2)
    delete_version(world.store, first)
    with pytest.raises(VersionNotFoundError):
        set_tag(world.store, first, "v1")
    assert tags(world, volume) == {}


def test_a_tagged_version_is_neither_pruned_nor_deleted(world: World) -> None:
    volume = world.open()
    first, second, third = commits(world, volume, 3)
    set_tag(world.store, first, "v1")
    assert [one.reasons for one in world.prune(volume, last=1).kept] == [("ref v1",), ("ref main", "last")]
    with pytest.raises(ConflictError) as caught:
        delete_version(world.store, first)
    assert "tag --delete" in caught.value.hint
    delete_tag(world.store, world.entry(volume), "v1")
    delete_version(world.store, first)
    assert world.versions() == [third]
    assert second not in world.versions()


def test_a_volume_goes_with_its_tags(world: World) -> None:
    volume = world.open()
    (first,) = commits(world, volume, 1)
    set_tag(world.store, first, "v1")
    delete_volume(world.store, world.entry(volume), force=True)
    assert not [key for key in world.objects("volumes/") if "/refs/" in key]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("by", ["prune", "delete_version"])
def test_deleted_at_any_call_of_a_tagging(world: World, by: str, after: bool) -> None:
    volume = world.open()
    first, *_ = commits(world, volume, 3)
    contents = world.store.contents()

    def delete() -> None:
        if by == "prune":
            world.prune(volume, last=1)
        else:
            with suppress(ConflictError):
                delete_version(world.store, first)

    refused = 0
    for call in range(1, 100):
        world.store.put_back(contents)
        start = world.store.calls
        world.store.interrupt(call, delete, after=after)
        try:
            set_tag(world.store, first, "v1")
        except VersionNotFoundError as error:
            assert error.hint
            refused += 1
        ended = world.store.calls - start < call
        world.store.restart()
        world.check()
        assert (first in world.versions()) == ("v1" in tags(world, volume))
        if ended:
            break
    assert 0 < refused < call


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("by", ["prune", "delete_version"])
def test_tagged_at_any_call_of_a_deletion(world: World, by: str, after: bool) -> None:
    volume = world.open()
    first, *_ = commits(world, volume, 3)
    contents = world.store.contents()
    refused = 0

    def give() -> None:
        nonlocal refused
        try:
            set_tag(world.store, first, "v1")
        except VersionNotFoundError:
            refused += 1

    for call in range(1, 100):
        world.store.put_back(contents)
        start = world.store.calls
        world.store.interrupt(call, give, after=after)
        if by == "prune":
            world.prune(volume, last=1)
        else:
            with suppress(ConflictError):
                delete_version(world.store, first)
        ended = world.store.calls - start < call
        world.store.restart()
        world.check()
        assert (first in world.versions()) == ("v1" in tags(world, volume))
        if ended:
            break
    assert 0 < refused < call - 3


def test_killed_at_any_call(world: World) -> None:
    volume = world.open()
    first, second = commits(world, volume, 2)
    set_tag(world.store, first, "v1")
    contents = world.store.contents()
    for call in range(1, 100):
        world.store.put_back(contents)
        world.store.stop(call)
        try:
            set_tag(world.store, second, "v1", force=True)
        except StoppedError:
            world.store.restart()
            assert tags(world, volume)["v1"] in (first, second)
            world.check()
        else:
            world.store.restart()
            break
    assert call > 3


def test_a_tag_that_is_taken_back_names_what_it_did(world: World) -> None:
    """Or nothing, where that was deleted in the same moment."""
    volume = world.open()
    first, second, _ = commits(world, volume, 3)
    set_tag(world.store, first, "v1")
    contents = world.store.contents()
    seen: set[bool] = set()
    for both in (False, True):
        for call in range(1, 20):
            world.store.put_back(contents)

            def vanish(both: bool = both) -> None:
                """As deletions that are done before the tag is put and stopped before they look at the refs again."""
                for locator in (second, first)[: 1 + both]:
                    world.store.inner.delete(locator.key)

            world.store.interrupt(call, vanish)
            try:
                set_tag(world.store, second, "v1", force=True)
            except VersionNotFoundError:
                found = tags(world, volume)
                assert found == ({} if both and "v1" not in found else {"v1": first})
                seen.add("v1" in found)
            world.store.restart()
    assert seen == {False, True}


def test_two_at_once(world: World) -> None:
    volume = world.open()
    first, second = commits(world, volume, 2)
    contents = world.store.contents()
    winners: set[Locator] = set()
    for call in range(1, 20):
        world.store.put_back(contents)
        done: list[Locator] = []

        def give(locator: Locator, done: list[Locator] = done) -> None:
            with suppress(ConflictError):
                set_tag(world.store, locator, "v1")
                done.append(locator)

        world.store.interrupt(call, lambda give=give: give(second))
        give(first)
        world.store.restart()
        assert list(tags(world, volume).values()) == done
        winners.update(done)
    assert winners == {first, second}
