"""What differs between two published indexes of one volume: inodes, and names.

SQLite compares the two files in its own code, with the GIL released, so that a mount goes on being served meanwhile: of
volumes of a million files in seconds, whatever differs. Inodes are compared by number. Versions that come one after the
other number a file alike; where two lines have given one number to two files, all of them differs, and is found so.
"""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Iterator

from flyteplugins_vol.index.database import guard, quoted
from flyteplugins_vol.index.rows import damaged
from flyteplugins_vol.model import ROOT_INO

_IS_DIRECTORY = "({0}.mode & 0xf000) = 0x4000"
_BOTH_DIRECTORIES = f"({_IS_DIRECTORY.format('n')} AND {_IS_DIRECTORY.format('o')})"
_COLUMNS = ("mode", "nlink", "uid", "gid", "rdev", "size", "allocated", "mtime", "ctime", "parent", "target")
# Not the time of the last read: it alone is not worth a page cache.
_OTHER_ROW = "(" + " OR ".join(f"n.{column} IS NOT o.{column}" for column in _COLUMNS) + ")"


class Changes:
    """The differences from one index file to another. Any thread, one at a time; `close` it.

    ``files``: inodes of both that have other bytes, attributes or another type. ``directories``: directories of both
    that have other attributes. ``gone``: inodes of the first alone, ``gone_directories`` those of them, and of
    ``files``, that were directories. ``came``: inodes of the second alone. Each is in order.
    """

    def __init__(self, before: str, after: str) -> None:
        """Compare. Raises `IndexDamagedError`."""
        # an unnamed database: what does not fit in its memory goes to a scratch file
        self._sql = sqlite3.connect("", uri=True, isolation_level=None, check_same_thread=False)
        try:
            guard(self._sql, attached=2)
            for name, path in (("o", before), ("n", after)):
                self._sql.execute(f"ATTACH ? AS {name}", (f"file:{quoted(path)}?mode=ro&immutable=1",))
            self._compare()
        except sqlite3.DatabaseError as error:
            self._sql.close()
            damaged(str(error))
        except BaseException:
            self._sql.close()
            raise

    def names(self) -> Iterator[tuple[int, bytes]]:
        """Directory and name of each name that came, went, or leads to another inode or to one of ``files``.

        By directory, and of directories that both indexes have, which is where somebody can have looked.
        """
        yield from self._sql.execute(_NAMES)

    def gone_names(self) -> Iterator[tuple[int, bytes]]:
        """All names of each of ``gone_directories``."""
        yield from self._sql.execute("SELECT parent, name FROM lost JOIN o.entry ON parent = lost.ino ORDER BY parent")

    def root_names(self, before: int, after: int) -> Iterator[bytes]:
        """All names of a directory of the first index, and of one of the second."""
        rows = self._sql.execute(
            "SELECT name FROM o.entry WHERE parent=? UNION ALL SELECT name FROM n.entry WHERE parent=?", (before, after)
        )
        for (name,) in rows:
            yield name

    def close(self) -> None:
        self._sql.close()

    def _compare(self) -> None:
        for statement in _SCRATCH:
            self._sql.execute(statement)
        self.files = self._numbers("SELECT ino FROM changed ORDER BY ino")
        self.directories = self._numbers(
            f"SELECT n.ino FROM n.inode n JOIN o.inode o ON o.ino = n.ino WHERE {_BOTH_DIRECTORIES} AND {_OTHER_ROW}"
        )
        self.gone = self._numbers("SELECT ino FROM o.inode WHERE ino > 0 AND ino NOT IN (SELECT ino FROM n.inode)")
        self.gone_directories = self._numbers("SELECT ino FROM lost ORDER BY ino")
        self.came = self._numbers("SELECT ino FROM n.inode WHERE ino > 0 AND ino NOT IN (SELECT ino FROM o.inode)")

    def _numbers(self, query: str) -> array[int]:
        return array("Q", (row[0] for row in self._sql.execute(query)))


def _other_extents(first: str, second: str) -> str:
    """Inodes of both with an extent in the first that the second has not, of the same bytes at the same place."""
    return f"""INSERT OR IGNORE INTO changed SELECT e.ino FROM {first}.extent e
 LEFT JOIN {second}.extent f ON f.ino = e.ino AND f.start = e.start
 LEFT JOIN {first}.block b ON b.id = e.block LEFT JOIN {second}.block c ON c.id = f.block
 WHERE (f.length IS NOT e.length OR f.skip IS NOT e.skip OR c.hash IS NOT b.hash)
 AND e.ino > 0 AND e.ino IN (SELECT ino FROM {second}.inode)"""


_SCRATCH = (
    "CREATE TABLE changed (ino INTEGER PRIMARY KEY)",
    f"""INSERT INTO changed SELECT n.ino FROM n.inode n JOIN o.inode o ON o.ino = n.ino
 WHERE n.ino > {ROOT_INO} AND {_OTHER_ROW} AND NOT {_BOTH_DIRECTORIES}""",
    _other_extents("n", "o"),
    _other_extents("o", "n"),
    "CREATE TABLE lost (ino INTEGER PRIMARY KEY)",
    f"""INSERT INTO lost SELECT ino FROM o.inode o WHERE ino > 0 AND {_IS_DIRECTORY.format("o")}
 AND (ino NOT IN (SELECT ino FROM n.inode) OR ino IN (SELECT ino FROM changed))""",
)

_NAMES = f"""SELECT parent, name FROM (
 SELECT n.parent AS parent, n.name AS name FROM n.entry n
 LEFT JOIN o.entry o ON o.parent = n.parent AND o.name = n.name
 WHERE (o.ino IS NOT n.ino OR n.ino IN (SELECT ino FROM changed)) AND n.parent IN (SELECT ino FROM o.inode)
 UNION ALL
 SELECT o.parent, o.name FROM o.entry o LEFT JOIN n.entry n ON n.parent = o.parent AND n.name = o.name
 WHERE n.ino IS NULL AND o.parent IN (SELECT ino FROM n.inode n WHERE {_IS_DIRECTORY.format("n")}))
 ORDER BY parent"""
