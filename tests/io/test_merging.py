"""Versions that began as one are made one again, by the public types."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from flyteplugins_vol.errors import (
    AlreadyMountedError,
    LocatorError,
    MergeConflictError,
    NothingCommittedError,
    OtherStoreError,
    RefMovedError,
    UsageError,
    VersionNotFoundError,
)
from flyteplugins_vol.io import MergeConflict, ROVolume, RWVolume, Volume
from flyteplugins_vol.model import AttrChange, Caller
from tests.io.conftest import World, run_elsewhere

ROOT = Caller(0, 0)


@pytest.fixture
def base(world: World) -> ROVolume:
    volume = world.new("data")
    volume.mkdir.sync("dir/sub", parents=True)
    for name in ("a", "b", "dir/c", "dir/sub/d"):
        volume.write_bytes.sync(name, name.encode() * 1000)
    return volume.finalize.sync("base")


def fork(world: World, base: ROVolume, *, remove: tuple[str, ...] = (), **files: bytes) -> ROVolume:
    """A version with these files (``__`` is a slash), which goes on from another."""
    volume = world.keep(base.fork.sync())
    for name in remove:
        volume.remove.sync(name, recursive=True)
    for name, data in files.items():
        path = name.replace("__", "/")
        volume.mkdir.sync(path.rpartition("/")[0] or "/", parents=True, exist_ok=True)
        volume.write_bytes.sync(path, data)
    return volume.finalize.sync()


def with_change(world: World, base: ROVolume, path: str, change: AttrChange) -> ROVolume:
    volume = world.keep(base.fork.sync())
    workspace, ino = opened(volume), volume.stat.sync(path).ino
    volume._writer().change(workspace.setattr, ino, change, ROOT)
    return volume.finalize.sync("other attributes")


def opened(volume: Any) -> Any:
    return volume._writer().workspace


def paths(volume: Volume) -> list[str]:
    return [one.path for one in volume.ls.sync("/", recursive=True)]


def conflicts(base: ROVolume, *others: ROVolume) -> dict[str, list[str]]:
    """What each version did to the paths that are in conflict."""
    with pytest.raises(MergeConflictError) as caught:
        Volume.merge.sync(base, *others)
    found = caught.value.conflicts
    return {one.path: [one.changes.get(str(other.locator), "") for other in others] for one in found}


# ------------------------------------------------------------------------------------------------ no conflict


def test_what_parallel_tasks_wrote(world: World, base: ROVolume) -> None:
    """The usual case: each forks, writes its own files, and a last one merges them."""
    forks = [fork(world, base, **{f"out__part{number}": b"%d" % number * 5000}) for number in range(12)]
    before = world.objects("packs")
    volume = asyncio.run(Volume.merge(base, *forks, name="merged"))
    world.keep(volume)
    assert volume.name == "merged"
    assert paths(volume)[5:] == sorted(["/dir/sub/d", "/out", *(f"/out/part{number}" for number in range(12))])
    version = volume.finalize.sync("all of them")
    assert world.objects("packs") == before, "no byte is stored"
    assert version.parents == (base.locator, *(one.locator for one in forks))
    assert Volume.from_locator.sync(str(version.locator)).parents == version.parents
    assert version.version is not None
    assert version.version.startswith("00000001-")
    world.forget_caches()
    assert version.read_bytes.sync("out/part7") == b"7" * 5000
    assert version.verify.sync(deep=True).ok
    assert [one.locator for one in version.log.sync()] == [version.locator, base.locator]


def test_a_line_goes_on(world: World, base: ROVolume) -> None:
    line = world.keep(Volume.from_name.sync("data", world.store))
    one, two = fork(world, base, x=b"x"), fork(world, base, a=b"other", remove=("dir",))
    line.write_bytes.sync("own", b"own")
    went_on = line.commit.sync("it went on")
    assert Volume.merge.sync(base, one, two, into=line) is line
    version = line.commit.sync("merged")
    assert paths(version) == ["/a", "/b", "/own", "/x"]
    assert version.parents == (went_on.locator, one.locator, two.locator)
    assert version.version is not None
    assert version.version.startswith("00000003-")
    line.write_bytes.sync("more", b"more")
    assert line.commit.sync("and on").parents == (version.locator,)


def test_the_same_change_is_none(world: World, base: ROVolume) -> None:
    one = fork(world, base, a=b"same", n__x=b"same", remove=("b", "dir"))
    two = fork(world, base, a=b"same", n__x=b"same", remove=("b", "dir"))
    three = fork(world, base, y=b"y")
    volume = world.keep(Volume.merge.sync(base, one, two, three, base, one))
    assert paths(volume) == ["/a", "/n", "/n/x", "/y"]
    version = volume.commit.sync()
    assert version.parents == (base.locator, one.locator, two.locator, three.locator)
    assert version.stat.sync("a").mtime == one.stat.sync("a").mtime, "times are those of the first"


def test_nothing_that_differs(world: World, base: ROVolume) -> None:
    line = world.keep(Volume.from_name.sync("data", world.store))
    assert not Volume.merge.sync(base, base, into=line).has_changes
    assert line.commit.sync().locator == base.locator
    copy = world.keep(Volume.merge.sync(base, base))
    assert paths(copy) == paths(base)
    assert copy.finalize.sync().parents == (base.locator,)


def test_versions_of_one_line(world: World, base: ROVolume) -> None:
    """What a later version of the base's own volume changed, and what a fork did."""
    line = world.keep(Volume.from_name.sync("data", world.store))
    line.write_bytes.sync("a", b"later")
    later = line.commit.sync()
    volume = world.keep(Volume.merge.sync(str(base.locator), str(later.locator), fork(world, base, b=b"forked")))
    assert (volume.read_bytes.sync("a"), volume.read_bytes.sync("b")) == (b"later", b"forked")


def test_times_alone(world: World, base: ROVolume) -> None:
    touched = with_change(world, base, "a", AttrChange(mtime=5))
    later = with_change(world, base, "a", AttrChange(mtime=7))
    volume = world.keep(Volume.merge.sync(base, touched, later))
    assert volume.stat.sync("a").mtime == 5
    other = fork(world, base, a=b"other")
    assert Volume.merge.sync(base, touched, other).read_bytes.sync("a") == b"other"
    gone = fork(world, base, remove=("a",))
    assert "/a" not in paths(Volume.merge.sync(base, touched, gone))
    directory = with_change(world, base, "dir", AttrChange(mtime=5))
    assert "/dir" not in paths(Volume.merge.sync(base, directory, fork(world, base, remove=("dir",))))


def test_attributes_and_content(world: World, base: ROVolume) -> None:
    mode = with_change(world, base, "a", AttrChange(mode=0o600, uid=5))
    root = with_change(world, base, "/", AttrChange(mode=0o1777))
    directory = with_change(world, base, "dir", AttrChange(mode=0o700))
    xattr = world.keep(base.fork.sync())
    for path in ("b", "dir/sub"):
        xattr._writer().change(opened(xattr).setxattr, xattr.stat.sync(path).ino, b"user.x", b"1")
    volume = world.keep(Volume.merge.sync(base, mode, root, directory, xattr.finalize.sync(), fork(world, base, n=b"")))
    found = volume.stat.sync("a")
    assert (found.mode, found.uid, found.ino) == (0o600, 5, base.stat.sync("a").ino)
    assert (volume.stat.sync("/").mode, volume.stat.sync("dir").mode) == (0o1777, 0o700)
    for path in ("b", "dir/sub"):
        assert opened(volume).getxattr(volume.stat.sync(path).ino, b"user.x") == b"1"
    version = volume.commit.sync()
    assert version.verify.sync(deep=True).ok
    assert version.read_bytes.sync("a") == b"a" * 1000
    assert (version.stats["files"], version.stats["bytes"]) == (base.stats["files"] + 1, base.stats["bytes"])


def test_directories_that_came_have_their_times(world: World, base: ROVolume) -> None:
    one = world.keep(base.fork.sync())
    one.mkdir.sync("new/in", parents=True)
    one.write_bytes.sync("new/in/file", b"f")
    one._writer().change(opened(one).setattr, one.stat.sync("new").ino, AttrChange(atime=3, mtime=7), ROOT)
    volume = world.keep(Volume.merge.sync(base, one.finalize.sync(), fork(world, base, x=b"x")))
    found = volume.stat.sync("new")
    assert (found.atime, found.mtime, found.nlink) == (3, 7, 3)


# ------------------------------------------------------------------------------------------------- hard links


def linked(world: World) -> ROVolume:
    volume = world.new("data")
    volume.write_bytes.sync("p", b"p" * 5000)
    volume._writer().change(opened(volume).link, volume.stat.sync("p").ino, 1, b"q")
    return volume.finalize.sync()


def links(volume: Volume) -> dict[str, int]:
    return {one.path: one.nlink for one in volume.ls.sync("/")}


def test_a_new_name_of_an_old_file_stays_one(world: World) -> None:
    base = linked(world)
    one = world.keep(base.fork.sync())
    one._writer().change(opened(one).link, one.stat.sync("p").ino, 1, b"r")
    one.remove.sync("q")
    one.remove.sync("p")
    one._writer().change(opened(one).link, one.stat.sync("r").ino, 1, b"s")
    one.commit.sync()
    assert links(one) == {"/r": 2, "/s": 2}
    volume = world.keep(Volume.merge.sync(base, one, fork(world, base, x=b"x")))
    assert links(volume) == {"/r": 2, "/s": 2, "/x": 1}
    assert volume.stat.sync("r").ino == volume.stat.sync("s").ino == base.stat.sync("p").ino
    assert volume.commit.sync().verify.sync(deep=True).ok


def test_names_of_a_new_file_are_of_one_file(world: World, base: ROVolume) -> None:
    one = world.keep(base.fork.sync())
    one.write_bytes.sync("new", b"n" * 5000)
    for name in (b"new2", b"a"):
        if name == b"a":
            one.remove.sync("a")
        one._writer().change(opened(one).link, one.stat.sync("new").ino, 1, name)
    version = one.finalize.sync()
    volume = world.keep(Volume.merge.sync(base, version, fork(world, base, x=b"x")))
    assert [volume.stat.sync(name).nlink for name in ("a", "new", "new2", "x")] == [3, 3, 3, 1]
    assert len({volume.stat.sync(name).ino for name in ("a", "new", "new2")}) == 1
    merged = volume.commit.sync()
    assert merged.verify.sync(deep=True).ok


def test_another_name_of_a_file_that_somebody_else_changes_keeps_what_it_was(world: World) -> None:
    base = linked(world)
    one = world.keep(base.fork.sync())
    one._writer().change(opened(one).link, one.stat.sync("p").ino, 1, b"r")
    two = world.keep(base.fork.sync())
    with two.open.sync("p", "r+b") as file:
        file.write(b"changed")
    volume = world.keep(Volume.merge.sync(base, one.finalize.sync(), two.finalize.sync()))
    assert volume.read_bytes.sync("p") == volume.read_bytes.sync("q") == b"changed" + b"p" * 4993
    assert volume.read_bytes.sync("r") == b"p" * 5000
    assert links(volume) == {"/p": 2, "/q": 2, "/r": 1}
    assert volume.commit.sync().verify.sync(deep=True).ok


def test_a_mode_of_one_of_two_names(world: World) -> None:
    """One side makes a name a file of its own with another mode: the other name keeps its own."""
    base = linked(world)
    one = world.keep(base.fork.sync())
    one.copy.sync("q", "q2")
    one.rename.sync("q2", "q", force=True)
    one._writer().change(opened(one).setattr, one.stat.sync("q").ino, AttrChange(mode=0o600), ROOT)
    volume = world.keep(Volume.merge.sync(base, one.finalize.sync(), fork(world, base, x=b"x")))
    assert (volume.stat.sync("p").mode, volume.stat.sync("q").mode) == (0o644, 0o600)
    assert links(volume) == {"/p": 1, "/q": 1, "/x": 1}
    assert volume.commit.sync().verify.sync(deep=True).ok


# --------------------------------------------------------------------------------------------------- conflicts


def test_all_conflicts_are_told_and_nothing_is_merged(world: World, base: ROVolume) -> None:
    line = world.keep(Volume.from_name.sync("data", world.store))
    one = fork(world, base, a=b"one", dir__c=b"one", dir__new__x=b"x", n=b"file", ok=b"ok")
    two = fork(world, base, a=b"two", n__x=b"directory", remove=("dir",))
    assert conflicts(base, one, two) == {
        "/a": ["changed", "changed"],
        "/dir": ["below", "removed"],
        "/dir/c": ["changed", "removed"],
        "/dir/new": ["added", "removed"],
        "/dir/new/x": ["added", "removed"],
        "/n": ["added", "added"],
    }
    assert conflicts(base, two, one)["/dir"] == ["removed", "below"]
    with pytest.raises(MergeConflictError) as caught:
        Volume.merge.sync(base, one, two, into=line)
    assert "6 conflicts, nothing is merged" in caught.value.message
    assert f"  a: changed in data-{one.id}@1, changed in data-{two.id}@1" in caught.value.message
    assert "on_conflict=" in caught.value.hint
    assert not line.has_changes
    assert paths(line) == paths(base)


def test_deleted_here_and_changed_there(world: World, base: ROVolume) -> None:
    gone = fork(world, base, remove=("a", "b"))
    changed = fork(world, base, a=b"changed")
    mode = with_change(world, base, "b", AttrChange(mode=0o600))
    assert conflicts(base, gone, changed, mode) == {
        "/a": ["removed", "changed", ""],
        "/b": ["removed", "", "attributes"],
    }
    directory = with_change(world, base, "dir", AttrChange(mode=0o700))
    assert conflicts(base, fork(world, base, remove=("dir",)), directory) == {"/dir": ["removed", "attributes"]}


def test_first_and_last(world: World, base: ROVolume) -> None:
    one = fork(world, base, a=b"one", dir__new__x=b"x", n=b"file")
    two = fork(world, base, a=b"two", n__x=b"directory", remove=("dir",))
    first = world.keep(Volume.merge.sync(base, one, two, on_conflict="first"))
    assert paths(first) == ["/a", "/b", "/dir", "/dir/new", "/dir/new/x", "/n"]
    assert (first.read_bytes.sync("a"), first.read_bytes.sync("n")) == (b"one", b"file")
    last = world.keep(Volume.merge.sync(base, one, two, on_conflict="last"))
    assert paths(last) == ["/a", "/b", "/n", "/n/x"]
    assert last.read_bytes.sync("a") == b"two"
    for volume in (first, last):
        assert volume.commit.sync().verify.sync(deep=True).ok


def test_the_line_itself_is_named_first(world: World, base: ROVolume) -> None:
    other = fork(world, base, a=b"fork")
    for on_conflict, expected in (("first", b"line"), ("last", b"fork")):
        line = world.keep(base.fork.sync(on_conflict))
        line.write_bytes.sync("a", b"line")
        line.commit.sync()
        Volume.merge.sync(base, other, into=line, on_conflict=on_conflict)  # type: ignore[arg-type]
        assert line.read_bytes.sync("a") == expected


def test_a_function_decides(world: World, base: ROVolume) -> None:
    one = fork(world, base, a=b"one", b=b"one")
    two = fork(world, base, a=b"two", remove=("b",))
    asked: list[MergeConflict] = []

    def decide(conflict: MergeConflict) -> str:
        asked.append(conflict)
        return list(conflict.changes)[conflict.path == "/a"]

    volume = world.keep(Volume.merge.sync(base, one, two, on_conflict=decide))
    assert (volume.read_bytes.sync("a"), volume.read_bytes.sync("b")) == (b"two", b"one")
    assert [(one.path, list(one.changes.values())) for one in asked] == [
        ("/a", ["changed", "changed"]), ("/b", ["changed", "removed"]),
    ]  # fmt: skip
    with pytest.raises(UsageError, match="none of the versions in conflict"):
        Volume.merge.sync(base, one, two, on_conflict=lambda _: str(base.locator))


# ------------------------------------------------------------------------------------------- what is refused


def test_bad_input(world: World, base: ROVolume) -> None:
    other = fork(world, base, x=b"x")
    with pytest.raises(UsageError, match="nothing to merge"):
        Volume.merge.sync(base)
    with pytest.raises(UsageError, match="is no way"):
        Volume.merge.sync(base, other, on_conflict="ours")  # type: ignore[arg-type]
    with pytest.raises(NothingCommittedError):
        Volume.merge.sync(base, world.new("empty"))
    with pytest.raises(NothingCommittedError):
        Volume.merge.sync(base, other, into=world.new("empty"))
    with pytest.raises(LocatorError):
        Volume.merge.sync(base, "nonsense")
    with pytest.raises(VersionNotFoundError):
        Volume.merge.sync(base, str(other.locator).replace("00000001-", "00000002-"))
    elsewhere = world.new("else", f"file://{world.root}/store2")
    elsewhere.write_bytes.sync("x", b"x")
    with pytest.raises(OtherStoreError):
        Volume.merge.sync(base, elsewhere.commit.sync())
    with pytest.raises(UsageError, match="keeps its name"):
        Volume.merge.sync(base, other, into=world.keep(base.fork.sync()), name="x")


def test_into_what_has_changes(world: World, base: ROVolume) -> None:
    line = world.keep(Volume.from_name.sync("data", world.store))
    line.write_bytes.sync("own", b"own")
    with pytest.raises(UsageError, match="has changes"):
        Volume.merge.sync(base, fork(world, base, x=b"x"), into=line)
    assert line.has_changes
    line.commit.sync()
    Volume.merge.sync(base, fork(world, base, x=b"x"), into=line)
    assert paths(line)[-2:] == ["/own", "/x"]


def test_into_what_somebody_else_went_on_from(world: World, base: ROVolume) -> None:
    line = world.keep(Volume.from_name.sync("data", world.store))
    other = world.keep(Volume.from_name.sync("data", world.store))
    other.write_bytes.sync("own", b"own")
    other.finalize.sync()
    with pytest.raises(RefMovedError):
        Volume.merge.sync(base, fork(world, base, x=b"x"), into=line)


@pytest.mark.fuse
def test_into_what_is_mounted(world: World, base: ROVolume) -> None:
    line: RWVolume = world.keep(Volume.from_name.sync("data", world.store))
    line.mount.sync(world.path("mount"))
    with pytest.raises(AlreadyMountedError):
        Volume.merge.sync(base, fork(world, base, x=b"x"), into=line)
    line.finalize.sync()


def test_a_merge_that_is_not_published_leaves_nothing(world: World, base: ROVolume) -> None:
    before = world.objects("volumes")
    other = fork(world, base, x=b"x")
    volume = Volume.merge.sync(base, other)
    volume.abandon.sync()
    assert len(world.objects("volumes")) == len(before) + 2, "those of the fork"


@pytest.mark.parametrize("system", ["macos", "windows"])
def test_on_other_systems(world: World, system: str) -> None:
    code = """
        from flyteplugins_vol.io import Volume

        base = Volume.new("x", STORE).finalize.sync()
        forks = []
        for name in "ab":
            fork = base.fork.sync()
            fork.write_bytes.sync(name, name.encode())
            forks.append(fork.finalize.sync())
        merged = Volume.merge.sync(base, *forks).finalize.sync()
        assert merged.read_bytes.sync("a") + merged.read_bytes.sync("b") == b"ab"
    """
    run_elsewhere(system, world, code)
