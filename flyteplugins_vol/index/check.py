"""Whether an index that came from a Store is one that a writer could have made.

Three depths, since a volume of a million files must be mounted in a moment:

- *On loading* (`check_published`): what takes no time for each file. Files up to 4 MiB are looked at completely, in
  some 50 ms, so nearly every stranger's index is refused before it is used.
- *At use*: `index.rows` checks every row that is loaded. Nothing relies on a row that was not.
- *Completely* (`check_completely`): every row and how they fit, 6 s for a million files.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable

from flyteplugins_vol.forked import no_fork
from flyteplugins_vol.index.database import IndexDatabase
from flyteplugins_vol.index.rows import (
    MAX_NUMBER,
    NAME_MAX,
    TARGET_MAX,
    XATTR_VALUE_MAX,
    XATTRS_MAX,
    damaged,
    inode_of,
)
from flyteplugins_vol.model import BLOCK_SIZE, ROOT_INO

COMPLETELY_BELOW = 4 << 20
"""Bytes of an index file up to which loading checks all of it."""

_MOST_ORPHANS = 1 << 20  # they are loaded at once; a writer removes its own when they are closed

_DIRECTORY = "(mode & 0xf000) = 0x4000"
_REGULAR = "(mode & 0xf000) = 0x8000"


def check_published(path: str) -> None:
    """Raise `IndexDamagedError` or `NewerFormatError` for an index that no version can have."""
    with no_fork():
        db = IndexDatabase.open(path, read_only=True)
        try:
            _check_heads(db.sql)
            if os.path.getsize(path) <= COMPLETELY_BELOW:
                _refuse_any(db.sql, _STRUCTURE)
        except sqlite3.DatabaseError as error:
            damaged(str(error))
        finally:
            db.drop()


def check_completely(path: str, *, counts: bool = True) -> None:
    """Raise `IndexDamagedError` for the first thing that is wrong anywhere in an index file.

    ``counts``: also sums and counters that nothing relies on.
    """
    db = IndexDatabase.open(path, read_only=True)
    try:
        _check_heads(db.sql)
        _refuse_any(db.sql, (*_STRUCTURE, *(_COUNTS if counts else ())))
    except sqlite3.DatabaseError as error:
        damaged(str(error))
    finally:
        db.drop()


def _check_heads(sql: sqlite3.Connection) -> None:
    """What is found without a look at every row: the root, the counters, and what must be empty or short."""
    if sql.execute("SELECT 1 FROM staged LIMIT 1").fetchone() is not None:
        damaged("it has staged extents")  # we would read local files of its choice
    if sql.execute("SELECT count(*) FROM (SELECT 1 FROM orphan LIMIT ?)", (_MOST_ORPHANS + 1,)).fetchone()[0] > (
        _MOST_ORPHANS
    ):
        damaged("it has more than a million orphans")
    row = sql.execute("SELECT * FROM inode WHERE ino=?", (ROOT_INO,)).fetchone()
    if row is None:
        damaged("it has no root")
    root = inode_of(*row)
    if not root.is_dir or root.parent != ROOT_INO or root.nlink < 2:
        damaged("its root is no directory")
    counters = dict(sql.execute("SELECT key, value FROM meta LIMIT 100").fetchall())
    for key, table, column in _NUMBERED:
        (last,) = sql.execute(f"SELECT coalesce(max({column}), 0) FROM {table}").fetchone()
        following = counters.get(key, 1)
        if not isinstance(following, int) or not last < following < MAX_NUMBER:
            damaged(f"{key} is {str(following)[:40]}, and the highest number is {last}")


_NUMBERED = (("next_ino", "inode", "ino"), ("next_block", "block", "id"), ("next_pack", "pack", "id"))


def _refuse_any(sql: sqlite3.Connection, queries: Iterable[tuple[str, str]]) -> None:
    (found,) = sql.execute("PRAGMA quick_check(1)").fetchone()  # pages, and the type of every cell
    if found != "ok":
        damaged(str(found).replace("\n", " "))
    for what, query in queries:
        if sql.execute(f"{query} LIMIT 1").fetchone() is not None:
            damaged(what)


# Each query finds what must not be there.
_STRUCTURE = (
    (
        "an inode is out of bounds",
        f"""SELECT 1 FROM inode WHERE ino NOT BETWEEN 1 AND {MAX_NUMBER - 1} OR size < 0 OR allocated < 0
 OR mode NOT BETWEEN 0 AND 0xffff OR mode >> 12 NOT IN (1, 2, 4, 6, 8, 10, 12) OR nlink NOT BETWEEN 0 AND 0xffffffff
 OR uid NOT BETWEEN 0 AND 0xffffffff OR gid NOT BETWEEN 0 AND 0xffffffff OR rdev NOT BETWEEN 0 AND 0xffffffff
 OR CASE WHEN {_DIRECTORY} THEN parent < 1 ELSE parent != 0 END
 OR CASE mode >> 12 WHEN 10 THEN target IS NULL OR length(target) NOT BETWEEN 1 AND {TARGET_MAX}
 OR length(target) != size OR instr(target, x'00') ELSE target IS NOT NULL END""",
    ),
    (
        "a name is none",
        f"""SELECT 1 FROM entry WHERE length(name) NOT BETWEEN 1 AND {NAME_MAX} OR instr(name, x'2f')
 OR instr(name, x'00') OR name IN (x'2e', x'2e2e')""",
    ),
    (
        "a name leads nowhere, or is in no directory",
        f"""SELECT 1 FROM entry e LEFT JOIN inode i ON i.ino = e.ino LEFT JOIN inode p ON p.ino = e.parent
 WHERE i.ino IS NULL OR i.nlink = 0 OR i.ino = {ROOT_INO} OR p.nlink IS NULL OR p.nlink = 0
 OR (p.mode & 0xf000) != 0x4000 OR i.parent NOT IN (0, e.parent)""",
    ),
    (
        "a file has another number of names than it says",
        f"""SELECT 1 FROM inode LEFT JOIN (SELECT ino AS of, count(*) AS names FROM entry GROUP BY ino) ON of = ino
 WHERE coalesce(names, 0) != CASE WHEN {_DIRECTORY} THEN nlink > 0 AND ino != {ROOT_INO} ELSE nlink END""",
    ),
    (
        "a directory has another number of subdirectories than it says",
        f"""SELECT 1 FROM inode LEFT JOIN (SELECT parent AS above, count(*) AS below FROM inode
 WHERE {_DIRECTORY} AND nlink > 0 AND ino != {ROOT_INO} GROUP BY parent) ON above = ino
 WHERE {_DIRECTORY} AND nlink NOT IN (0, 2 + coalesce(below, 0))""",
    ),
    (
        # every directory has one name, so one that the walk does not reach is below itself
        "a directory is below itself",
        f"""WITH RECURSIVE reached(ino) AS (SELECT {ROOT_INO} UNION SELECT i.ino FROM reached r
 JOIN entry e ON e.parent = r.ino JOIN inode i ON i.ino = e.ino WHERE (i.mode & 0xf000) = 0x4000)
 SELECT 1 FROM inode WHERE {_DIRECTORY} AND nlink > 0 AND ino NOT IN (SELECT ino FROM reached)""",
    ),
    (
        "orphans are other inodes than those without a name",
        "SELECT 1 FROM inode WHERE (nlink = 0) != (ino IN (SELECT ino FROM orphan))",
    ),
    ("an orphan is not there", "SELECT 1 FROM orphan WHERE ino NOT IN (SELECT ino FROM inode)"),
    (
        "an extent is out of bounds",
        f"""SELECT 1 FROM extent WHERE start < 0 OR length NOT BETWEEN 1 AND {BLOCK_SIZE} OR skip < 0
 OR start / {BLOCK_SIZE} != (start + (length - 1)) / {BLOCK_SIZE}""",
    ),
    (
        "an extent is of no file, or outside of it",
        f"""SELECT 1 FROM extent e LEFT JOIN inode i ON i.ino = e.ino
 WHERE coalesce({_REGULAR.replace("mode", "i.mode")}, 0) = 0 OR e.start > i.size - e.length""",
    ),
    (
        "extents overlap",
        """SELECT 1 FROM (SELECT start, lag(start + length) OVER (PARTITION BY ino ORDER BY start) AS before
 FROM extent) WHERE before > start""",
    ),
    (
        "an extent is outside of its block",
        """SELECT 1 FROM extent e LEFT JOIN block b ON b.id = e.block
 WHERE b.id IS NULL OR e.skip > b.size - e.length""",
    ),
    (
        "a block is out of bounds",
        f"""SELECT 1 FROM block b LEFT JOIN pack p ON p.id = b.pack WHERE p.id IS NULL OR b.id < 1
 OR length(b.hash) != 32 OR length(p.name) != 32 OR p.id < 1 OR p.size NOT BETWEEN 1 AND 1 << 30
 OR b.size NOT BETWEEN 1 AND {BLOCK_SIZE} OR b.stored NOT BETWEEN 1 AND b.size OR b.codec NOT IN (0, 1)
 OR (b.codec = 0 AND b.stored != b.size) OR b.offset < 16 OR b.offset > p.size - b.stored - 84
 OR b.at NOT BETWEEN 0 AND (1 << 42) - b.size""",
    ),
    (
        "an extended attribute is out of bounds",
        f"""SELECT 1 FROM xattr WHERE ino NOT IN (SELECT ino FROM inode) OR length(name) NOT BETWEEN 1 AND {NAME_MAX}
 OR instr(name, x'00') OR length(value) > {XATTR_VALUE_MAX}""",
    ),
    ("a file has too many extended attributes", f"SELECT 1 FROM xattr GROUP BY ino HAVING count(*) > {XATTRS_MAX}"),
)

_COUNTS = (
    (
        "a file covers other bytes than it says",
        """SELECT 1 FROM inode LEFT JOIN (SELECT ino AS of, sum(length) AS bytes FROM extent GROUP BY ino) ON of = ino
 WHERE allocated != coalesce(bytes, 0)""",
    ),
    (
        "a block is named by another number of extents than it says",
        """SELECT 1 FROM block LEFT JOIN (SELECT block AS of, count(*) AS times FROM extent GROUP BY block) ON of = id
 WHERE refs != coalesce(times, 0) OR refs < 1""",
    ),
    (
        "a pack has another number of blocks than it says",
        """SELECT 1 FROM pack LEFT JOIN (SELECT pack AS of, count(*) AS found FROM block GROUP BY pack) ON of = id
 WHERE blocks != coalesce(found, 0) OR blocks < 1""",
    ),
    (
        "the number of files is another than it says",
        "SELECT 1 FROM meta WHERE key = 'files' AND value != (SELECT count(*) FROM inode WHERE nlink > 0)",
    ),
)
