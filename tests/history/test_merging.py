"""Merges of workspaces: kills, damage, and the parents of what comes of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from flyteplugins_vol.errors import IndexDamagedError, StoreUnavailableError
from flyteplugins_vol.history.record import VersionRecord, load_record
from flyteplugins_vol.history.sources import sources
from flyteplugins_vol.index import merging
from flyteplugins_vol.index.merging import Conflict, Merge
from flyteplugins_vol.store.faulty import Faulty, StoppedError
from tests.driven import ME, Driven


@pytest.fixture
def base(volume: Driven) -> VersionRecord:
    directory = volume.workspace.mkdir(1, b"dir", 0o755, ME).ino
    for name in (b"a", b"b", b"c"):
        volume.create(name, name * 1000, directory)
    volume.create(b"top", b"t" * 1000)
    return volume.commit("base")


@pytest.fixture
def forks(volume: Driven, base: VersionRecord) -> list[VersionRecord]:
    """One has other files in ``dir``, the other has none of it."""
    made = []
    for number in range(2):
        fork = volume.fork(str(base.locator))
        directory = fork.find(b"dir").ino
        if number:
            fork.workspace.unlink(1, b"top")
            fork.create(b"top", b"other" * 1000)
        else:
            fork.workspace.unlink(directory, b"a")
            fork.create(b"new", b"n" * 5000, fork.workspace.mkdir(directory, b"sub", 0o700, ME).ino)
        made.append(fork.commit("fork"))
        fork.close()
    return made


def never(conflict: Conflict) -> int:
    raise AssertionError(f"no conflict was expected at {conflict.path!r}")


def merge(
    volume: Driven, base: VersionRecord, forks: list[VersionRecord],
    harm: Callable[[Path], None] = lambda path: None,
) -> None:  # fmt: skip
    with sources(volume.session, volume.spec.cache_dir, [one.locator for one in (base, *forks)]) as found:
        harm(Path(found[1].path))
        decided = Merge(found[0].path, [one.path for one in found[1:]])
        try:
            decided.decide(never, present=None)
            volume.workspace.merge(decided, None)
        finally:
            decided.close()
        volume.session.merged([str(one.locator) for one in forks])


def paths(volume: Driven) -> list[bytes]:
    return sorted(volume.tree())


MERGED = [b"dir", b"dir/b", b"dir/c", b"dir/sub", b"dir/sub/new", b"top"]


@pytest.mark.parametrize("synced", [False, True])
def test_a_kill_leaves_all_of_it_or_nothing(
    volume: Driven, base: VersionRecord, forks: list[VersionRecord], synced: bool
) -> None:
    before = volume.tree()
    merge(volume, base, forks)
    merged = volume.tree()
    if synced:
        volume.workspace.begin_sync()
    volume.kill()
    assert volume.tree() == (merged if synced else before)
    volume.check()
    if synced:
        record = volume.commit("resumed")
        volume.check(record)
        assert record.parents == tuple(str(one.locator) for one in (base, *forks))


def test_what_a_version_is_made_of(volume: Driven, base: VersionRecord, forks: list[VersionRecord]) -> None:
    merge(volume, base, forks)
    assert paths(volume) == MERGED
    record = volume.commit("merged")
    volume.check(record)
    assert record.parents == tuple(str(one.locator) for one in (base, *forks))
    assert record.sequence == base.sequence + 1
    assert load_record(volume.store, record.locator).parents == record.parents
    volume.create(b"more", b"m")
    assert volume.commit("more").parents == (str(record.locator),)


def test_a_commit_that_fails_forgets_no_parent(
    volume: Driven, base: VersionRecord, forks: list[VersionRecord], store: Faulty
) -> None:
    merge(volume, base, forks)
    store.fail("create", "index/*")
    with pytest.raises(StoreUnavailableError):
        volume.commit("merged")
    assert len(volume.commit("merged").parents) == 3


def test_a_process_that_dies_after_its_ref_moved_names_them_once(
    volume: Driven, base: VersionRecord, forks: list[VersionRecord], store: Faulty
) -> None:
    merge(volume, base, forks)
    volume.workspace.begin_sync()
    store.fail("replace", "*", error=StoppedError(), after=True)
    with pytest.raises(StoppedError):
        volume.commit("merged")
    store.clear()
    volume.kill()
    record = volume.commit("once more")
    assert record.sequence == base.sequence + 2
    assert len(record.parents) == 1


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE extent SET skip=1 WHERE length=5000",
        "UPDATE extent SET start=5 WHERE length=5000",
        "UPDATE block SET pack=99 WHERE size=5000",
        "UPDATE inode SET mode=0 WHERE size=5000",
        "UPDATE entry SET name=x'2e2e' WHERE name=x'6e6577'",
        "UPDATE entry SET name=x'2f' WHERE name=x'6e6577'",
        "UPDATE entry SET name=x'610062' WHERE name=x'6e6577'",
        "INSERT INTO xattr SELECT ino, x'', x'' FROM inode WHERE size=5000",
    ],
)
def test_nothing_is_left_of_what_is_damaged(
    volume: Driven, base: VersionRecord, forks: list[VersionRecord], statement: str
) -> None:
    def harm(path: Path) -> None:
        with sqlite3.connect(path) as sql:
            sql.execute(statement)
        sql.close()

    before = volume.tree()
    with pytest.raises(IndexDamagedError):
        merge(volume, base, forks[:1], harm)
    assert volume.tree() == before
    volume.check()
    volume.check(volume.commit("nothing of it"))


def test_in_pages(
    volume: Driven, base: VersionRecord, forks: list[VersionRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    from flyteplugins_vol.workspace import merging as doing

    monkeypatch.setattr(merging, "_PAGE", 2)
    monkeypatch.setattr(doing, "_PAGE", 2)
    merge(volume, base, forks)
    assert paths(volume) == MERGED
    volume.check(volume.commit("merged"))
