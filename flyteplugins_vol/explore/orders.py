"""Orders that the index has no table for: directories by size or time, and what lies below each directory.

Both live in temporary tables of one connection, made at the first question and kept: sorting 500,000 names takes
half a second once, and a page of the result a millisecond.
"""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from flyteplugins_vol.explore.connection import IndexConnection

_KEPT = 32  # sorted directories
_DEEPEST = 4096  # levels: a circle of directories in a damaged index ends there
_IS_DIR = f"(i.mode & {stat.S_IFMT(0xFFFF)}) = {stat.S_IFDIR}"
_IS_FILE = f"(i.mode & {stat.S_IFMT(0xFFFF)}) = {stat.S_IFREG}"


class SortKey(Enum):
    """The value is an SQL expression over an entry's inode ``i`` and its directory's sum ``u``."""

    SIZE = f"CASE WHEN {_IS_DIR} THEN coalesce(u.bytes, 0) ELSE i.size END"
    TIME = "i.mtime"


class Usage(NamedTuple):
    """What is below a directory: names of anything but directories, and bytes of regular files.

    A file with several names counts under each.
    """

    files: int
    bytes: int


class Orders:
    """Greatest first, names in byte order among equals."""

    def __init__(self, connection: IndexConnection) -> None:
        self._db = connection
        self._tables: dict[tuple[int, SortKey], str] = {}
        self._made = 0
        self._lock = asyncio.Lock()
        self._summed = False

    async def page(self, directory: int, key: SortKey, first: int, limit: int) -> list[tuple[bytes, int]]:
        """Names and inodes from position ``first`` on."""
        async with self._lock:
            table = await self._sorted(directory, key)
            rows = await self._db.rows(
                f"SELECT name, ino FROM {table} WHERE pos>? ORDER BY pos LIMIT ?", (first, limit)
            )
        return [(name, ino) for name, ino in rows]

    async def position(self, directory: int, key: SortKey, name: bytes) -> int | None:
        async with self._lock:
            table = await self._sorted(directory, key)
            row = await self._db.row(f"SELECT pos FROM {table} WHERE name=?", (name,))
        return row[0] - 1 if row else None

    async def usage(self, directories: Sequence[int]) -> dict[int, Usage]:
        async with self._lock:
            await self._sum_up()
            marks = ",".join("?" for _ in directories)
            rows = await self._db.rows(f"SELECT ino, files, bytes FROM usage WHERE ino IN ({marks})", directories)
        found = {ino: Usage(int(files), int(size)) for ino, files, size in rows}
        return {ino: found.get(ino, Usage(0, 0)) for ino in directories}

    async def _sorted(self, directory: int, key: SortKey) -> str:
        table = self._tables.get((directory, key))
        if table is None:
            await self._sum_up()
            if len(self._tables) >= _KEPT:
                await self._db.rows(f"DROP TABLE {self._tables.pop(next(iter(self._tables)))}")
            self._made += 1
            table = f"temp.order_{self._made}"
            await self._db.rows(f"CREATE TABLE {table} (pos INTEGER PRIMARY KEY, name BLOB, ino INTEGER)")
            await self._db.rows(
                f"INSERT INTO {table} (name, ino) SELECT e.name, e.ino FROM entry e LEFT JOIN inode i ON i.ino=e.ino"
                f" LEFT JOIN usage u ON u.ino=e.ino WHERE e.parent=? ORDER BY {key.value} DESC, e.name",
                (directory,),
            )
            self._tables[directory, key] = table
        return table

    async def _sum_up(self) -> None:
        """One pass over all names, then each directory's own sum added to all above it. Floats do not overflow."""
        if self._summed:
            return
        for statement in _SUMS:
            await self._db.rows(statement)
        self._summed = True


_SUMS = (
    "DROP TABLE IF EXISTS temp.own",  # left by a pass that was interrupted
    "DROP TABLE IF EXISTS temp.usage",
    f"""CREATE TEMP TABLE own AS SELECT e.parent AS ino, total(NOT {_IS_DIR}) AS files,
 total(CASE WHEN {_IS_FILE} THEN i.size END) AS bytes
 FROM entry e JOIN inode i ON i.ino=e.ino GROUP BY e.parent""",
    "CREATE TEMP TABLE usage (ino INTEGER PRIMARY KEY, files REAL, bytes REAL)",
    f"""INSERT INTO usage WITH RECURSIVE up(ino, files, bytes, depth) AS (
 SELECT ino, files, bytes, 0 FROM own
 UNION ALL SELECT i.parent, up.files, up.bytes, up.depth + 1 FROM up JOIN inode i ON i.ino=up.ino
 WHERE up.ino != i.parent AND up.depth < {_DEEPEST})
 SELECT ino, sum(files), sum(bytes) FROM up GROUP BY ino""",
    "DROP TABLE own",
)
