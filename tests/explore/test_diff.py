"""Changes between versions, against the trees themselves."""

from __future__ import annotations

import random
import stat

import pytest

from flyteplugins_vol.explore.diff import Diff
from flyteplugins_vol.history.record import VersionRecord
from flyteplugins_vol.index.difference import Change, Kind
from flyteplugins_vol.model import ROOT_INO, AttrChange
from tests.driven import ME, Driven
from tests.explore.conftest import ODD_NAME, Cats, World, index_of, put


async def changes(world: World, older: VersionRecord, newer: VersionRecord) -> list[Change]:
    diff = await Diff.open(index_of(world, older), index_of(world, newer))
    try:
        found = await diff.page(0, 10_000)
        assert diff.summary.rows == len(found)
        return found
    finally:
        await diff.close()


def by_path(found: list[Change]) -> dict[bytes, str]:
    assert [change.path for change in found] == sorted(change.path for change in found)
    return {change.path: change.kind.value for change in found}


async def test_added_removed_changed(cats: Cats) -> None:
    found = await changes(cats.world, cats.versions[1], cats.versions[2])
    assert by_path(found) == {
        b"/images/bengal/two.png": "-", b"/latest": "+", b"/odd": "+", b"/train.py": "~",
    }  # fmt: skip
    odd = next(change for change in found if change.path == b"/odd")
    assert (odd.files, odd.old_size, odd.new_size) == (1, 0, 4)
    train = next(change for change in found if change.path == b"/train.py")
    assert (train.old_size, train.new_size) == (29, 32)


async def test_backwards_is_the_mirror_image(cats: Cats) -> None:
    there = await changes(cats.world, cats.versions[0], cats.versions[2])
    back = await changes(cats.world, cats.versions[2], cats.versions[0])
    mirrored = {"+": "-", "-": "+", "~": "~", "=": "="}
    assert by_path(back) == {path: mirrored[kind] for path, kind in by_path(there).items()}


async def test_nothing_differs(cats: Cats) -> None:
    assert await changes(cats.world, cats.versions[1], cats.versions[1]) == []


async def test_content_and_attributes_are_told_apart(world: World) -> None:
    volume = world.new()
    for name in ("mode", "time", "same size", "rewritten", "to directory", "back in time"):
        put(volume, name, b"12345678")
    put(volume, "d/inside", b"x")
    before = volume.commit()
    workspace = volume.workspace
    workspace.setattr(volume.find(b"mode").ino, AttrChange(mode=0o100600), ME)
    workspace.setattr(volume.find(b"time").ino, AttrChange(mtime=5), ME)
    put(volume, "same size", b"87654321")  # its time is put back as it was
    put(volume, "rewritten", b"12345678")  # the same bytes again
    workspace.unlink(ROOT_INO, b"to directory")
    put(volume, "to directory/file", b"abc")
    workspace.setattr(volume.find(b"d").ino, AttrChange(mode=0o40700), ME)
    found = await changes(world, before, volume.commit())
    assert by_path(found) == {
        b"/mode": "=", b"/time": "=", b"/same size": "~", b"/to directory": "~", b"/d": "=",
    }  # fmt: skip
    turned = next(change for change in found if change.path == b"/to directory")
    assert (turned.old_size, turned.new_size, stat.S_ISDIR(turned.new_mode)) == (8, 3, True)


async def test_forks_whose_inodes_mean_different_files(world: World) -> None:
    base = world.new()
    put(base, "shared", b"s")
    locator = str(base.commit().locator)
    forks = [base.fork(locator, volume_name=f"fork-{number}") for number in range(2)]
    world.volumes += forks
    put(forks[0], "left/file", b"l")
    put(forks[1], "right/file", b"r")
    left, right = (fork.commit() for fork in forks)
    assert by_path(await changes(world, left, right)) == {b"/left": "-", b"/right": "+"}


async def test_names_that_are_no_text(cats: Cats) -> None:
    put(cats.volume, b"odd/" + ODD_NAME, b"other\n")
    found = await changes(cats.world, cats.versions[2], cats.volume.commit())
    assert by_path(found) == {b"/odd/" + ODD_NAME: "~"}


@pytest.mark.parametrize("seed", range(4))
async def test_random_trees_against_a_model(world: World, seed: int) -> None:
    rng = random.Random(seed)
    volume = world.new()
    before = grow(volume, rng, {})
    older = volume.commit()
    after = grow(volume, rng, dict(before))
    newer = volume.commit()
    expected: dict[bytes, str] = {}
    for path in before.keys() | after.keys():
        kind = "-" if path not in after else "+" if path not in before else "~"
        if before.get(path) != after.get(path):
            expected[b"/" + path] = kind
    found = {change.path: change for change in await changes(world, older, newer)}
    # a directory that came or went stands for what is below it
    collapsed = {
        path for path, change in found.items() if stat.S_ISDIR(change.mode) and change.kind is not Kind.CONTENT
    }
    for path, kind in expected.items():
        above = next((top for top in collapsed if path.startswith(top + b"/")), path)
        assert found[above].kind.value == kind
    assert all(path in expected or path in collapsed for path in found)


def grow(volume: Driven, rng: random.Random, files: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Write, rewrite and remove some files; returns what is there then."""
    for _ in range(40):
        path = b"/".join(rng.choice((b"a", b"b", b"c")) for _ in range(rng.randint(1, 3))) + b"/%d" % rng.randint(0, 5)
        if path in files and rng.random() < 0.4:
            *above, name = path.split(b"/")
            volume.workspace.unlink(volume.find(b"/".join(above)).ino, name)
            del files[path]
        else:
            files[path] = rng.randbytes(rng.randint(0, 50))
            put(volume, path, files[path])
    return files
