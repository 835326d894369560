"""What becomes of versions that all began as one: their indexes, compared with that of the base, path by path.

A *side* is one of the versions, by its place in their order, from 0. What one side alone changed is taken from it, what
several made the same is taken once; what they made different is a conflict, which somebody decides. The unit is one
path: what a file has (content, mode, owner, extended attributes) is of one side. Times alone are no conflict.

The tree stays one: a directory goes only if no other side has something new in it, else that is a conflict as well.

Changes and decisions lie in a scratch database, so merging ten million files fills no memory.
"""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from enum import Enum
from itertools import groupby
from typing import NamedTuple

from flyteplugins_vol.index.database import guard
from flyteplugins_vol.index.difference import Difference, Kind
from flyteplugins_vol.index.index import Index
from flyteplugins_vol.index.rows import NAME_MAX, damaged
from flyteplugins_vol.index.state import state_of

BASE = -1
"""The place of the base, where sides have theirs."""

_PAGE = 1000
_LONGEST = 16 << 20  # bytes of a path


class Verb(Enum):
    """What is to be done at a path of the tree."""

    REMOVE = "remove"  # what is there, a directory with all below it
    FILE = "file"  # let the name lead to that file, which is no directory, whatever it led to
    DIRECTORY = "directory"  # make one with these attributes; one that is there gets them
    KEEP = "keep"  # make one with these attributes, if none is there
    ATTRIBUTES = "attributes"  # give those to the file that is there


class Act(NamedTuple):
    """One decision. ``ino``: of the index of ``side``, or of the base's. Acts come in an order: directories first.

    What was noted of it: the number ``new`` here, whether that is a file that has other names here (``is_link``), and
    times in nanoseconds since 1970.
    """

    number: int
    path: bytes
    verb: Verb
    side: int
    ino: int
    new: int
    is_link: bool
    atime: int
    mtime: int


class Conflict(NamedTuple):
    """A path that sides made different, and what each of them did; None: something below a directory.

    ``going``: those that take a directory away in which others have something.
    """

    path: bytes
    changes: tuple[tuple[int, Kind | None], ...]
    going: frozenset[int] = frozenset()


class _Row(NamedTuple):
    side: int
    kind: Kind
    time_only: bool
    old_ino: int
    new_ino: int
    old_mode: int
    new_mode: int

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.new_mode)


Choose = Callable[[Conflict], int]
"""Which side of a conflict wins: one of those that it names."""


class Merge:
    """The decisions about some sides. One thread, one at a time; `close` it."""

    def __init__(self, base: str, sides: Sequence[str]) -> None:
        """Compare published index files. Raises `IndexDamagedError`."""
        with ExitStack() as stack:
            # an unnamed database: what does not fit in its memory goes to a scratch file
            self._sql = stack.enter_context(
                closing(sqlite3.connect("", uri=True, isolation_level=None, check_same_thread=False))
            )
            guard(self._sql, longest=_LONGEST)
            for statement in _TABLES:
                self._sql.execute(statement)
            self.indexes: dict[int, Index] = {}
            for side, path in enumerate([base, *sides], BASE):
                self.indexes[side] = index = Index.open(path, read_only=True)
                stack.callback(index.close)
                _check_names(index)
                if side != BASE:
                    self._enter(side, base, path)
            self._acts: list[tuple[bytes, str, int, int]] = []
            self._closer = stack.pop_all()

    def close(self) -> None:
        self._closer.close()

    def decide(self, choose: Choose, *, present: int | None) -> None:
        """Decide about all paths; ``choose`` is asked about each conflict.

        ``present``: the side whose tree it is that the acts are done to; None: that is the base's.
        """
        going: bytes | None = None  # all below that prefix goes with the directory
        for key, rows in self._groups():
            if going is not None and key.startswith(going):
                continue
            going = None
            if self._decide(key, rows, choose, present):
                going = key + b"\0"
        self._write()

    def __len__(self) -> int:
        """How many acts there are."""
        return self._sql.execute("SELECT count(*) FROM act").fetchone()[0]

    def acts(self, side: int | None = None) -> Iterator[Act]:
        """What is to be done, in order; ``side``: what is taken from that alone."""
        only = "" if side is None else "side=:side AND"
        query = f"SELECT * FROM act WHERE {only} pos>:last ORDER BY pos LIMIT {_PAGE}"
        values = {"side": side, "last": 0}
        while rows := self._sql.execute(query, values).fetchall():
            for pos, key, verb, *rest in rows:
                yield Act(pos, path_of(key), Verb(verb), *rest)
            values["last"] = rows[-1][0]

    def new_below(self, path: bytes, going: set[int]) -> Iterator[tuple[bytes, int, Kind]]:
        """What would go with a directory that those sides take away, and no row of theirs says so: path, side, kind."""
        key = b"" if path == b"/" else path.replace(b"/", b"\0")
        marks = ",".join("?" * len(going))
        rows = self._sql.execute(
            f"""SELECT key, side, kind FROM change c WHERE key > ? AND key < ? AND kind != '-' AND NOT time_only
 AND side NOT IN ({marks}) AND NOT EXISTS (SELECT 1 FROM change d WHERE d.key=c.key AND d.side IN ({marks}))
 ORDER BY key, side""",
            (key + b"\0", key + b"\1", *going, *going),
        )
        for found, side, kind in rows:
            yield path_of(found), side, Kind(kind)

    def note(self, acts: Sequence[Act]) -> None:
        """Keep what is known of acts by now."""
        self._sql.executemany(
            "UPDATE act SET new=?, is_link=?, atime=?, mtime=? WHERE pos=?",
            [(act.new, act.is_link, act.atime, act.mtime, act.number) for act in acts],
        )

    # -- what there is ---------------------------------------------------------------------------------------------

    def _enter(self, side: int, base: str, path: str) -> None:
        with closing(Difference(base, path)) as found:
            rows = (
                (
                    b"" if step.path == b"/" else step.path.replace(b"/", b"\0"), side, step.kind.value,
                    step.time_only, step.old_ino, step.new_ino, step.old_mode, step.new_mode,
                )
                for step in found.steps()
            )  # fmt: skip
            try:
                self._sql.executemany("INSERT INTO change VALUES (?,?,?,?,?,?,?,?)", rows)
            except sqlite3.IntegrityError:
                damaged("a path is there twice")

    def _groups(self) -> Iterator[tuple[bytes, list[_Row]]]:
        """The changes of each path, in the order of a walk: a directory, what is in it, its next sibling."""
        for key, rows in groupby(self._rows(), lambda row: row[0]):
            yield key, [_Row(side, Kind(kind), bool(time_only), *rest) for _, side, kind, time_only, *rest in rows]

    def _rows(self) -> Iterator[tuple[bytes, int, str, int, int, int, int, int]]:
        key, side = b"", -1
        while rows := self._sql.execute(
            "SELECT * FROM change WHERE (key, side) > (?,?) ORDER BY key, side LIMIT ?", (key, side, _PAGE)
        ).fetchall():
            yield from rows
            key, side = rows[-1][:2]

    def _busy_below(self, key: bytes, going: set[int]) -> list[int]:
        """Sides but those that have something new below a directory, which would go with it."""
        rows = self._sql.execute(
            "SELECT DISTINCT side FROM change WHERE key > ? AND key < ? AND kind != '-' AND NOT time_only"
            " ORDER BY side",
            (key + b"\0", key + b"\1"),
        )
        return [side for (side,) in rows if side not in going]

    # -- what becomes of it ----------------------------------------------------------------------------------------

    def _decide(self, key: bytes, rows: list[_Row], choose: Choose, present: int | None) -> bool:
        """Decide about one path; whether all that is below it is decided as well."""
        changed = [row for row in rows if not row.time_only]
        if not changed:
            if rows[0].side != present:
                self._take(key, rows[0], present, whole=False)
            return False
        going = [row for row in changed if stat.S_ISDIR(row.old_mode) and not row.is_dir]
        below = self._busy_below(key, {row.side for row in going}) if going else []
        staying = [row for row in changed if row not in going] if going else []
        if going and (below or staying):
            changes = {**dict.fromkeys(below), **{row.side: row.kind for row in changed}}
            leaving = frozenset(row.side for row in going)
            winner = _chosen(choose, Conflict(path_of(key), tuple(sorted(changes.items())), leaving))
            if winner not in leaving:
                own = sorted(staying, key=lambda row: row.side != winner)
                if own and own[0].side != present:
                    self._act(key, Verb.DIRECTORY, own[0].side, own[0].new_ino)
                elif not own and present in leaving:
                    self._act(key, Verb.KEEP, BASE, going[0].old_ino)
                return False
            changed = [row for row in going if row.side == winner]
        won, alone = self._won(key, changed, choose)
        if won.side != present:
            self._take(key, won, present, whole=not alone)
        return not won.is_dir

    def _won(self, key: bytes, changed: list[_Row], choose: Choose) -> tuple[_Row, bool]:
        """The change that counts, and whether there was no other."""
        states = {row.side: self._state(row) for row in changed[1:]} if len(changed) > 1 else {}
        first = self._state(changed[0]) if states else None
        if all(state == first for state in states.values()):
            return changed[0], True
        winner = _chosen(choose, Conflict(path_of(key), tuple((row.side, row.kind) for row in changed)))
        return next(row for row in changed if row.side == winner), False

    def _state(self, row: _Row) -> bytes | None:
        return state_of(self.indexes[row.side], row.new_ino) if row.kind is not Kind.REMOVED else None

    def _take(self, key: bytes, row: _Row, present: int | None, *, whole: bool) -> None:
        """Let the path be what it is on a side. ``whole``: what is there now may be another file."""
        if row.kind is Kind.REMOVED:
            self._act(key, Verb.REMOVE, row.side, 0)
        elif row.is_dir:
            self._act(key, Verb.DIRECTORY, row.side, row.new_ino)
        elif row.kind is Kind.ATTRIBUTES and not whole and self._has_one_name(row, present):
            self._act(key, Verb.ATTRIBUTES, row.side, row.new_ino)
        else:
            self._act(key, Verb.FILE, row.side, row.new_ino)

    def _has_one_name(self, row: _Row, present: int | None) -> bool:
        """Whether attributes can be changed in place: no other name has them as well."""
        if present is not None:  # where that has the path, it is perhaps another inode, with other names
            return False
        before, after = self.indexes[BASE].inodes.get(row.old_ino), self.indexes[row.side].inodes.get(row.new_ino)
        return before is not None and after is not None and before.nlink == after.nlink == 1

    def _act(self, key: bytes, verb: Verb, side: int, ino: int) -> None:
        self._acts.append((key, verb.value, side, ino))
        if len(self._acts) >= _PAGE:
            self._write()

    def _write(self) -> None:
        self._sql.executemany("INSERT INTO act VALUES (NULL,?,?,?,?,0,0,0,0)", self._acts)
        self._acts.clear()
        for index in self.indexes.values():
            index.trim()


_TABLES = (
    # key: the path with NUL, which no name has, for '/': so what is in a directory comes right after it
    """CREATE TABLE change (key BLOB, side INTEGER, kind TEXT, time_only INTEGER, old_ino INTEGER, new_ino INTEGER,
 old_mode INTEGER, new_mode INTEGER, PRIMARY KEY (key, side)) WITHOUT ROWID""",
    """CREATE TABLE act (pos INTEGER PRIMARY KEY, key BLOB, verb TEXT, side INTEGER, ino INTEGER, new INTEGER,
 is_link INTEGER, atime INTEGER, mtime INTEGER)""",
    "CREATE INDEX act_side ON act (side)",
)


def _check_names(index: Index) -> None:
    """Raise `IndexDamagedError` for a name that would make a path another one: acts go by paths."""
    try:
        bad = index.db.sql.execute(_NO_NAME).fetchone()
    except sqlite3.DatabaseError as error:
        damaged(str(error))
    if bad is not None:
        damaged(f"{bad[0]!r} is no name of a file"[:200])


_NO_NAME = f"""SELECT name FROM entry WHERE typeof(name) != 'blob' OR length(name) NOT BETWEEN 1 AND {NAME_MAX}
 OR instr(name, x'2f') OR instr(name, x'00') OR name IN (x'2e', x'2e2e') LIMIT 1"""


def path_of(key: bytes) -> bytes:
    """The path of a key."""
    return key.replace(b"\0", b"/") or b"/"


def _chosen(choose: Choose, conflict: Conflict) -> int:
    chosen = choose(conflict)
    assert chosen in dict(conflict.changes)
    return chosen
