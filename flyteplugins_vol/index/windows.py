"""The extents of files, one 4 MiB window at a time, written behind.

A window with staged bytes stays in memory until it is sealed, so a small new file costs SQLite nothing until the next
flush, and a file that dies before it costs nothing at all.
"""

from __future__ import annotations

from collections.abc import Iterator

from flyteplugins_vol.index.blocks import BlockTable
from flyteplugins_vol.index.database import IndexDatabase
from flyteplugins_vol.index.extents import STAGED, Extent, covered
from flyteplugins_vol.index.rows import check_extents, damaged
from flyteplugins_vol.model import BLOCK_SIZE

_LAST = (1 << 63) - 1  # what SQLite's integers hold, and the greatest size of a file
_KEEP = 20_000  # clean windows kept in memory


class Window:
    """The extents of bytes [number × 4 MiB, (number + 1) × 4 MiB) of a file."""

    __slots__ = ("extents", "ino", "number", "sealing", "stored_blocks", "stored_staged", "written")

    def __init__(self, ino: int, number: int, extents: list[Extent], blocks: tuple[int, ...], staged: bool) -> None:
        self.ino = ino
        self.number = number
        self.extents = extents
        self.stored_blocks = blocks  # blocks that its rows in SQLite name
        self.stored_staged = staged  # whether it has rows in `staged`
        self.written = 0.0  # monotonic time of the last write
        self.sealing = False  # a seal job is at work on it

    @property
    def start(self) -> int:
        return self.number * BLOCK_SIZE

    def staged(self) -> list[Extent]:
        return [extent for extent in self.extents if extent[2] == STAGED]


class WindowTable:
    def __init__(self, db: IndexDatabase, blocks: BlockTable) -> None:
        self._sql = db.sql
        self._blocks = blocks
        self._files: dict[int, dict[int, Window]] = {}
        self._count = 0
        self.keep = _KEEP
        self._changed: dict[Window, None] = {}
        # files that are new since the last flush: they have no rows, so their windows need no SELECT
        self._fresh: set[int] = set()

    def new_file(self, ino: int) -> None:
        self._fresh.add(ino)

    def get(self, ino: int, number: int) -> Window:
        file = self._files.get(ino)
        if file is None:
            file = self._files[ino] = {}
        found = file.get(number)
        if found is None:
            found = Window(ino, number, [], (), False) if ino in self._fresh else self._load(ino, number)
            file[number] = found
            self._count += 1
        return found

    def changed(self, window: Window) -> None:
        self._changed[window] = None

    def staged_windows(self) -> list[Window]:
        """Windows with rows in `staged`: what a workspace that is resumed still has to seal."""
        keys = self._sql.execute(f"SELECT DISTINCT ino, start/{BLOCK_SIZE} FROM staged").fetchall()
        return [self.get(ino, number) for ino, number in keys]

    def drop(self, ino: int, first: int = 0) -> list[Window]:
        """Forget the windows of a file from number ``first`` on, in memory and in SQLite.

        Returns those that were in memory; whoever accounts for staged bytes looks at them. A window with staged
        bytes is always in memory.
        """
        file = self._files.get(ino, {})
        dead = [file.pop(number) for number in [n for n in file if n >= first]]
        self._count -= len(dead)
        if not file:
            self._files.pop(ino, None)
        for window in dead:
            self._changed.pop(window, None)
        if ino not in self._fresh:
            self._delete_rows(ino, first * BLOCK_SIZE)
        return dead

    def filled(self, ino: int, first: int, last: int) -> Iterator[int]:
        """Numbers of the windows of a file that have extents, in order, from ``first`` to ``last``."""
        loaded = self._files.get(ino, {})
        found = {number for number, window in loaded.items() if first <= number <= last and window.extents}
        if ino not in self._fresh:
            bounds = (ino, first * BLOCK_SIZE, min((last + 1) * BLOCK_SIZE, _LAST))
            for table in ("extent", "staged"):
                rows = self._sql.execute(
                    f"SELECT DISTINCT start/{BLOCK_SIZE} FROM {table} WHERE ino=? AND start>=? AND start<?", bounds
                )
                found.update(number for (number,) in rows if number not in loaded)
        yield from sorted(found)

    def first_filled(self, ino: int, first: int, count: int) -> list[int]:
        """Numbers of the first ``count`` windows from ``first`` on that may have extents, in order."""
        found = {w.number for w in self._changed if w.ino == ino and w.number >= first and w.extents}
        for _ in range(count if ino not in self._fresh else 0):
            if first * BLOCK_SIZE > _LAST:
                break
            row = self._sql.execute(
                "SELECT start FROM extent WHERE ino=? AND start>=? ORDER BY start LIMIT 1", (ino, first * BLOCK_SIZE)
            ).fetchone()
            if row is None:
                break
            first = row[0] // BLOCK_SIZE + 1
            found.add(first - 1)
        return sorted(found)[:count]

    def covered_below(self, ino: int, end: int) -> int:
        """Bytes that the extents of windows before number ``end`` cover."""
        total = sum(covered(w.extents) for w in self._files.get(ino, {}).values() if w.number < end)
        loaded = self._files.get(ino, {})
        rows = self._sql.execute(
            f"SELECT start/{BLOCK_SIZE}, sum(length) FROM extent WHERE ino=? AND start<? GROUP BY 1",
            (ino, min(end * BLOCK_SIZE, _LAST)),
        )
        return total + sum(size for number, size in rows if number not in loaded)

    def flush(self) -> None:
        """Write changed windows to SQLite, and tell the block table which extents came and went."""
        extents: list[tuple[int, ...]] = []
        staged: list[tuple[int, ...]] = []
        for window in self._changed:
            self._replace(window, extents, staged)
        self._sql.executemany("INSERT INTO extent VALUES (?,?,?,?,?)", extents)
        self._sql.executemany("INSERT INTO staged VALUES (?,?,?,?)", staged)
        self._changed.clear()
        self._fresh.clear()

    def trim(self) -> None:
        """Forget windows that are clean and wholly in blocks. Only between two verbs."""
        if self._count <= self.keep:
            return
        kept = [w for f in self._files.values() for w in f.values() if w.stored_staged or w in self._changed]
        self._files = {}
        for window in kept:
            self._files.setdefault(window.ino, {})[window.number] = window
        self._count = len(kept)

    @property
    def crowded(self) -> bool:
        return self._count > self.keep

    @property
    def dirty(self) -> int:
        return len(self._changed)

    def _replace(self, window: Window, extents: list[tuple[int, ...]], staged: list[tuple[int, ...]]) -> None:
        low, high = window.start, window.start + BLOCK_SIZE
        if window.stored_blocks:
            self._sql.execute("DELETE FROM extent WHERE ino=? AND start>=? AND start<?", (window.ino, low, high))
            self._blocks.count(window.stored_blocks, -1)
        if window.stored_staged:
            self._sql.execute("DELETE FROM staged WHERE ino=? AND start>=? AND start<?", (window.ino, low, high))
        named: list[int] = []
        window.stored_staged = False
        for start, end, block, source in window.extents:
            if block == STAGED:
                staged.append((window.ino, start, end - start, source))
                window.stored_staged = True
            else:
                extents.append((window.ino, start, end - start, block, source))
                named.append(block)
        self._blocks.count(named, 1)
        window.stored_blocks = tuple(named)

    def _load(self, ino: int, number: int) -> Window:
        bounds = (ino, number * BLOCK_SIZE, min((number + 1) * BLOCK_SIZE, _LAST))
        rows = self._sql.execute(
            "SELECT start, start+length, block, skip FROM extent WHERE ino=? AND start>=? AND start<?", bounds
        ).fetchall()
        blocks = tuple(row[2] for row in rows)
        if STAGED in blocks:
            damaged(f"an extent of inode {ino} names no block")
        staged = self._sql.execute(
            "SELECT start, start+length, 0, pos FROM staged WHERE ino=? AND start>=? AND start<?", bounds
        ).fetchall()
        if staged:
            rows = sorted(rows + staged)
        check_extents(rows, bounds[1], bounds[2], ino)
        return Window(ino, number, rows, blocks, bool(staged))

    def _delete_rows(self, ino: int, low: int) -> None:
        rows = self._sql.execute("SELECT block FROM extent WHERE ino=? AND start>=?", (ino, low)).fetchall()
        if rows:
            self._sql.execute("DELETE FROM extent WHERE ino=? AND start>=?", (ino, low))
            self._blocks.count((row[0] for row in rows), -1)
        self._sql.execute("DELETE FROM staged WHERE ino=? AND start>=?", (ino, low))
