"""What versions share and what each has alone: their indexes, one after the other, entered into a scratch database.

Of each block and container (a pack, or an object with segments of indexes) it says which version has it, 0 if several
do, and whether others have it, versions that are not accounted for. It lies in a temporary file: 15 bytes a block.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import NamedTuple

from flyteplugins_vol.index.database import IndexDatabase, guard, quoted
from flyteplugins_vol.index.rows import damaged
from flyteplugins_vol.model import BLOCK_SIZE

_LARGEST = 30  # bits of an offset in a pack

_TABLES = (
    """CREATE TABLE container (number INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE, size INTEGER NOT NULL,
 version INTEGER NOT NULL, shared INTEGER NOT NULL DEFAULT 0)""",
    # place: number of the pack, then the offset in it
    """CREATE TABLE block (place INTEGER PRIMARY KEY, stored INTEGER NOT NULL, version INTEGER NOT NULL,
 shared INTEGER NOT NULL DEFAULT 0)""",
    "CREATE TABLE here (id INTEGER PRIMARY KEY, place INTEGER NOT NULL)",  # of the packs of the index that is entered
)
_SEVERAL = "DO UPDATE SET version=0 WHERE version NOT IN (0, excluded.version)"
_OUT_OF_BOUNDS = (  # or a sum, or a place, would be
    (
        "a pack is out of bounds",
        f"SELECT 1 FROM n.pack WHERE size NOT BETWEEN 1 AND 1 << {_LARGEST} OR length(name) != 32 LIMIT 1",
    ),
    (
        "a block is out of bounds",
        f"SELECT 1 FROM n.block WHERE stored NOT BETWEEN 1 AND {BLOCK_SIZE} OR offset >> {_LARGEST} != 0 LIMIT 1",
    ),
)
_HERE = f"""INSERT INTO here SELECT p.id, c.number << {_LARGEST} FROM n.pack p
 JOIN container c ON c.name=p.name"""


class Counted(NamedTuple):
    """Of one version: names, bytes of files, and bytes of all packs that it refers to."""

    files: int
    bytes: int
    packs: int


class Alone(NamedTuple):
    """Bytes of blocks that nobody else has, and of containers."""

    blocks: int
    containers: int


class Ledger:
    """Enter versions, numbered from 1; then others that they may share with; then ask. One thread; `close` it."""

    def __init__(self) -> None:
        # an unnamed database: what does not fit in its memory goes to a scratch file
        self._sql = sqlite3.connect("", uri=True, isolation_level=None, check_same_thread=False)
        guard(self._sql, attached=1)
        for statement in ("PRAGMA journal_mode=OFF", *_TABLES):
            self._sql.execute(statement)

    def enter(self, version: int, index: str, objects: Iterable[tuple[bytes, int]]) -> Counted:
        """Enter a version: its index file, and name and size of the objects that this lies in.

        Raises `IndexDamagedError`.
        """
        values = {"version": version}
        with self._attached(index):
            for what, query in _OUT_OF_BOUNDS:
                if self._sql.execute(query).fetchone() is not None:
                    damaged(what)
            self._sql.execute(
                f"""INSERT INTO container (name, size, version) SELECT name, size, :version FROM n.pack WHERE true
 ON CONFLICT (name) {_SEVERAL}""",
                values,
            )
            self._sql.executemany(
                f"INSERT INTO container (name, size, version) VALUES (?, ?, ?) ON CONFLICT (name) {_SEVERAL}",
                [(name, size, version) for name, size in objects],
            )
            self._sql.execute(_HERE)
            self._sql.execute(
                f"""INSERT INTO block (place, stored, version) SELECT h.place + b.offset, b.stored, :version
 FROM n.block b JOIN here h ON h.id=b.pack WHERE true ON CONFLICT (place) {_SEVERAL}""",
                values,
            )
            (packs,) = self._sql.execute("SELECT coalesce(sum(size), 0) FROM n.pack").fetchone()
            counters = dict(self._sql.execute("SELECT key, value FROM n.meta LIMIT 100").fetchall())
        files, size = counters.get("files", 0), counters.get("bytes", 0)
        if not (isinstance(files, int) and isinstance(size, int)):
            damaged("a counter is no number")
        return Counted(files, size % (1 << 64), packs)

    def share(self, index: str, objects: Iterable[tuple[bytes, int]]) -> None:
        """Note what another version has of that. Raises `IndexDamagedError`."""
        with self._attached(index):
            self._sql.execute("UPDATE container SET shared=1 WHERE name IN (SELECT name FROM n.pack)")
            self._sql.executemany("UPDATE container SET shared=1 WHERE name=?", [(name,) for name, _ in objects])
            self._sql.execute(_HERE)
            if self._sql.execute("SELECT 1 FROM here LIMIT 1").fetchone() is not None:
                self._sql.execute(
                    """UPDATE block SET shared=1 WHERE shared=0 AND place IN (SELECT h.place + b.offset
 FROM n.block b JOIN here h ON h.id=b.pack)"""
                )

    def alone(self) -> dict[int, Alone]:
        """What each version has alone, by number; under 0 what all versions together do."""
        found: dict[int, list[int]] = {}
        for column, query in enumerate(("SELECT version, stored FROM block", "SELECT version, size FROM container")):
            rows = self._sql.execute(
                f"SELECT version, sum({('stored', 'size')[column]}) FROM ({query} WHERE shared=0) GROUP BY version"
            )
            for version, size in rows:
                found.setdefault(version, [0, 0])[column] = size
        together = [sum(sizes[column] for sizes in found.values()) for column in (0, 1)]
        return {**{version: Alone(*sizes) for version, sizes in found.items()}, 0: Alone(*together)}

    def stored(self) -> int:
        """Bytes of all containers that the versions refer to."""
        return self._sql.execute("SELECT coalesce(sum(size), 0) FROM container").fetchone()[0]

    def close(self) -> None:
        self._sql.close()

    @contextmanager
    def _attached(self, index: str) -> Generator[None, None, None]:
        IndexDatabase.open(index, read_only=True).drop()  # it has our tables, and no others
        try:
            self._sql.execute("ATTACH ? AS n", (f"file:{quoted(index)}?mode=ro&immutable=1",))
            try:
                self._sql.execute("DELETE FROM here")
                yield
            finally:
                self._sql.execute("DETACH n")
        except (sqlite3.DatabaseError, OverflowError) as error:
            damaged(str(error))
