"""Garbage for tests of collecting: what a pruning leaves, before and after a collection has marked it."""

from __future__ import annotations

from flyteplugins_vol.history.collect import Tally
from flyteplugins_vol.history.marks import read_marked
from flyteplugins_vol.history.record import VersionRecord
from tests.driven import Driven
from tests.history.world import World

NOTHING = Tally()


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


def ripe(world: World) -> VersionRecord:
    """Garbage that the next collection deletes."""
    _, record, dead = garbage(world)
    world.collect()
    world.store.pass_time(days=8)
    assert dead <= read_marked(world.store)[1]
    assert world.collect(dry_run=True).deleted.objects >= 1
    return record
