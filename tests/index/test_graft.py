"""Files of one index in another: what comes in is sound, and what is not sound leaves nothing behind."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flyteplugins_vol.errors import IndexDamagedError
from flyteplugins_vol.history.record import VersionRecord
from flyteplugins_vol.index.graft import Graft
from flyteplugins_vol.index.index import Index
from flyteplugins_vol.store.memory import MemoryStore
from tests.driven import ME, Driven

MB = 1 << 20


def free(size: int) -> None:
    """There is room."""


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore("memory://graft")


@pytest.fixture
def volume(tmp_path: Path, store: MemoryStore) -> Iterator[Driven]:
    driven = Driven.new(tmp_path, store)
    yield driven
    driven.close()


@pytest.fixture
def other(tmp_path: Path, store: MemoryStore) -> Iterator[Driven]:
    """A volume with ``dir``: a file of two blocks, another name of it, a directory with a file."""
    (tmp_path / "other").mkdir()
    driven = Driven.new(tmp_path / "other", store)
    w = driven.workspace
    directory = w.mkdir(1, b"dir", 0o755, ME).ino
    ino = driven.create(b"file", b"x" * (5 * MB), directory)
    w.link(ino, directory, b"hard")
    w.setxattr(ino, b"user.a", b"1")
    driven.create(b"small", b"s" * 100, w.mkdir(directory, b"sub", 0o755, ME).ino)
    yield driven
    driven.close()


def index_of(driven: Driven, record: VersionRecord) -> Path:
    return Path(driven.spec.cache_dir, "index", f"{record.locator.hash}.db")


def taken(volume: Driven, path: Path, ino: int) -> None:
    source = Index.open(str(path), read_only=True)
    try:
        volume.workspace.graft(source, ino, 1, b"new")
    finally:
        source.close()


def test_what_is_here_already_is_not_entered_again(volume: Driven, other: Driven) -> None:
    volume.create(b"mine", b"s" * 100)
    volume.commit()
    record = other.commit()
    taken(volume, index_of(other, record), other.find(b"dir").ino)
    volume.check(volume.commit())
    names = [row[0] for row in volume.workspace.index.db.sql.execute("SELECT name FROM pack")]
    assert len(names) == 2
    assert volume.workspace.index.db.sql.execute("SELECT count(*) FROM block").fetchone() == (3,)
    assert {path: one[3] for path, one in volume.tree().items()} == {
        b"mine": 1, b"new": 3, b"new/file": 2, b"new/hard": 2, b"new/sub": 2, b"new/sub/small": 1,
    }  # fmt: skip
    assert volume.content(b"new/hard") == b"x" * (5 * MB)
    assert volume.describe(volume.find(b"new/file"))[-1] == {b"user.a": b"1"}
    volume.workspace.unlink(1, b"mine")
    assert volume.content(b"new/sub/small") == b"s" * 100
    volume.check(volume.commit())


def test_blocks_of_a_pack_are_numbered_in_its_order(volume: Driven, other: Driven) -> None:
    """Readers find neighbours so: also where names are in another order than the pack."""
    directory = other.find(b"dir").ino
    for number in reversed(range(50)):
        other.create(b"%02d" % number, b"%02d" % number * 500, directory)
    record = other.commit()
    taken(volume, index_of(other, record), directory)
    volume.commit()
    rows = volume.workspace.index.db.sql.execute("SELECT pack, offset FROM block ORDER BY id").fetchall()
    assert len(rows) == 53
    assert rows == sorted(rows)


DAMAGE: dict[str, str] = {
    "no inode": "DELETE FROM inode WHERE size=100",
    "an inode of another kind": "UPDATE inode SET mode=0 WHERE size=100",
    "a name that leads up": "UPDATE entry SET ino=1 WHERE name=x'736d616c6c'",
    "a name with a slash": "UPDATE entry SET name=x'612f62' WHERE name=x'736d616c6c'",
    "two names of a directory": "INSERT INTO entry SELECT parent, x'7a', ino FROM entry WHERE name=x'737562'",
    "an extent of no block": "UPDATE extent SET block=99 WHERE length=100",
    "an extent that is staged": "UPDATE extent SET block=0 WHERE length=100",
    "an extent beyond its block": "UPDATE extent SET skip=1 WHERE length=100",
    "an extent beyond its file": "UPDATE extent SET start=1 WHERE length=100",
    "an extent before its file": "UPDATE extent SET start=-100 WHERE length=100",
    "extents over each other": "UPDATE inode SET size=size; INSERT INTO extent SELECT ino, 1, 5, block, 0 FROM extent"
    " WHERE length=100",
    "a block of no pack": "UPDATE block SET pack=99 WHERE size=100",
    "a block of other bytes": "UPDATE block SET codec=0, size=99, stored=99 WHERE size=100; UPDATE extent SET length=99"
    " WHERE length=100",
    "a pack that is too large": "UPDATE pack SET size=1 << 40",
}


@pytest.mark.parametrize("statements", DAMAGE.values(), ids=DAMAGE)
def test_nothing_is_left_of_what_is_damaged(volume: Driven, other: Driven, statements: str) -> None:
    volume.create(b"mine", b"s" * 100)
    volume.commit()
    record = other.commit()
    path = index_of(other, record)
    with sqlite3.connect(path) as sql:
        sql.executescript(statements)
    sql.close()
    before = volume.tree(), counts(volume)
    with pytest.raises(IndexDamagedError):
        taken(volume, path, other.find(b"dir").ino)
    assert (volume.tree(), counts(volume)) == before
    volume.check()
    volume.create(b"after", b"a" * 5000)
    volume.check(volume.commit())


@pytest.mark.parametrize("at", range(1, 6))
def test_nothing_is_left_where_the_local_disk_is_full(volume: Driven, other: Driven, at: int) -> None:
    record = other.commit()
    before = volume.tree(), counts(volume)
    source = Index.open(str(index_of(other, record)), read_only=True)
    calls = 0

    def room(size: int) -> None:
        nonlocal calls
        calls += 1
        if calls == at:
            raise OSError(28, "full")

    index = volume.workspace.index
    with pytest.raises(OSError, match="full"), index.attempt():
        graft = Graft(source, index, room=room)
        graft.tree(other.find(b"dir").ino)
        graft.finish()
    assert (volume.tree(), counts(volume)) == before
    volume.check()
    with index.attempt():  # and there is nothing in the way of another try
        graft = Graft(source, index, room=free)
        ino = graft.tree(other.find(b"dir").ino)
        graft.finish()
    source.close()
    volume.workspace._tree.adopt(1, b"new", ino)
    volume.check(volume.commit())


def counts(volume: Driven) -> tuple[int, ...]:
    index = volume.workspace.index
    return index.files, index.bytes, index.next_ino, index.blocks.next_block, index.blocks.next_pack


def test_a_directory_and_names_one_by_one(volume: Driven, other: Driven) -> None:
    record = other.commit()
    source = Index.open(str(index_of(other, record)), read_only=True)
    index, tree = volume.workspace.index, volume.workspace._tree
    find: Callable[[bytes], int] = lambda path: other.find(path).ino  # noqa: E731
    with index.attempt():
        graft = Graft(source, index, room=free)
        directory, *files = (graft.alone(find(path)) for path in (b"dir", b"dir/file", b"dir/hard", b"dir/sub/small"))
        graft.finish()
    source.close()
    assert files[0] == files[1]
    tree.adopt(1, b"d", directory)
    for name, ino in zip((b"a", b"b", b"c"), files, strict=True):
        tree.adopt(directory, name, ino)
    assert [(path, one[3]) for path, one in volume.tree().items()] == [
        (b"d", 2), (b"d/a", 2), (b"d/b", 2), (b"d/c", 1),
    ]  # fmt: skip
    volume.check(volume.commit())
