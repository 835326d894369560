"""What changed between two versions: their two indexes side by side in SQLite, directory by directory.

Compared by path, so any two versions will do, of one line or not, of one store or not. Content counts as changed when
size or extents (blocks by hash) differ, of a symlink its target, of a device its number: nothing is read from the
store. `index.changes` compares by inode numbers, for mounts that go from one version to another.

`compare` only says which statements to run, so that it can be driven from a thread that blocks and from one that does
not. Everything lies in temporary tables, which go to files: a difference of ten million names fills no memory.
"""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Callable, Generator, Iterator, Mapping
from enum import Enum
from math import isfinite
from typing import Any, NamedTuple, TypeAlias

from flyteplugins_vol.index.database import guard, quoted
from flyteplugins_vol.index.rows import damaged
from flyteplugins_vol.model import ROOT_INO

Row: TypeAlias = "tuple[Any, ...]"

_MASK = stat.S_IFMT(0xFFFF)
_PAGE = 1000  # changes
_LONGEST_PATH = 16 << 20  # bytes; of a tree of 60,000 levels with the longest names


class Kind(Enum):
    ADDED = "+"
    REMOVED = "-"
    CONTENT = "~"  # or another type of file
    ATTRIBUTES = "="  # mode, owner, time or extended attributes only


class Change(NamedTuple):
    """One path that differs. Sizes are bytes, modes have the type in them; 0 for what is not there.

    Of a directory that came or went and stands for all below it: the sum of that, with its number of ``files``.
    """

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


class Step(NamedTuple):
    """A change with the inodes of both sides, 0 for what is not there; of a file whose time alone differs with that."""

    path: bytes
    kind: Kind
    time_only: bool
    old_ino: int
    new_ino: int
    old_mode: int
    new_mode: int


class Summary(NamedTuple):
    """Number of files (and anything else but directories that came or went) and bytes, by kind.

    ``rows`` is the number of changes.
    """

    rows: int
    files: Mapping[Kind, int]
    old_bytes: Mapping[Kind, int]
    new_bytes: Mapping[Kind, int]

    @property
    def added_bytes(self) -> int:
        return self.new_bytes[Kind.ADDED]

    @property
    def removed_bytes(self) -> int:
        return self.old_bytes[Kind.REMOVED]


class Difference:
    """The changes from an older index to a newer one, one for each path. Any thread, one at a time; `close` it."""

    def __init__(self, older: str, newer: str) -> None:
        """Compare two published index files: a few seconds for a million names. Raises `IndexDamagedError`."""
        self._sql = sqlite3.connect(_uri(older), uri=True, isolation_level=None, check_same_thread=False)
        try:
            guard(self._sql, attached=1, longest=_LONGEST_PATH)
            self._sql.execute("PRAGMA temp_store=FILE")
            self._sql.execute("ATTACH ? AS new", (_uri(newer),))
            self.summary = self._compare()
        except sqlite3.DatabaseError as error:
            self._sql.close()
            damaged(str(error))
        except BaseException:
            self._sql.close()
            raise

    def __iter__(self) -> Iterator[Change]:
        """In the order of their paths, as bytes."""
        at = 0
        while rows := self._sql.execute(PAGE, (at, _PAGE)).fetchall():
            yield from map(change_of, rows)
            at += len(rows)

    def steps(self) -> Iterator[Step]:
        """The same by inodes, in no order. Raises `IndexDamagedError`."""
        at = 0
        while rows := self._sql.execute(_STEPS, (at, _PAGE)).fetchall():
            for at, path, kind, time_only, *numbers in rows:  # noqa: B007 - the last one is where to go on
                if not isinstance(path, bytes) or not all(isinstance(number, int) for number in numbers):
                    damaged("a name or a mode is none")
                yield Step(path, Kind(kind), bool(time_only), *numbers)

    def close(self) -> None:
        self._sql.close()

    def _compare(self) -> Summary:
        steps = compare(whole=True)
        statement, values = next(steps)
        while True:
            try:
                statement, values = steps.send(self._sql.execute(statement, values).fetchall())
            except StopIteration as end:
                return end.value


def compare(*, whole: bool = False) -> Generator[tuple[str, Mapping[str, int]], list[Row], Summary]:
    """The statements that compare, to be run one after the other, each with what is to be sent in of it: its rows.

    The older index is the schema ``main`` of the connection, the newer one ``new``; `PAGE` reads what was found. A
    directory that came or went is one change, with what is below it summed up; ``whole``: one for each path.
    """
    for statement in _TABLES:
        yield statement, {}
    level = 0
    while True:
        ((last,),) = yield "SELECT coalesce(max(rowid), 0) FROM step", {}
        for statement in (*_LEVEL, _INTO_ALL if whole else _INTO_COMMON):
            yield statement, {"level": level, "last": last}
        level += 1
        if not (yield "SELECT 1 FROM pair WHERE level=:level LIMIT 1", {"level": level}):
            break
    for statement in (*_FINISH, *(() if whole else _SUM_UP), _RESULT_WHOLE if whole else _RESULT):
        yield statement, {}
    rows = yield (
        "SELECT kind, count(*), total(files), total(old_size), total(new_size) FROM result GROUP BY kind",
        {},
    )
    return _summary(rows)


PAGE = "SELECT path, kind, old_mode, new_mode, old_size, new_size, files FROM result WHERE pos>? ORDER BY pos LIMIT ?"
"""Changes in the order of their paths. Values: the number of those before, and the most to read."""


def change_of(row: Row) -> Change:
    """The change of a row of `PAGE`. Raises `IndexDamagedError`: an index may have anything in its cells."""
    path, kind, *numbers = row
    if not isinstance(path, bytes) or not all(isinstance(mode, int) for mode in numbers[:2]):
        damaged("a name or a mode is none")
    return Change(path, Kind(kind), *map(_number, numbers))


def _summary(rows: list[Row]) -> Summary:
    files, old, new = (dict.fromkeys(Kind, 0) for _ in range(3))
    for value, _, *numbers in rows:
        kind = Kind(value)
        files[kind], old[kind], new[kind] = map(_number, numbers)
    return Summary(sum(row[1] for row in rows), files, old, new)


def _number(value: float) -> int:
    if not isinstance(value, (int, float)) or not isfinite(value):  # pyright: ignore[reportUnnecessaryIsInstance]
        damaged("a size is no number")
    return int(value)


def _uri(path: str) -> str:
    return f"file:{quoted(path)}?mode=ro&immutable=1"


def _is_dir(column: str) -> str:
    return f"({column} & {_MASK}) = {stat.S_IFDIR}"


_TABLES = (
    # a: a directory of the older index; b: that of the same path in the newer one; 0: there is none
    "CREATE TEMP TABLE pair (a INTEGER, b INTEGER, path BLOB, level INTEGER, PRIMARY KEY (a, b)) WITHOUT ROWID",
    "CREATE INDEX temp.pair_level ON pair (level)",
    """CREATE TEMP TABLE step (path BLOB, kind TEXT, old_ino INTEGER, new_ino INTEGER, old_mode INTEGER,
 new_mode INTEGER, old_size REAL, new_size REAL, same INTEGER)""",
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
 CASE WHEN {_is_dir("i.mode")} THEN {_ATTRIBUTES} ELSE {_SAME} END
 FROM pair p JOIN main.entry e ON e.parent=p.a JOIN main.inode i ON i.ino=e.ino
 LEFT JOIN new.entry f ON f.parent=p.b AND f.name=e.name LEFT JOIN new.inode j ON j.ino=f.ino
 WHERE p.level=:level AND (j.ino IS NULL OR {_is_dir("j.mode")} OR NOT ({_SAME} AND i.ctime=j.ctime))""",
    """INSERT INTO step SELECT CAST(p.path || x'2f' || f.name AS BLOB), '+', NULL, f.ino, 0, j.mode, 0, j.size, 0
 FROM pair p JOIN new.entry f ON f.parent=p.b JOIN new.inode j ON j.ino=f.ino
 LEFT JOIN main.entry e ON e.parent=p.a AND e.name=f.name WHERE p.level=:level AND e.ino IS NULL""",
)
_INTO_COMMON = """INSERT OR IGNORE INTO pair SELECT old_ino, new_ino, path, :level + 1 FROM step
 WHERE rowid>:last AND kind='/'"""
_INTO_ALL = f"""INSERT OR IGNORE INTO pair SELECT CASE WHEN {_is_dir("old_mode")} THEN old_ino ELSE 0 END,
 CASE WHEN {_is_dir("new_mode")} THEN new_ino ELSE 0 END, path, :level + 1 FROM step
 WHERE rowid>:last AND ({_is_dir("old_mode")} OR {_is_dir("new_mode")})"""


def _extents(schema: str, ino: str) -> str:
    return (
        f"SELECT e.start, e.length, e.skip, b.hash FROM {schema}.extent e JOIN {schema}.block b ON b.id=e.block"
        f" WHERE e.ino={ino}"
    )


def _differ(query: Callable[[str, str], str], *, negate: str = "") -> str:
    """Whether a query of schema and inode has other rows on the two sides."""
    old, new = query("main", "old_ino"), query("new", "new_ino")
    return f"{negate}(EXISTS ({old} EXCEPT {new}) OR EXISTS ({new} EXCEPT {old}))"


def _xattrs(schema: str, ino: str) -> str:
    return f"SELECT name, value FROM {schema}.xattr WHERE ino={ino}"


def _special(schema: str, ino: str) -> str:
    return f"SELECT target, rdev FROM {schema}.inode WHERE ino={ino}"


_IS_REGULAR_PAIR = f"(old_mode & {_MASK}) = {stat.S_IFREG} AND (new_mode & {_MASK}) = {stat.S_IFREG}"
_FINISH = (
    f"""INSERT INTO step SELECT x'2f', '/', i.ino, j.ino, i.mode, j.mode, 0, 0, {_ATTRIBUTES}
 FROM main.inode i JOIN new.inode j ON i.ino={ROOT_INO} AND j.ino={ROOT_INO}""",
    f"DELETE FROM step WHERE kind='/' AND same AND {_differ(_xattrs, negate='NOT ')}",
    f"""UPDATE step SET kind='=' WHERE kind='/' OR (kind='~' AND (old_mode & {_MASK}) = (new_mode & {_MASK})
 AND CASE WHEN {_IS_REGULAR_PAIR} THEN old_size=new_size AND {_differ(_extents, negate="NOT ")}
 ELSE {_differ(_special, negate="NOT ")} END)""",
    # only the time of the last change of status differs
    f"DELETE FROM step WHERE kind='=' AND same AND {_differ(_xattrs, negate='NOT ')}",
    f"UPDATE step SET old_size=0, new_size=0 WHERE {_is_dir('old_mode')} AND {_is_dir('new_mode')}",
)
_SUM_UP = (
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
)
_EITHER_IS_DIR = f"({_is_dir('old_mode')} OR {_is_dir('new_mode')})"


_STEPS = f"""SELECT s.rowid, s.path, s.kind,
 s.kind='=' AND {_ATTRIBUTES} AND {_differ(_xattrs, negate="NOT ")},
 coalesce(s.old_ino, 0), coalesce(s.new_ino, 0), s.old_mode, s.new_mode
 FROM step s LEFT JOIN main.inode i ON i.ino=s.old_ino LEFT JOIN new.inode j ON j.ino=s.new_ino
 WHERE s.rowid>? ORDER BY s.rowid LIMIT ?"""


def _result(files: str) -> str:
    return f"""INSERT INTO result (path, kind, old_mode, new_mode, old_size, new_size, files)
 SELECT path, kind, old_mode, new_mode, old_size, new_size, {files} FROM step ORDER BY path"""


_RESULT = _result(
    f"""CASE WHEN kind != '=' AND {_EITHER_IS_DIR}
 THEN coalesce((SELECT files FROM below WHERE row=step.rowid), 0) ELSE 1 END"""
)
_RESULT_WHOLE = _result(f"NOT (kind IN ('+', '-') AND {_EITHER_IS_DIR})")
