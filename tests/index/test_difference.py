"""What differs between two indexes, with every path of it, against the trees themselves."""

from __future__ import annotations

import random
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from flyteplugins_vol.errors import IndexDamagedError
from flyteplugins_vol.index.difference import Change, Difference, Kind
from flyteplugins_vol.index.index import Index
from flyteplugins_vol.model import ROOT_INO, AttrChange, Inode
from flyteplugins_vol.store.memory import MemoryStore
from tests.driven import ME, Driven

Files = dict[bytes, bytes]


@pytest.fixture
def volume(tmp_path: Path):
    driven = Driven.new(tmp_path, MemoryStore("memory://difference"))
    yield driven
    driven.close()


@pytest.fixture
def snapshot(volume: Driven, tmp_path: Path) -> Callable[[], str]:
    """Commit; the path of a copy of its index."""

    def take() -> str:
        volume.commit()
        taken = tmp_path / f"index-{len(list(tmp_path.glob('index-*')))}.db"
        with sqlite3.connect(f"file:{volume.session.workspace.index.db.path}?mode=ro&immutable=1", uri=True) as db:
            db.execute("VACUUM INTO ?", (str(taken),))
        db.close()
        with sqlite3.connect(taken) as copy:
            copy.execute("PRAGMA journal_mode=DELETE")
        copy.close()
        return str(taken)

    return take


def changes(older: str, newer: str) -> list[Change]:
    found = Difference(older, newer)
    try:
        assert len(list(found)) == found.summary.rows
        return list(found)
    finally:
        found.close()


def by_path(found: list[Change]) -> dict[bytes, str]:
    assert [change.path for change in found] == sorted(change.path for change in found)
    return {change.path: change.kind.value for change in found}


def put(volume: Driven, path: bytes, data: bytes) -> Inode:
    *above, name = path.split(b"/")
    parent = volume.workspace.getattr(ROOT_INO)
    for part in above:
        found = volume.workspace.lookup(parent.ino, part)
        parent = found or volume.workspace.mkdir(parent.ino, part, 0o755, ME)
    if volume.workspace.lookup(parent.ino, name) is not None:
        volume.workspace.unlink(parent.ino, name)
    volume.create(name, data, parent.ino)
    return volume.find(path)


def test_directories_are_told_with_all_below_them(volume: Driven, snapshot: Callable[[], str]) -> None:
    put(volume, b"gone/deep/a", b"aa")
    put(volume, b"gone.txt", b"x")
    put(volume, b"turned", b"12345")
    before = snapshot()
    for path, name in ((b"gone/deep", b"a"), (b"gone", b"deep")):
        where = volume.find(path).ino
        (volume.workspace.rmdir if name == b"deep" else volume.workspace.unlink)(where, name)
    volume.workspace.rmdir(ROOT_INO, b"gone")
    volume.workspace.unlink(ROOT_INO, b"turned")
    put(volume, b"turned/file", b"abc")
    volume.workspace.mkdir(ROOT_INO, b"empty", 0o755, ME)
    after = snapshot()
    assert by_path(changes(before, after)) == {
        b"/empty": "+", b"/gone": "-", b"/gone/deep": "-", b"/gone/deep/a": "-", b"/turned": "~", b"/turned/file": "+",
    }  # fmt: skip
    mirrored = {"+": "-", "-": "+", "~": "~"}
    back = by_path(changes(after, before))
    assert back == {path: mirrored[kind] for path, kind in by_path(changes(before, after)).items()}
    found = Difference(before, after)
    summary = found.summary
    found.close()
    assert (summary.files[Kind.ADDED], summary.files[Kind.REMOVED], summary.files[Kind.CONTENT]) == (1, 1, 1)
    assert (summary.added_bytes, summary.removed_bytes, summary.rows) == (3, 2, 6)
    assert changes(after, after) == []


def test_what_is_no_content(volume: Driven, snapshot: Callable[[], str]) -> None:
    workspace = volume.workspace
    for name in (b"mode", b"owner", b"time", b"attribute", b"linked", b"same"):
        put(volume, name, b"12345678")
    workspace.symlink(ROOT_INO, b"link", b"target", ME)
    workspace.symlink(ROOT_INO, b"link to elsewhere", b"target", ME)
    workspace.mknod(ROOT_INO, b"device", stat.S_IFCHR | 0o600, 0x103, ME)
    workspace.mknod(ROOT_INO, b"other device", stat.S_IFCHR | 0o600, 0x103, ME)
    workspace.mkdir(ROOT_INO, b"directory", 0o755, ME)
    workspace.mkdir(ROOT_INO, b"directory with time", 0o755, ME)
    before = snapshot()
    workspace.setattr(volume.find(b"mode").ino, AttrChange(mode=0o100600), ME)
    workspace.setattr(volume.find(b"owner").ino, AttrChange(uid=5), ME)
    for name in (b"time", b"link", b"device", b"directory with time"):
        workspace.setattr(volume.find(name).ino, AttrChange(mtime=5), ME)
    for name in (b"attribute", b"directory"):
        workspace.setxattr(volume.find(name).ino, b"user.x", b"1", 0)
    workspace.link(volume.find(b"linked").ino, ROOT_INO, b"second name")
    workspace.setattr(ROOT_INO, AttrChange(mode=0o40700), ME)
    for name in (b"link to elsewhere", b"other device"):
        workspace.unlink(ROOT_INO, name)
    workspace.symlink(ROOT_INO, b"link to elsewhere", b"gettar", ME)
    workspace.mknod(ROOT_INO, b"other device", stat.S_IFCHR | 0o600, 0x105, ME)
    found = by_path(changes(before, snapshot()))
    assert found == {
        b"/": "=", b"/mode": "=", b"/owner": "=", b"/time": "=", b"/link": "=", b"/device": "=", b"/attribute": "=",
        b"/directory": "=", b"/link to elsewhere": "~", b"/other device": "~", b"/second name": "+",
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_random_trees_against_a_model(volume: Driven, snapshot: Callable[[], str], seed: int) -> None:
    rng = random.Random(seed)
    before = grow(volume, rng, {})
    older = snapshot()
    after = grow(volume, rng, dict(before))
    newer = snapshot()
    expected: dict[bytes, str] = {}
    for path in before.keys() | after.keys():
        if before.get(path) != after.get(path):
            expected[b"/" + path] = "-" if path not in after else "+" if path not in before else "~"
    found = changes(older, newer)
    files = {change.path: change.kind.value for change in found if not stat.S_ISDIR(change.mode)}
    assert {path: kind for path, kind in files.items() if kind != "="} == expected


def grow(volume: Driven, rng: random.Random, files: Files) -> Files:
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


def test_a_directory_below_itself_ends(tmp_path: Path) -> None:
    """An index may come from a stranger."""
    paths = [str(tmp_path / name) for name in ("old.db", "new.db")]
    for path in paths:
        Index.create(path, uid=0, gid=0).close()
    db = sqlite3.connect(paths[1], isolation_level=None)
    columns = ", ".join(str(value) for value in (0, 0, 0, 0, 0, 0, 0, 0, 3, "NULL"))
    for ino in (2, 3):
        db.execute(f"INSERT INTO inode VALUES ({ino}, {0o40755}, 2, {columns})")
    db.executemany("INSERT INTO entry VALUES (?, ?, ?)", [(1, b"a", 2), (2, b"b", 3), (3, b"c", 2)])
    db.execute("PRAGMA journal_mode=DELETE")
    db.close()
    assert by_path(changes(*paths)) == {b"/a": "+", b"/a/b": "+", b"/a/b/c": "+"}


def test_what_is_no_index(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.db", tmp_path / "bad.db"
    Index.create(str(good), uid=0, gid=0).close()
    bad.write_bytes(b"x" * 10_000)
    for pair in ((good, bad), (bad, good)):
        with pytest.raises(IndexDamagedError):
            Difference(*map(str, pair))
