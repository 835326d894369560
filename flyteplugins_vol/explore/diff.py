"""What changed between two versions: their two indexes side by side in SQLite, directory by directory.

Compared by path, so any two versions will do, of one line or not. A directory that came or went is one change, with
what is below it summed up. Content counts as changed when size or extents (blocks by hash) differ: nothing is read
from the store.
"""

from __future__ import annotations

import stat
from enum import Enum
from typing import NamedTuple

from flyteplugins_vol.explore.connection import IndexConnection
from flyteplugins_vol.model import ROOT_INO

_MASK = stat.S_IFMT(0xFFFF)


class Kind(Enum):
    ADDED = "+"
    REMOVED = "-"
    CONTENT = "~"
    ATTRIBUTES = "="  # mode, owner or time only


class Change(NamedTuple):
    """One path that differs. Sizes are bytes; of a directory the sum of what is below it, with its number of files."""

    path: bytes
    kind: Kind
    old_mode: int
    new_mode: int
    old_size: int
    new_size: int
    files: int

    @property
    def mode(self) -> int:
        return self.old_mode if self.kind is Kind.REMOVED else self.new_mode


class Summary(NamedTuple):
    """Number of files (and anything else but directories) and bytes, by kind; ``rows`` is the number of changes."""

    rows: int
    files: dict[Kind, int]
    added_bytes: int
    removed_bytes: int


class Diff:
    """The changes from an older index to a newer one. Compared in the connection's own thread by `open`."""

    def __init__(self, connection: IndexConnection, summary: Summary) -> None:
        self._db = connection
        self.summary = summary

    @classmethod
    async def open(cls, older: str, newer: str) -> Diff:
        """Compare two checked index files. A few seconds for a million names on each side."""
        db = await IndexConnection.open(older)
        try:
            await db.attach(newer, "new")
            for statement in _TABLES:
                await db.rows(statement)
            level = 0
            while True:
                for statement in _LEVEL:
                    await db.rows(statement, {"level": level})
                level += 1
                if not await db.row("SELECT 1 FROM pair WHERE level=? LIMIT 1", (level,)):
                    break
            for statement in _FINISH:
                await db.rows(statement)
            return cls(db, await _summary(db))
        except BaseException:
            await db.close()
            raise

    async def page(self, first: int, limit: int) -> list[Change]:
        """Changes in the order of their paths."""
        rows = await self._db.rows(
            "SELECT path, kind, old_mode, new_mode, old_size, new_size, files FROM result WHERE pos>? ORDER BY pos"
            " LIMIT ?",
            (first, limit),
        )
        return [Change(row[0], Kind(row[1]), row[2], row[3], int(row[4]), int(row[5]), int(row[6])) for row in rows]

    async def close(self) -> None:
        await self._db.close()


async def _summary(db: IndexConnection) -> Summary:
    rows = await db.rows(
        "SELECT kind, count(*), total(files), total(old_size), total(new_size) FROM result GROUP BY kind"
    )
    files = dict.fromkeys(Kind, 0)
    for kind, _, number, _, _ in rows:
        files[Kind(kind)] = int(number)
    return Summary(
        rows=sum(row[1] for row in rows),
        files=files,
        added_bytes=int(sum(row[4] for row in rows if row[0] == Kind.ADDED.value)),
        removed_bytes=int(sum(row[3] for row in rows if row[0] == Kind.REMOVED.value)),
    )


def _is_dir(column: str) -> str:
    return f"({column} & {_MASK}) = {stat.S_IFDIR}"


_TABLES = (
    # a: a directory of the older index; b: that of the same path in the newer one
    "CREATE TEMP TABLE pair (a INTEGER, b INTEGER, path BLOB, level INTEGER, PRIMARY KEY (a, b)) WITHOUT ROWID",
    "CREATE INDEX temp.pair_level ON pair (level)",
    """CREATE TEMP TABLE step (path BLOB, kind TEXT, old_ino INTEGER, new_ino INTEGER, old_mode INTEGER,
 new_mode INTEGER, old_size REAL, new_size REAL, same INTEGER, level INTEGER)""",
    "CREATE TEMP TABLE below (row INTEGER PRIMARY KEY, files REAL, bytes REAL)",
    """CREATE TEMP TABLE result (pos INTEGER PRIMARY KEY, path BLOB, kind TEXT, old_mode INTEGER, new_mode INTEGER,
 old_size REAL, new_size REAL, files REAL)""",
    f"INSERT INTO pair VALUES ({ROOT_INO}, {ROOT_INO}, x'', 0)",
)

_ATTRIBUTES = "i.mode=j.mode AND i.uid=j.uid AND i.gid=j.gid"
_SAME = f"{_ATTRIBUTES} AND i.size=j.size AND i.mtime=j.mtime AND i.target IS j.target"

_LEVEL = (
    # What the older side has: gone, changed, or a directory to go into (kind '/').
    f"""INSERT INTO step SELECT CAST(p.path || x'2f' || e.name AS BLOB),
 CASE WHEN f.ino IS NULL THEN '-' WHEN {_is_dir("i.mode")} AND {_is_dir("j.mode")} THEN '/' ELSE '~' END,
 e.ino, f.ino, i.mode, coalesce(j.mode, 0), i.size, coalesce(j.size, 0),
 CASE WHEN {_is_dir("i.mode")} THEN {_ATTRIBUTES} ELSE {_SAME} END, :level
 FROM pair p JOIN main.entry e ON e.parent=p.a JOIN main.inode i ON i.ino=e.ino
 LEFT JOIN new.entry f ON f.parent=p.b AND f.name=e.name LEFT JOIN new.inode j ON j.ino=f.ino
 WHERE p.level=:level AND (j.ino IS NULL OR {_is_dir("j.mode")} OR NOT ({_SAME} AND i.ctime=j.ctime))""",
    """INSERT INTO step SELECT CAST(p.path || x'2f' || f.name AS BLOB), '+', NULL, f.ino, 0, j.mode, 0, j.size,
 0, :level
 FROM pair p JOIN new.entry f ON f.parent=p.b JOIN new.inode j ON j.ino=f.ino
 LEFT JOIN main.entry e ON e.parent=p.a AND e.name=f.name WHERE p.level=:level AND e.ino IS NULL""",
    """INSERT OR IGNORE INTO pair SELECT old_ino, new_ino, path, :level + 1 FROM step
 WHERE level=:level AND kind='/'""",
)


def _extents(schema: str, ino: str) -> str:
    return (
        f"SELECT e.start, e.length, e.skip, b.hash FROM {schema}.extent e JOIN {schema}.block b ON b.id=e.block"
        f" WHERE e.ino={ino}"
    )


_IS_REGULAR_PAIR = f"(old_mode & {_MASK}) = {stat.S_IFREG} AND (new_mode & {_MASK}) = {stat.S_IFREG}"
_FINISH = (
    "DELETE FROM step WHERE kind='/' AND same",
    f"""UPDATE step SET kind='=' WHERE kind='/' OR (kind='~' AND {_IS_REGULAR_PAIR} AND old_size=new_size
 AND NOT EXISTS ({_extents("main", "old_ino")} EXCEPT {_extents("new", "new_ino")})
 AND NOT EXISTS ({_extents("new", "new_ino")} EXCEPT {_extents("main", "old_ino")}))""",
    "DELETE FROM step WHERE kind='=' AND same",  # only the time of the last change of status differs
    f"UPDATE step SET old_size=0, new_size=0 WHERE kind='=' AND {_is_dir('new_mode')}",
    *(
        f"""INSERT OR REPLACE INTO below WITH RECURSIVE d(row, ino) AS (
 SELECT rowid, {side}_ino FROM step WHERE {_is_dir(f"{side}_mode")} AND kind != '='
 UNION SELECT d.row, e.ino FROM d JOIN {schema}.entry e ON e.parent=d.ino JOIN {schema}.inode i ON i.ino=e.ino
 WHERE {_is_dir("i.mode")})
 SELECT d.row, total(NOT {_is_dir("i.mode")}), total(CASE WHEN (i.mode & {_MASK}) = {stat.S_IFREG} THEN i.size END)
 FROM d JOIN {schema}.entry e ON e.parent=d.ino JOIN {schema}.inode i ON i.ino=e.ino GROUP BY d.row"""
        for side, schema in (("old", "main"), ("new", "new"))
    ),
    *(
        f"""UPDATE step SET {side}_size=coalesce((SELECT bytes FROM below WHERE row=step.rowid), 0)
 WHERE {_is_dir(f"{side}_mode")} AND kind != '='"""
        for side in ("old", "new")
    ),
    f"""INSERT INTO result (path, kind, old_mode, new_mode, old_size, new_size, files)
 SELECT path, kind, old_mode, new_mode, old_size, new_size,
 CASE WHEN kind != '=' AND ({_is_dir("old_mode")} OR {_is_dir("new_mode")})
 THEN coalesce((SELECT files FROM below WHERE row=step.rowid), 0) ELSE 1 END
 FROM step ORDER BY path""",
)
