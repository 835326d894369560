"""What a screen asks of an index: pages of a directory in any order, counts, sizes, facts about one file.

Three connections, so that nothing quick waits for something slow: one answers pages in the order of names (the order
of the table, a millisecond wherever in a million names), one sorts by size or time and sums up directories, one
searches.
"""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any, NamedTuple

from flyteplugins_vol.explore.connection import IndexConnection, check_index_file
from flyteplugins_vol.explore.names import joined
from flyteplugins_vol.explore.orders import Orders, SortKey, Usage
from flyteplugins_vol.explore.search import Found, Search
from flyteplugins_vol.model import ROOT_INO

__all__ = ["Entry", "Facts", "IndexReader", "Sort", "SortKey", "Totals", "Usage"]

PAGE = 256
"""Names in a page: what a screen shows, several times over, in one trip to SQLite's thread."""


class Entry(NamedTuple):
    """A name in a directory and what it names. Sizes are bytes, times nanoseconds since 1970."""

    name: bytes
    ino: int
    mode: int
    nlink: int
    uid: int
    gid: int
    size: int
    allocated: int
    mtime: int
    target: bytes | None

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)


class Sort(Enum):
    """Orders of a directory; the value is what the header says."""

    NAME = "name"
    SIZE = "size"
    TIME = "modified"

    @property
    def key(self) -> SortKey | None:
        """What `Orders` is asked for; None: the order of the table itself."""
        return {Sort.NAME: None, Sort.SIZE: SortKey.SIZE, Sort.TIME: SortKey.TIME}[self]


class Totals(NamedTuple):
    """Files of any type (the root left out) and bytes of a whole version."""

    files: int
    bytes: int


class Facts(NamedTuple):
    """How the store keeps one file."""

    extents: int
    blocks: int
    packs: int
    staged: int  # bytes that are not in the store yet
    xattrs: tuple[bytes, ...]


_COLUMNS = (
    "coalesce(i.mode,0), coalesce(i.nlink,0), coalesce(i.uid,0), coalesce(i.gid,0), coalesce(i.size,0), "
    "coalesce(i.allocated,0), coalesce(i.mtime,0), i.target"
)
# The inner query walks names only: rows that OFFSET skips cost no look at their inodes.
_BY_NAME = f"""SELECT e.name, e.ino, {_COLUMNS} FROM
 (SELECT name, ino FROM entry WHERE parent=? AND name>=? ORDER BY name LIMIT ? OFFSET ?) e
 LEFT JOIN inode i ON i.ino=e.ino ORDER BY e.name"""


class IndexReader:
    """One open index. Every method is async and safe to call from any task of the loop that opened it."""

    def __init__(self, path: str, quick: IndexConnection, slow: IndexConnection, seeker: IndexConnection) -> None:
        self.path = path
        self._quick = quick
        self._orders = Orders(slow)
        self._search = Search(seeker)
        self._connections = (quick, slow, seeker)
        self._anchors: dict[int, dict[int, bytes]] = {}  # directory → number of a page → its first name
        self._paths: dict[int, tuple[bytes, ...]] = {ROOT_INO: ()}

    @classmethod
    async def open(cls, path: str) -> IndexReader:
        """Raises `UsageError`, `IndexDamagedError`, `NewerFormatError`."""
        await asyncio.to_thread(check_index_file, path)
        return cls(path, *[await IndexConnection.open(path) for _ in range(3)])

    async def close(self) -> None:
        for connection in self._connections:
            await connection.close()

    # -- directories -----------------------------------------------------------------------------------------------

    async def totals(self) -> Totals:
        found = dict(await self._quick.rows("SELECT key, value FROM meta"))
        return Totals(max(0, found.get("files", 1) - 1), found.get("bytes", 0) % (1 << 64))

    async def count(self, directory: int) -> int:
        """Number of names in it."""
        row = await self._quick.row("SELECT count(*) FROM entry WHERE parent=?", (directory,))
        return row[0] if row else 0

    async def page(self, directory: int, number: int, sort: Sort = Sort.NAME) -> list[Entry]:
        """Names ``number * PAGE`` to ``(number + 1) * PAGE`` of a directory; fewer at its end."""
        if sort.key is None:
            return await self._page_by_name(directory, number)
        pairs = await self._orders.page(directory, sort.key, number * PAGE, PAGE)
        return await self._entries(pairs)

    async def position(self, directory: int, name: bytes, sort: Sort = Sort.NAME) -> int | None:
        """Which of the directory's names this is, counted from 0 in that order; None if it has no such name."""
        if sort.key is not None:
            return await self._orders.position(directory, sort.key, name)
        row = await self._quick.row(
            "SELECT (SELECT count(*) FROM entry WHERE parent=?1 AND name<?2) FROM entry WHERE parent=?1 AND name=?2",
            (directory, name),
        )
        return row[0] if row else None

    async def entry(self, directory: int, name: bytes) -> Entry | None:
        row = await self._quick.row(
            f"SELECT e.name, e.ino, {_COLUMNS} FROM entry e LEFT JOIN inode i ON i.ino=e.ino"
            " WHERE e.parent=? AND e.name=?",
            (directory, name),
        )
        return Entry(*row) if row else None

    async def walk(self, path: Sequence[bytes]) -> list[Entry]:
        """The entries that a path leads through, as far as it leads."""
        directory, found = ROOT_INO, list[Entry]()
        for name in path:
            entry = await self.entry(directory, name)
            if entry is None:
                break
            found.append(entry)
            directory = entry.ino
        return found

    async def usage(self, directories: Sequence[int]) -> dict[int, Usage]:
        """Files and bytes below each directory. The first call sums up the whole volume: a second for a million."""
        return await self._orders.usage(directories)

    async def _page_by_name(self, directory: int, number: int) -> list[Entry]:
        anchors = self._anchors.setdefault(directory, {0: b""})
        near = max(page for page in anchors if page <= number)
        rows = await self._quick.rows(_BY_NAME, (directory, anchors[near], PAGE, (number - near) * PAGE))
        if rows:
            anchors[number] = rows[0][0]
        return [Entry(*row) for row in rows]

    async def _entries(self, pairs: Sequence[tuple[bytes, int]]) -> list[Entry]:
        inodes = {ino for _, ino in pairs}
        rows = await self._quick.rows(
            f"SELECT i.ino, {_COLUMNS} FROM inode i WHERE i.ino IN ({_marks(inodes)})", list(inodes)
        )
        known = {row[0]: row[1:] for row in rows}
        nothing = (0, 0, 0, 0, 0, 0, 0, None)
        return [Entry(name, ino, *known.get(ino, nothing)) for name, ino in pairs]

    # -- one file --------------------------------------------------------------------------------------------------

    async def facts(self, ino: int) -> Facts:
        row = await self._quick.row(
            "SELECT count(*), count(DISTINCT e.block), count(DISTINCT b.pack) FROM extent e"
            " LEFT JOIN block b ON b.id=e.block WHERE e.ino=?",
            (ino,),
        )
        staged = await self._quick.row("SELECT coalesce(sum(length), 0) FROM staged WHERE ino=?", (ino,))
        xattrs = await self._quick.rows("SELECT name FROM xattr WHERE ino=? ORDER BY name", (ino,))
        extents, blocks, packs = row or (0, 0, 0)
        return Facts(extents, blocks, packs, staged[0] if staged else 0, tuple(name for (name,) in xattrs))

    # -- search ----------------------------------------------------------------------------------------------------

    async def search(self, pattern: str, after: Found | None = None, limit: int = PAGE) -> list[Found]:
        """The next names that match, in no order that means anything; see `Search`. Ends a search under way."""
        return await self._search.page(pattern, after, limit)

    async def paths(self, directories: Iterable[int]) -> dict[int, bytes]:
        """Absolute path of each directory. One scan for each directory above, however many are asked for."""
        wanted = set(directories)
        await self._learn(wanted)
        return {ino: joined(self._paths[ino]) for ino in wanted if ino in self._paths}

    async def _learn(self, directories: set[int]) -> None:
        parents: dict[int, int] = {}
        unknown = directories - self._paths.keys()
        while unknown:  # upwards; what was asked before ends a circle in a damaged index
            rows = await self._quick.rows(
                f"SELECT ino, parent FROM inode WHERE ino IN ({_marks(unknown)})", list(unknown)
            )
            parents.update(dict(rows))
            unknown = {parent for _, parent in rows} - self._paths.keys() - parents.keys()
        while ready := {parent for ino, parent in parents.items() if parent in self._paths and ino not in self._paths}:
            for parent in ready:  # downwards
                children = [ino for ino, above in parents.items() if above == parent]
                await self._name(parent, children)
                for ino in children:
                    del parents[ino]  # named, or damaged

    async def _name(self, parent: int, children: list[int]) -> None:
        rows = await self._quick.rows(
            f"SELECT ino, name FROM entry WHERE parent=? AND ino IN ({_marks(children)})", [parent, *children]
        )
        for ino, name in rows:
            self._paths[ino] = (*self._paths[parent], name)


def _marks(values: Iterable[Any]) -> str:
    return ",".join("?" for _ in values)
