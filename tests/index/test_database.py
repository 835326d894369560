"""Index files: ours are opened, everything else is refused before any of it runs."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from flyteplugins_vol.errors import IndexDamagedError, NewerFormatError
from flyteplugins_vol.index import schema
from flyteplugins_vol.index.database import IndexDatabase
from flyteplugins_vol.index.index import Index
from tests.fsck import check_index


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A new, closed index."""
    made = str(tmp_path / "index.db")
    Index.create(made, uid=1, gid=2).close()
    return made


@pytest.fixture
def index(path: str) -> Iterator[Index]:
    opened = Index.open(path, read_only=False)
    yield opened
    opened.close()


def alter(path: str, *statements: str) -> None:
    sql = sqlite3.connect(path)
    for statement in statements:
        sql.execute(statement)
    sql.commit()
    sql.close()


def test_a_new_index_is_sound(path: str) -> None:
    assert check_index(path) == []
    for read_only in (True, False):
        index = Index.open(path, read_only=read_only)
        root = index.inodes.get(1)
        assert root is not None
        assert (root.uid, root.gid, root.mode, root.nlink, root.parent) == (1, 2, 0o40755, 2, 1)
        assert (index.files, index.bytes, index.next_ino) == (1, 0, 2)
        index.close()


def test_it_is_made_for_its_owner_only_and_never_over_another_file(path: str) -> None:
    assert os.stat(path).st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        Index.create(path, uid=0, gid=0)


def test_a_path_of_any_characters(tmp_path: Path) -> None:
    path = str(tmp_path / "50% of? #1 ü.db")
    Index.create(path, uid=0, gid=0).close()
    Index.open(path, read_only=True).close()
    assert sorted(os.listdir(tmp_path)) == ["50% of? #1 ü.db"]


@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize(
    "statement",
    [
        "PRAGMA application_id=1",
        "CREATE TRIGGER t AFTER INSERT ON entry BEGIN DELETE FROM inode; END",
        "CREATE VIEW v AS SELECT * FROM inode",
        "CREATE TABLE more (x)",
        "CREATE INDEX i ON inode (size)",
        "DROP TABLE xattr",
        "ALTER TABLE pack ADD COLUMN x INTEGER DEFAULT 1",
        "ALTER TABLE pack RENAME TO kcap",
        "CREATE VIRTUAL TABLE v USING fts5(x)",
    ],
)
def test_a_stranger_is_refused(path: str, statement: str, read_only: bool) -> None:
    alter(path, statement)
    with pytest.raises(IndexDamagedError):
        Index.open(path, read_only=read_only)


@pytest.mark.parametrize("read_only", [True, False])
def test_an_index_of_a_later_release_is_refused_as_such(path: str, read_only: bool) -> None:
    alter(path, f"PRAGMA user_version={schema.FORMAT + 1}", "CREATE TABLE more (x)")
    with pytest.raises(NewerFormatError, match="newer release"):
        Index.open(path, read_only=read_only)


@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize("data", [b"", b"x", b"SQLite format 3\0", b"not a database" * 1000, bytes(8192)])
def test_what_is_no_database_is_refused(tmp_path: Path, data: bytes, read_only: bool) -> None:
    path = tmp_path / "index.db"
    path.write_bytes(data)
    with pytest.raises(IndexDamagedError):
        Index.open(str(path), read_only=read_only)


@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize("size", [100, 4096, 5000, 8192])
def test_a_truncated_index_is_refused(path: str, size: int, read_only: bool) -> None:
    os.truncate(path, size)
    with pytest.raises(IndexDamagedError):
        Index.open(path, read_only=read_only)


def test_an_index_that_is_not_there(tmp_path: Path) -> None:
    for read_only in (True, False):
        with pytest.raises(FileNotFoundError):
            Index.open(str(tmp_path / "no.db"), read_only=read_only)
    assert os.listdir(tmp_path) == []


def test_a_writable_index_has_one_owner(path: str, index: Index) -> None:
    index.entries.put(1, b"x", 5)
    with pytest.raises(IndexDamagedError, match="locked"):
        Index.open(path, read_only=False)


def test_between_two_checkpoints_the_main_file_is_a_stable_snapshot(path: str, index: Index) -> None:
    index.db.checkpoint()
    before = Path(path).read_bytes()
    for i in range(5000):
        index.entries.put(1, b"%d" % i, i)
        if i % 100 == 0:
            index.commit()
    index.commit()
    assert Path(path).read_bytes() == before
    assert index.db.wal_bytes() > 0
    index.db.checkpoint()
    assert Path(path).read_bytes() != before
    assert index.db.wal_bytes() == 0


def test_committed_rows_survive_a_kill_and_others_do_not(path: str, index: Index, tmp_path: Path) -> None:
    index.entries.put(1, b"kept", 5)
    index.commit()
    index.entries.put(1, b"lost", 6)
    copy = str(tmp_path / "copy.db")
    shutil.copy(path, copy)
    shutil.copy(path + "-wal", copy + "-wal")
    again = Index.open(copy, read_only=False)
    assert again.entries.get(1, b"kept") == 5
    assert again.entries.get(1, b"lost") is None
    again.close()


def test_the_descriptor_to_sync_is_that_of_the_log_also_after_a_checkpoint(path: str, index: Index) -> None:
    fd = index.db.sync_fd()
    index.entries.put(1, b"x", 5)
    index.db.checkpoint()
    index.entries.put(1, b"y", 5)
    index.commit()
    assert os.path.samestat(os.fstat(index.db.sync_fd()), os.stat(path + "-wal"))
    assert index.db.sync_fd() == fd


def test_nothing_is_left_beside_a_closed_index(path: str, tmp_path: Path) -> None:
    index = Index.open(path, read_only=False)
    index.entries.put(1, b"x", 5)
    index.close()
    reader = IndexDatabase.open(path, read_only=True)
    reader.close()
    assert os.listdir(tmp_path) == ["index.db"]
