"""One index file: opened with the pragmas that its promises rest on, checked before it is believed.

A workspace's index has one owner thread and, by the lock on its workspace, one process. So SQLite runs in WAL mode
with an exclusive lock (no shared memory file), in one long transaction that `commit` ends and begins again. With
automatic checkpoints off, the main file changes only in `checkpoint`: between two of them it is a stable snapshot.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
from typing import Any

from flyteplugins_vol.errors import IndexDamagedError, NewerFormatError, SetupError
from flyteplugins_vol.index import schema
from flyteplugins_vol.portable import OPEN_FLAGS, free_bytes, keep_room

_CACHE_KIB = 32 << 10
_LEAST_SQLITE = (3, 37)
_LEAST_FREE = 256 << 10  # bytes; to open an index for writing takes less
_LONGEST_CELL = 1 << 20  # bytes; the longest of ours is an extended attribute of 64 KiB
_HINT = "use another version, or run a verification of the store"


class IndexDatabase:
    """A connection to an index; ``sql`` is its cursor factory for the tables of this package."""

    def __init__(self, path: str, connection: sqlite3.Connection, *, read_only: bool) -> None:
        self.path = path
        self.read_only = read_only
        self.sql = connection
        self._wal: int | None = None
        self._main: int | None = None

    @classmethod
    def create(cls, path: str) -> IndexDatabase:
        """A new index without rows, in a file that must not exist."""
        if os.path.exists(path):
            raise FileExistsError(path)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        sql = _connect(path, read_only=False)
        try:
            guard(sql)
            sql.execute(f"PRAGMA page_size={schema.PAGE_SIZE}")
            sql.execute(f"PRAGMA application_id={schema.APPLICATION_ID}")
            sql.execute(f"PRAGMA user_version={schema.FORMAT}")
            _tune(sql)
            sql.execute("BEGIN")
            for statement in schema.create_statements():
                sql.execute(statement)
        except sqlite3.OperationalError as error:
            sql.close()
            if _lacks_space(path, error):
                raise _full(path) from error
            raise
        return cls(path, sql, read_only=False)

    @classmethod
    def open(cls, path: str, *, read_only: bool) -> IndexDatabase:
        """An existing index. Raises `IndexDamagedError` or `NewerFormatError` if it is not one that we can read."""
        if not os.path.exists(path):
            raise FileNotFoundError(path)
        sql = _connect(path, read_only=read_only)
        try:
            guard(sql)
            _check(sql, path)
            if not read_only:
                _tune(sql)
            sql.execute("BEGIN")
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # the latter: its message quotes the file
            sql.close()
            if isinstance(error, sqlite3.OperationalError) and _lacks_space(path, error):
                raise _full(path) from error
            raise IndexDamagedError(f"{path} is not an index: {error}", hint=_HINT) from error
        except Exception:
            sql.close()
            raise
        return cls(path, sql, read_only=read_only)

    def commit(self) -> None:
        """End the transaction and begin the next. The rows survive a kill from here on; see `sync_fd` for power."""
        if not self.read_only:
            self.sql.execute("COMMIT")
            self.sql.execute("BEGIN")

    def sync_fd(self) -> int:
        """The descriptor whose fdatasync makes committed rows survive a power cut (the WAL's)."""
        if self._wal is None:
            self._wal = os.open(self.path + "-wal", os.O_RDWR | OPEN_FLAGS)
        return self._wal

    def keep_room(self, size: int) -> bool:
        """Have the disk keep room for so many bytes more in the WAL, and in the main file; whether it does."""
        if self._main is None:
            self._main = os.open(self.path, os.O_RDWR | OPEN_FLAGS)
        return keep_room(self.sync_fd(), size) and keep_room(self._main, size)

    def checkpoint(self) -> None:
        """Move all committed rows to the main file and make it durable."""
        self.sql.execute("COMMIT")
        try:
            busy, _, _ = self.sql.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            assert not busy  # the lock is exclusive: nobody else reads
        finally:
            self.sql.execute("BEGIN")  # without space for the main file, all rows are still in the WAL

    def widen(self, size: int) -> None:
        """Let SQLite hold so many bytes of pages."""
        self.sql.execute(f"PRAGMA cache_size=-{size >> 10}")
        self.sql.execute("PRAGMA shrink_memory")

    def wal_bytes(self) -> int:
        try:
            return os.stat(self.path + "-wal").st_size
        except FileNotFoundError:
            return 0

    def close(self) -> None:
        """Commit, and bring everything to the main file."""
        if self.sql.in_transaction and not self.read_only:
            self.sql.execute("COMMIT")
        self.drop()

    def drop(self) -> None:
        """Let go without a commit."""
        if self._wal is not None:
            os.close(self._wal)
            self._wal = None
        self.sql.close()
        if self._main is not None:  # not before: that would end SQLite's locks, since they are the process's
            os.close(self._main)
            self._main = None


def check_sqlite(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> None:
    """Raise `SetupError` if this Python's SQLite is too old for strict tables."""
    if version < _LEAST_SQLITE:
        raise SetupError(
            f"this Python comes with SQLite {'.'.join(map(str, version))}; an index needs 3.37 or newer",
            hint="use another build of Python (python.org, uv, conda and Debian 12 have newer ones)",
        )


def _lacks_space(path: str, error: sqlite3.OperationalError) -> bool:
    """Whether SQLite failed for want of space, which it also calls an I/O error, and not for what is in the file."""
    return "disk is full" in str(error) or free_bytes(os.path.dirname(path)) < _LEAST_FREE


def _full(path: str) -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


def _connect(path: str, *, read_only: bool) -> sqlite3.Connection:
    # immutable: a published index is never written again, so a reader takes no locks and looks for no WAL
    uri = f"file:{quoted(path)}?{'mode=ro&immutable=1' if read_only else 'mode=rw'}"
    # The owner thread opens it, then may hand it over once: `check_same_thread` would forbid that.
    return sqlite3.connect(
        uri, uri=True, isolation_level=None, cached_statements=256, check_same_thread=False, timeout=0
    )


def guard(sql: sqlite3.Connection, *, attached: int = 0, longest: int = _LONGEST_CELL) -> None:
    """What makes a stranger's file harmless; the first of the pragmas reads it already. ``attached``: files beside it.

    ``longest``: bytes of a value, where greater ones are put together than any that an index has.

    Defensive mode and limits where this Python can set them (3.12, 3.11). They are a second wall: nothing of a file
    but rows of our own tables is ever run or used, see `_check`.
    """
    if sys.version_info >= (3, 12):
        sql.setconfig(sqlite3.SQLITE_DBCONFIG_DEFENSIVE, True)
        for off in (sqlite3.SQLITE_DBCONFIG_ENABLE_TRIGGER, sqlite3.SQLITE_DBCONFIG_ENABLE_VIEW):
            sql.setconfig(off, False)
    if sys.version_info >= (3, 11):
        sql.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, longest)
        sql.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, attached)
    for pragma in ("trusted_schema=OFF", "cell_size_check=ON", "mmap_size=0", f"cache_size=-{_CACHE_KIB}"):
        sql.execute(f"PRAGMA {pragma}")


def _tune(sql: sqlite3.Connection) -> None:
    for pragma in (
        "locking_mode=EXCLUSIVE",
        "journal_mode=WAL",
        "synchronous=NORMAL",  # the WAL is synced by whoever promises durability, see sync_fd
        "wal_autocheckpoint=0",
        "temp_store=MEMORY",
        "secure_delete=ON",  # a version is shared: names of deleted files must not linger on its free pages
    ):
        sql.execute(f"PRAGMA {pragma}").fetchone()


def _check(sql: sqlite3.Connection, path: str) -> None:
    (application,) = _one(sql, "PRAGMA application_id")
    (version,) = _one(sql, "PRAGMA user_version")
    if application != schema.APPLICATION_ID:
        raise IndexDamagedError(f"{path} is not an index of a volume", hint=_HINT)
    if version < 1:
        raise IndexDamagedError(f"{path} has index format {version}, which never was", hint=_HINT)
    if version > schema.FORMAT:
        raise NewerFormatError(
            f"the index has format {version}; this release reads format {schema.FORMAT}",
            hint="install a newer release of flyteplugins-vol",
        )
    # An index comes from elsewhere. Only our own tables, word for word, each on pages of its own: so no trigger, view,
    # virtual table, generated column or default expression of a stranger ever runs, and no table is another's rows.
    rows = sql.execute("SELECT type, name, tbl_name, sql, rootpage FROM sqlite_schema LIMIT 100").fetchall()
    pages = {row[4] for row in rows if isinstance(row[4], int) and row[4] > 1}
    if {row[:4] for row in rows} != _SCHEMA or len(rows) != len(_SCHEMA) or len(pages) != len(rows):
        raise IndexDamagedError(f"{path} has other tables than an index", hint=_HINT)


def _described(statement: str) -> tuple[str, str, str, str]:
    """Type, name, table and text of what a statement of the schema makes, as ``sqlite_schema`` has them."""
    words = statement.split()
    if words[1] == "TABLE":
        return "table", words[2], words[2], statement
    return "index", words[3], words[5], statement


_SCHEMA = {
    *map(_described, schema.create_statements()),
    ("index", "sqlite_autoindex_pack_1", "pack", None),  # of its UNIQUE
}


def _one(sql: sqlite3.Connection, statement: str) -> tuple[Any, ...]:
    return sql.execute(statement).fetchone()


def quoted(path: str) -> str:
    """A path as a part of SQLite's URIs."""
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
