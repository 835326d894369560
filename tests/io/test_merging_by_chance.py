"""Merges of trees that were made by chance, against a model."""

from __future__ import annotations

import os
import random

import pytest

from flyteplugins_vol.errors import MergeConflictError
from flyteplugins_vol.io import ROVolume, Volume
from tests.fsck import check_index
from tests.io.conftest import World
from tests.io.merge_model import Tree, change, merged, tree_of

SEEDS = int(os.environ.get("MERGE_SEEDS", "12"))


class Histories:
    """A base, and versions that began as it."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.rng = random.Random(seed)
        self.line = world.new("line")
        change(self.line, self.rng, 25)
        self.base = self.line.commit.sync("base")
        self.forks = [self.fork() for _ in range(self.rng.randint(1, 3))]

    def fork(self) -> ROVolume:
        fork = self.world.keep(self.base.fork.sync())
        change(fork, self.rng, self.rng.randint(1, 8))
        return fork.finalize.sync("a fork")

    def expected(self, sides: list[ROVolume], on_conflict: str) -> tuple[Tree, list[str]]:
        conflicts: list[str] = []

        def choose(path: str, of: list[int]) -> int:
            conflicts.append(path)
            return of[-1 if on_conflict == "last" else 0]

        return merged(tree_of(self.base), [tree_of(side) for side in sides], choose), conflicts

    def check(self, volume: Volume, tree: Tree) -> None:
        version = volume.commit.sync("merged")
        assert tree_of(version) == tree
        index = self.world.root / "cache" / "cache" / "index" / f"{version.version.partition('-')[2]}.db"
        assert check_index(str(index)) == []
        assert version.verify.sync(deep=True).ok


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_merge_is_what_the_model_says(world: World, seed: int) -> None:
    made = Histories(world, seed)
    tree, conflicts = made.expected(made.forks, "first")
    if conflicts:
        with pytest.raises(MergeConflictError) as caught:
            Volume.merge.sync(made.base, *made.forks)
        assert set(conflicts) <= {one.path for one in caught.value.conflicts}
    else:
        made.check(world.keep(Volume.merge.sync(made.base, *made.forks)), tree)
    for on_conflict in ("first", "last"):
        tree, _ = made.expected(made.forks, on_conflict)
        made.check(world.keep(Volume.merge.sync(made.base, *made.forks, on_conflict=on_conflict)), tree)
    change(made.line, made.rng, 6)
    line = made.line.commit.sync("it went on")
    on_conflict = made.rng.choice(("first", "last"))
    tree, _ = made.expected([line, *made.forks], on_conflict)
    Volume.merge.sync(made.base, *made.forks, into=made.line, on_conflict=on_conflict)
    made.check(made.line, tree)
