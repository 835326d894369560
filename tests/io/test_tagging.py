"""Tags by the public types."""

from __future__ import annotations

import asyncio

import pytest

from flyteplugins_vol.errors import NothingCommittedError, TagExistsError, UsageError, VersionNotFoundError
from flyteplugins_vol.io import Retention
from tests.io.conftest import World, commit, committed


def test_tags_of_a_volume(world: World) -> None:
    volume = committed(world, "one", "two")
    second, first = volume.log.sync()
    assert volume.tags.sync() == {}
    asyncio.run(first.tag("begin"))
    volume.tag.sync("now")
    assert asyncio.run(volume.tags()) == {"begin": first.locator, "now": second.locator}
    with pytest.raises(TagExistsError):
        volume.tag.sync("begin")
    volume.tag.sync("begin", force=True)
    assert first.tags.sync()["begin"] == volume.locator
    volume.untag.sync("begin")
    with pytest.raises(VersionNotFoundError):
        asyncio.run(volume.untag("begin"))
    with pytest.raises(UsageError):
        volume.tag.sync("12")


def test_a_tag_stays_where_it_is_and_keeps_its_version(world: World) -> None:
    volume = committed(world, "one")
    volume.tag.sync("keep")
    for message in ("two", "three"):
        commit(volume, message)
    assert [record.message for record in volume.prune.sync(Retention(last=1)).removed] == ["two"]
    assert world.load(volume.tags.sync()["keep"]).message == "one"


def test_a_fork_has_tags_of_its_own(world: World) -> None:
    volume = committed(world, "one")
    volume.tag.sync("v1")
    fork = world.keep(volume.log.sync()[0].fork.sync("other"))
    with pytest.raises(NothingCommittedError):
        fork.tag.sync("v1")
    commit(fork, "mine")
    assert fork.tags.sync() == {}
    fork.tag.sync("v1")
    assert fork.tags.sync()["v1"] != volume.tags.sync()["v1"]


def test_there_is_nothing_to_tag_before_the_first_commit(world: World) -> None:
    volume = world.new()
    assert volume.tags.sync() == {}
    with pytest.raises(NothingCommittedError):
        volume.tag.sync("v1")
