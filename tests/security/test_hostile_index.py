"""An index is a SQLite file from elsewhere. Whatever is in it, it is refused, or its lies harm its own files only."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from flyteplugins_vol.errors import DamageError, IndexDamagedError, LocalDirectoryError, NewerFormatError
from flyteplugins_vol.history import checkout
from flyteplugins_vol.index import check
from flyteplugins_vol.index.check import check_completely, check_published
from flyteplugins_vol.index.database import IndexDatabase
from flyteplugins_vol.index.difference import Difference
from flyteplugins_vol.index.index import Index
from flyteplugins_vol.index.space import Ledger
from flyteplugins_vol.model import ROOT_INO
from tests.driven import Driven
from tests.security.conftest import Victim, alter

Opener = Callable[[str], Driven]

BIG = (1 << 63) - 1


# What no writer makes. Each is refused on loading, since the file is small; and at use, as if it were large.
LIES = {
    "name with a slash": "UPDATE entry SET name = x'2e2e2f78' WHERE ino = 4",
    "name .": "UPDATE entry SET name = x'2e' WHERE ino = 4",
    "name ..": "UPDATE entry SET name = x'2e2e' WHERE ino = 4",
    "name with NUL": "UPDATE entry SET name = x'610062' WHERE ino = 4",
    "name of 256 bytes": "UPDATE entry SET name = CAST(printf('%.*c', 256, 'x') AS BLOB) WHERE ino = 4",
    "name of a megabyte": "UPDATE entry SET name = CAST(printf('%.*c', 1000000, 'x') AS BLOB) WHERE ino = 4",
    "directory below itself": "INSERT INTO entry VALUES (3, x'6c6f6f70', 2)",
    "root below itself": "INSERT INTO entry VALUES (1, x'6c6f6f70', 1)",
    "hard-linked directory": "INSERT INTO entry VALUES (1, x'6c6f6f70', 3)",
    "directory elsewhere than its inode says": "UPDATE inode SET parent = 1 WHERE ino = 3",
    "entry without an inode": "DELETE FROM inode WHERE ino = 4",
    "entry of an orphan": "UPDATE inode SET nlink = 0 WHERE ino = 4",
    "negative size": "UPDATE inode SET size = -1 WHERE ino = 4",
    "size that is text": "UPDATE inode SET size = 'much' WHERE ino = 4",
    "size that is a float": "UPDATE inode SET size = 1e300 WHERE ino = 4",
    "negative nlink": "UPDATE inode SET nlink = -1 WHERE ino = 4",
    "nlink beyond 32 bits": "UPDATE inode SET nlink = 1 << 32 WHERE ino = 4",
    "mode beyond 16 bits": "UPDATE inode SET mode = 1 << 40 WHERE ino = 4",
    "mode without a type": "UPDATE inode SET mode = 420 WHERE ino = 4",
    "uid beyond 32 bits": "UPDATE inode SET uid = 1 << 33 WHERE ino = 4",
    "time that is text": "UPDATE inode SET mtime = 'now' WHERE ino = 4",
    "file with a parent": "UPDATE inode SET parent = 2 WHERE ino = 4",
    "file with a target": "UPDATE inode SET target = x'61' WHERE ino = 4",
    "symlink without a target": "UPDATE inode SET target = NULL WHERE ino = 5",
    "symlink with NUL": "UPDATE inode SET target = x'6100', size = 2 WHERE ino = 5",
    "symlink of 5,000 bytes": "UPDATE inode SET target = zeroblob(5000), size = 5000 WHERE ino = 5",
    "inode number beyond bounds": f"UPDATE entry SET ino = {BIG} WHERE ino = 4",
    "extent at a negative place": "UPDATE extent SET start = -5 WHERE ino = 4",
    "extent of no bytes": "UPDATE extent SET length = 0 WHERE ino = 4",
    "extent of negative bytes": "UPDATE extent SET length = -1 WHERE ino = 4",
    "extent of 2^63 bytes": f"UPDATE extent SET length = {BIG} WHERE ino = 4",
    "extent beyond its window": "UPDATE extent SET length = 5 << 20 WHERE ino = 4",
    "extents that overlap": "INSERT INTO extent SELECT ino, start + 1, 2, block, 0 FROM extent WHERE ino = 4",
    "extent before its block": "UPDATE extent SET skip = -1 WHERE ino = 4",
    "extent behind its block": "UPDATE extent SET skip = 1 WHERE ino = 4",
    "extent without a block": "UPDATE extent SET block = 77 WHERE ino = 4",
    "extent in staging": "UPDATE extent SET block = 0 WHERE ino = 4",
    "block before its pack": "UPDATE block SET offset = -16",
    "block behind its pack": f"UPDATE block SET offset = {BIG}",
    "block of 2^62 stored bytes": "UPDATE block SET stored = 1 << 62, size = 1 << 62",
    "block of 2^40 bytes": "UPDATE block SET size = 1 << 40",
    "block at a negative place of the cache": "UPDATE block SET at = -4096",
    "block at the end of the world": f"UPDATE block SET at = {BIG}",
    "block of a short hash": "UPDATE block SET hash = randomblob(3)",
    "block of no pack": "UPDATE block SET pack = 77",
    "pack with a name of another length": "UPDATE pack SET name = x'2e2e2f2e2e'",
    "pack with a name that is text": "UPDATE pack SET name = '../../../../etc/passwd'",
    "codec that is text": "UPDATE block SET codec = 'zstd'",
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_refused_on_loading(victim: Victim, opened: Opener, lie: str) -> None:
    locator = victim.publish(victim.tampered(LIES[lie]))
    with pytest.raises(IndexDamagedError):
        opened(locator)


@pytest.mark.parametrize("lie", [lie for lie in LIES if lie != "extent at a negative place"])  # nobody looks there
def test_a_lie_in_a_large_index_is_refused_at_use(
    victim: Victim, opened: Opener, lie: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "COMPLETELY_BELOW", 0)
    locator = victim.publish(victim.tampered(LIES[lie]))
    refused: list[Exception] = []
    try:
        driven = opened(locator)
    except IndexDamagedError as error:
        refused.append(error)
    else:
        _look_at_everything(driven, refused)
    assert refused


def _look_at_everything(driven: Driven, refused: list[Exception]) -> None:
    """Every verb on everything that can be reached; what is served is what a sound volume may hold."""
    todo = [ROOT_INO]
    seen = 0
    while todo:
        ino = todo.pop()
        try:
            entries = driven.workspace.readdir(ino, None, 1000)
        except (DamageError, FileNotFoundError) as error:
            refused.append(error)
            continue
        for name, inode in entries:
            seen += 1
            assert seen < 100, "a cycle"
            assert b"/" not in name
            assert b"\0" not in name
            assert name not in (b"", b".", b"..")
            assert len(name) <= 255
            try:
                if inode.is_dir:
                    todo.append(inode.ino)
                elif inode.is_file:
                    assert driven.read(inode.ino) in (b"content of the file", b"another file, of other content", b"")
                else:
                    assert driven.workspace.readlink(inode.ino) == b"dir/file"
            except DamageError as error:
                refused.append(error)


@pytest.mark.parametrize("lie", LIES)
def test_a_complete_check_finds_it(victim: Victim, lie: str) -> None:
    path = victim.tampered(LIES[lie])
    with pytest.raises(IndexDamagedError):
        check_completely(str(path))


MISCOUNTS = {
    "too few names": "UPDATE inode SET nlink = 5 WHERE ino = 4",
    "too few subdirectories": "UPDATE inode SET nlink = 9 WHERE ino = 2",
    "file that nothing names": "DELETE FROM entry WHERE ino = 4",
    "orphan with a name": "INSERT INTO orphan VALUES (4)",
    "orphan that is not there": "INSERT INTO orphan VALUES (77)",
    "file shorter than its extents": "UPDATE inode SET size = 3 WHERE ino = 4",
    "attribute of nothing": "UPDATE xattr SET ino = 77",
    "attribute of 70,000 bytes": "UPDATE xattr SET value = zeroblob(70000)",
    "attribute with NUL": "UPDATE xattr SET name = x'610062'",
    "block of another pack's length": "UPDATE pack SET size = 100",
    "staged bytes": "INSERT INTO staged VALUES (4, 0, 10, 0)",
    "no root": "DELETE FROM inode WHERE ino = 1",
    "root that is a file": "UPDATE inode SET mode = 33188, parent = 0 WHERE ino = 1",
    "numbers that were given already": "UPDATE meta SET value = 3 WHERE key = 'next_ino'",
    "numbers at the end": f"UPDATE meta SET value = {BIG} WHERE key = 'next_ino'",
    "counter that is text": "UPDATE meta SET value = 'x' WHERE key = 'next_block'",
}  # fmt: skip


@pytest.mark.parametrize("lie", MISCOUNTS)
def test_what_only_all_rows_show_is_refused_on_loading_too(victim: Victim, opened: Opener, lie: str) -> None:
    locator = victim.publish(victim.tampered(MISCOUNTS[lie]))
    with pytest.raises(IndexDamagedError):
        opened(locator)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE inode SET allocated = 5 WHERE ino = 4",
        "UPDATE block SET refs = 99",
        "UPDATE pack SET blocks = 99",
        "UPDATE meta SET value = 99 WHERE key = 'files'",
    ],
)
def test_counters_that_nothing_relies_on_are_left_to_the_complete_check(
    victim: Victim, opened: Opener, statement: str
) -> None:
    path = victim.tampered(statement)
    check_completely(str(path), counts=False)
    with pytest.raises(IndexDamagedError):
        check_completely(str(path))
    driven = opened(victim.publish(path))
    assert driven.read(driven.find(b"/dir/file").ino) == b"content of the file"


def test_a_sound_index_passes(victim: Victim) -> None:
    check_published(str(victim.index()))
    check_completely(str(victim.index()))


def test_a_sound_neighbour_of_a_lie_is_served(victim: Victim, opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "COMPLETELY_BELOW", 0)
    driven = opened(victim.publish(victim.tampered("UPDATE inode SET size = -1 WHERE ino = 4")))
    with pytest.raises(IndexDamagedError):
        driven.find(b"/dir/file")
    assert driven.read(driven.find(b"/other").ino) == b"another file, of other content"


# -- what SQLite would run -------------------------------------------------------------------------------------------

SCHEMAS = {
    "trigger": ["CREATE TRIGGER t AFTER INSERT ON entry BEGIN DELETE FROM inode; END"],
    "view": ["CREATE VIEW v AS SELECT * FROM inode"],
    "virtual table": ["CREATE VIRTUAL TABLE v USING fts5(x)"],
    "generated column": ["ALTER TABLE orphan ADD COLUMN g INTEGER AS (abs(ino))"],
    "index of an expression": ["CREATE INDEX i ON inode (abs(size))"],
    "partial index": ["CREATE INDEX i ON inode (size) WHERE size > 5"],
    "statistics": ["ANALYZE"],
    "another table": ["CREATE TABLE more (x)"],
    "default": ["ALTER TABLE pack ADD COLUMN x INTEGER DEFAULT (1)"],
}


@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize("what", SCHEMAS)
def test_nothing_that_runs_by_itself(victim: Victim, what: str, read_only: bool) -> None:
    path = victim.index()
    sql = sqlite3.connect(path)
    for statement in SCHEMAS[what]:
        sql.execute(statement)
    sql.commit()
    sql.close()
    with pytest.raises(IndexDamagedError, match="other tables"):
        Index.open(str(path), read_only=read_only)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE sqlite_schema SET rootpage = 4 WHERE name = 'xattr'",  # the pages of entry
        "UPDATE sqlite_schema SET rootpage = 1 WHERE name = 'orphan'",
        "UPDATE sqlite_schema SET tbl_name = 'inode' WHERE name = 'orphan'",
        "UPDATE sqlite_schema SET type = 'view' WHERE name = 'orphan'",
        "DELETE FROM sqlite_schema WHERE name = 'block_hash'",
    ],
)  # fmt: skip
def test_no_table_is_another(victim: Victim, statement: str) -> None:
    path = victim.tampered("PRAGMA writable_schema=ON", statement)
    for read_only in (True, False):
        with pytest.raises(IndexDamagedError):
            Index.open(str(path), read_only=read_only)


def test_the_guards_of_sqlite_are_on(victim: Victim) -> None:
    db = IndexDatabase.open(str(victim.index()), read_only=True)
    try:
        assert db.sql.execute("PRAGMA trusted_schema").fetchone() == (0,)
        assert db.sql.execute("PRAGMA cell_size_check").fetchone() == (1,)
        assert db.sql.execute("PRAGMA mmap_size").fetchone() in (None, (0,))
        with pytest.raises(Exception, match=r"no such function|not authorized|disabled"):
            db.sql.execute("SELECT load_extension('x')")
    finally:
        db.drop()
    writable = IndexDatabase.open(str(victim.index()), read_only=False)
    try:
        if hasattr(writable.sql, "getconfig"):  # Python 3.12
            assert writable.sql.getconfig(sqlite3.SQLITE_DBCONFIG_DEFENSIVE)
            assert not writable.sql.getconfig(sqlite3.SQLITE_DBCONFIG_ENABLE_TRIGGER)
            assert not writable.sql.getconfig(sqlite3.SQLITE_DBCONFIG_ENABLE_VIEW)
    finally:
        writable.drop()


# -- absurd counts and bombs -----------------------------------------------------------------------------------------


def test_a_codec_of_a_later_release_is_no_damage(
    victim: Victim, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "COMPLETELY_BELOW", 0)
    driven = opened(victim.publish(victim.tampered("UPDATE block SET codec = 2")))
    with pytest.raises(NewerFormatError):
        driven.read(driven.find(b"/other").ino)


def test_too_many_orphans_and_attributes(victim: Victim, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "_MOST_ORPHANS", 3)
    path = victim.tampered("INSERT INTO orphan VALUES (77), (78), (79), (80)")
    with pytest.raises(IndexDamagedError, match="orphans"):
        check_published(str(path))
    many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i <= 65536)"
    path = victim.tampered(f"{many} INSERT INTO xattr SELECT 4, CAST('user.' || i AS BLOB), x'' FROM n".replace(
        many + " INSERT INTO xattr", "INSERT INTO xattr " + many))  # fmt: skip
    with pytest.raises(IndexDamagedError, match="attributes"):
        check_published(str(path))
    index = Index.open(str(path), read_only=True)
    with pytest.raises(IndexDamagedError):
        index.xattrs.names(4)
    index.close()


def test_an_index_larger_than_the_disk_is_refused_before_it_is_written(
    victim: Victim, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkout, "free_bytes", lambda path: 1000)
    monkeypatch.setattr(checkout, "checkout_segments", lambda *_: pytest.fail("it was written"))
    with pytest.raises(LocalDirectoryError):
        opened(str(victim.record.locator))


def test_one_segment_a_thousand_times_is_no_index(victim: Victim, opened: Opener) -> None:
    imap = victim.record.index
    bomb = replace(imap, size=imap.segment_size * 1000, runs=((0, 0, 1),) * 1000)
    record = replace(victim.record, index=bomb)
    object.__setattr__(record, "as_read", None)
    assert victim.store.create(record.locator.key, record.encode())
    with pytest.raises(DamageError):
        opened(str(record.locator))


def test_a_line_of_blocks_is_bounded_by_what_it_becomes(victim: Victim) -> None:
    path = victim.index()
    many = "WITH RECURSIVE n(i) AS (SELECT 100 UNION ALL SELECT i + 1 FROM n WHERE i < 1100)"
    alter(
        path,
        f"INSERT INTO block SELECT * FROM"
        f" ({many} SELECT i, randomblob(32), 1, i * 200, 150, i << 22, 1 << 22, 1, 1 FROM n)",
    )
    index = Index.open(str(path), read_only=True)
    block = index.blocks.get(500)
    near = index.blocks.near(block, 0, 1 << 20, 4096)
    assert block in near
    assert sum(row.size for row in near) <= 64 << 20
    assert [row.offset for row in near] == sorted(row.offset for row in near)
    index.close()


@pytest.mark.parametrize("lie", {**LIES, **MISCOUNTS})
def test_a_comparison_and_an_account_end_with_values_or_damage(victim: Victim, tmp_path: Path, lie: str) -> None:
    """Of a large index, of which nobody has looked at every row before."""
    (tmp_path / "sound").mkdir()
    sound = str(shutil.copy(victim.index(), tmp_path / "sound"))
    lying = str(victim.tampered({**LIES, **MISCOUNTS}[lie]))
    for pair in ((sound, lying), (lying, sound)):
        with suppress(DamageError, NewerFormatError), closing(Difference(*pair)) as found:
            for change in found:
                assert change.path.startswith(b"/")
                assert all(isinstance(value, int) for value in change[2:])
    with closing(Ledger()) as ledger:
        for index in (lying, sound):
            with suppress(DamageError):
                assert all(isinstance(value, int) for value in ledger.enter(1, index, []))
            with suppress(DamageError):
                ledger.share(index, [])
        assert all(isinstance(value, int) for alone in ledger.alone().values() for value in alone)
        assert isinstance(ledger.stored(), int)


@pytest.fixture
def large(tmp_path: Path) -> str:
    """An index of 50,000 files."""
    path = str(tmp_path / "large.db")
    index = Index.create(path, uid=0, gid=0)
    rows = [(ino, 0o100644, 1, 0, 0, 0, 0, 0, 1, 1, 1, 0, None) for ino in range(2, 50_002)]
    index.db.sql.executemany(f"INSERT INTO inode VALUES ({','.join('?' * 13)})", rows)
    index.db.sql.executemany(
        "INSERT INTO entry VALUES (1, ?, ?)", [(b"file-%06d" % ino, ino) for ino in range(2, 50_002)]
    )
    index.next_ino = 50_002
    index.files = 50_001
    index.close()
    return path


def test_loading_a_large_index_looks_at_no_row_of_each_file(large: str, monkeypatch: pytest.MonkeyPatch) -> None:
    started = time.monotonic()
    check_completely(large)
    completely = time.monotonic() - started
    monkeypatch.setattr(check, "COMPLETELY_BELOW", 0)
    started = time.monotonic()
    check_published(large)
    assert time.monotonic() - started < max(0.01, completely / 5)
