"""Extended attributes by inode and name."""

from __future__ import annotations

from flyteplugins_vol.index.database import IndexDatabase
from flyteplugins_vol.index.rows import XATTRS_MAX, check_xattr_names, check_xattr_value


class XattrTable:
    def __init__(self, db: IndexDatabase) -> None:
        self._sql = db.sql

    def any(self) -> bool:
        """Whether the volume has extended attributes at all."""
        return self._sql.execute("SELECT 1 FROM xattr LIMIT 1").fetchone() is not None

    def get(self, ino: int, name: bytes) -> bytes | None:
        row = self._sql.execute("SELECT value FROM xattr WHERE ino=? AND name=?", (ino, name)).fetchone()
        if row is None:
            return None
        check_xattr_value(row[0], ino)
        return row[0]

    def names(self, ino: int) -> list[bytes]:
        rows = self._sql.execute("SELECT name FROM xattr WHERE ino=? ORDER BY name LIMIT ?", (ino, XATTRS_MAX + 1))
        names = [row[0] for row in rows]
        check_xattr_names(names, ino)
        return names

    def put(self, ino: int, name: bytes, value: bytes) -> None:
        self._sql.execute("INSERT OR REPLACE INTO xattr VALUES (?,?,?)", (ino, name, value))

    def remove(self, ino: int, name: bytes) -> bool:
        return self._sql.execute("DELETE FROM xattr WHERE ino=? AND name=?", (ino, name)).rowcount > 0

    def remove_all(self, ino: int) -> None:
        self._sql.execute("DELETE FROM xattr WHERE ino=?", (ino,))
