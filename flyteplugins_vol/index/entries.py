"""The names of directories. Straight to SQLite: a lookup or an insert in the open transaction costs 2 µs."""

from __future__ import annotations

from flyteplugins_vol.index.database import IndexDatabase


class EntryTable:
    def __init__(self, db: IndexDatabase) -> None:
        self._sql = db.sql

    def get(self, parent: int, name: bytes) -> int | None:
        row = self._sql.execute("SELECT ino FROM entry WHERE parent=? AND name=?", (parent, name)).fetchone()
        return None if row is None else row[0]

    def add(self, parent: int, name: bytes, ino: int) -> bool:
        """Add a name; False if it is there already, and nothing has changed."""
        return self._sql.execute("INSERT OR IGNORE INTO entry VALUES (?,?,?)", (parent, name, ino)).rowcount > 0

    def put(self, parent: int, name: bytes, ino: int) -> None:
        """Add a name, or let an existing one name another inode."""
        self._sql.execute("INSERT OR REPLACE INTO entry VALUES (?,?,?)", (parent, name, ino))

    def remove(self, parent: int, name: bytes) -> None:
        self._sql.execute("DELETE FROM entry WHERE parent=? AND name=?", (parent, name))

    def empty(self, parent: int) -> bool:
        return self._sql.execute("SELECT 1 FROM entry WHERE parent=? LIMIT 1", (parent,)).fetchone() is None

    def place_of(self, ino: int) -> tuple[int, bytes] | None:
        """A directory and the name in it that an inode has, by scanning all names (100 ms a million): for messages."""
        return self._sql.execute("SELECT parent, name FROM entry WHERE ino=? LIMIT 1", (ino,)).fetchone()

    def name_of(self, parent: int, ino: int) -> bytes | None:
        """A name of an inode in a directory, by scanning it: for messages."""
        row = self._sql.execute("SELECT name FROM entry WHERE parent=? AND ino=?", (parent, ino)).fetchone()
        return None if row is None else row[0]
