"""Copies under another name: volumes of their own, as forks are."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flyteplugins_vol.errors import (
    DivergedError,
    UsageError,
)
from flyteplugins_vol.history.deletion import delete_version
from flyteplugins_vol.history.record import load_record
from flyteplugins_vol.history.volumes import VolumeEntry, head
from tests.history.copies import Origin, data
from tests.history.world import World


def test_another_name_is_another_volume(world: World, origin: Origin) -> None:
    first = origin.commit("one", files=3)
    done = origin.copy(first, name="copy")
    made = done.record
    assert (made.volume_name, made.sequence, made.parents) == ("copy", 1, (str(first.locator),))
    assert made.volume_id != first.volume_id
    assert (made.index, made.stats, made.message, made.created) == (
        first.index, first.stats, first.message, first.created,
    )  # fmt: skip
    assert made == load_record(world.store, made.locator)
    world.check_tree(made, origin.volume.tree())
    before = data(world)
    assert (origin.copy(first, name="copy").record, data(world)) == (made, before)
    assert origin.copy(first, name="test").record.locator.file == first.locator.file, "its own name is none"
    second, third = origin.commit("two"), origin.commit("three")
    done = origin.copy(third, name="copy")
    assert (done.record.sequence, done.moved, done.copied.objects) == (2, True, 2)
    assert done.record.parents == (str(made.locator), str(third.locator))
    with pytest.raises(DivergedError) as caught:
        origin.copy(second, name="copy")
    assert "another name" in caught.value.hint
    world.check()


def test_another_name_goes_on_where_the_source_was_pruned(world: World, origin: Origin) -> None:
    first = origin.commit("one")
    origin.copy(first, name="copy")
    made = [origin.commit(f"{number}") for number in range(4)]
    for record in [first, *made[:-1]]:
        delete_version(origin.store, record.locator)
    assert origin.copy(made[-1], name="copy").record.sequence == 2


def test_another_name_that_was_committed_to(world: World, origin: Origin) -> None:
    first = origin.commit("one")
    copy = origin.copy(first, name="copy").record
    writer = world.open(volume_id=copy.volume_id, volume_name="copy", base=str(copy.locator))
    world.write(writer, b"there")
    theirs = writer.commit("there")
    with pytest.raises(DivergedError):
        origin.copy(origin.commit("two"), name="copy")
    assert head(world.store, VolumeEntry(world.store.url, "copy", copy.volume_id)) == theirs.locator
    world.check()


@pytest.mark.parametrize("name", ["", "a/b", "-x", "x" * 64])
def test_names_that_no_volume_can_have(world: World, origin: Origin, name: str) -> None:
    record = origin.commit("one")
    with pytest.raises(UsageError):
        origin.copy(record, name=name)
    with pytest.raises(UsageError, match="one version"):
        origin.copy(record, name="fine", history=True)
    assert data(world) == {}


def test_a_parent_in_a_store_around_this_one_stays_a_locator(world: World, origin: Origin) -> None:
    """The other store's URL begins as this one's does."""
    record = replace(
        origin.commit("one"), store_url="s3://bucket/a", parents=("s3://bucket/a/b/" + "x/volumes/" + _FILE,)
    )
    assert b'"s3://bucket/a/b/x/volumes/' in record.encode()
    near = replace(record, parents=("s3://bucket/a/volumes/" + _FILE,))
    assert b'["volumes/' in near.encode()


_FILE = f"data-{'0' * 16}/versions/00000001-{'0' * 40}.json"
