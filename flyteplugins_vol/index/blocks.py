"""Blocks and packs: where each block is stored, and how many extents name it.

Counts change in memory and reach SQLite at the next flush; a block that nothing names any more leaves the index
then, and its pack with the last of its blocks. A row here means that the pack is durable in the Store.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from flyteplugins_vol.index.database import IndexDatabase
from flyteplugins_vol.index.rows import MAX_OBJECT, check_block, damaged


class BlockRow(NamedTuple):
    """A block and the name of its pack (64 hex digits). Offsets and sizes are bytes, see the schema."""

    id: int
    hash: bytes
    pack: str
    offset: int
    stored: int
    at: int
    size: int
    codec: int


_JOINED = (
    "SELECT b.id, b.hash, p.name, b.offset, b.stored, b.at, b.size, b.codec FROM block b JOIN pack p ON p.id=b.pack"
)
_KEEP = 20_000
_NEAR = 64 << 20


class BlockTable:
    def __init__(self, db: IndexDatabase, next_block: int, next_pack: int) -> None:
        self._sql = db.sql
        self._known: dict[int, BlockRow] = {}
        self._delta: dict[int, int] = {}
        self.next_block = next_block
        self.next_pack = next_pack

    def get(self, block: int) -> BlockRow:
        """A block by its number. Raises `IndexDamagedError` if it is not there, or out of its bounds."""
        found = self._known.get(block)
        if found is None:
            row = self._sql.execute(f"{_JOINED} WHERE b.id=?", (block,)).fetchone()
            if row is None:
                damaged(f"block {block} is not there")
            if len(self._known) >= _KEEP:
                self._known.clear()
            found = self._known[block] = row_of(row)
        return found

    def find(self, digest: bytes) -> tuple[int, int] | None:
        """``(id, size)`` of the block with this hash."""
        return self._sql.execute("SELECT id, size FROM block WHERE hash=?", (digest,)).fetchone()

    def near(self, block: BlockRow, low: int, high: int, limit: int) -> list[BlockRow]:
        """Blocks of the same pack stored at [low, high), in order, at most ``limit`` numbers away.

        The blocks of a pack are numbered in its order, so neighbours are found by number, without an index. At most
        `_NEAR` plain bytes, those around the block: thousands of blocks of 4 MiB of zeros are a MiB of a pack.
        """
        rows = self._sql.execute(
            f"{_JOINED} WHERE b.id BETWEEN ? AND ? AND b.offset>=? AND b.offset<? AND p.name=? ORDER BY b.offset",
            (block.id - limit, block.id + limit, low, high, bytes.fromhex(block.pack)),
        )
        return _around(block.id, [row_of(row) for row in rows])

    def after(self, number: int) -> BlockRow | None:
        """The block that comes next in the order in which all were written."""
        row = self._sql.execute(f"{_JOINED} WHERE b.id>? ORDER BY b.id LIMIT 1", (number,)).fetchone()
        return None if row is None else row_of(row)

    def add_pack(self, name: str, size: int, blocks: Sequence[tuple[bytes, int, int, int, int, int]]) -> list[int]:
        """Enter a durable pack and its ``(hash, offset, stored, at, size, codec)`` blocks; returns their numbers.

        A block that is there already (it arrived with another pack meanwhile) keeps its place.
        """
        pack = self.next_pack
        numbers: list[int] = []
        rows: list[tuple[bytes | int, ...]] = []
        for digest, offset, stored, at, plain, codec in blocks:
            found = self.find(digest)
            if found is not None:
                numbers.append(found[0])
                continue
            numbers.append(self.next_block)
            rows.append((self.next_block, digest, pack, offset, stored, at, plain, codec))
            self._delta.setdefault(self.next_block, 0)  # so that flush looks at it even if nothing names it
            self.next_block += 1
        if rows:
            self.next_pack += 1
            self._sql.execute("INSERT INTO pack VALUES (?,?,?,?)", (pack, bytes.fromhex(name), size, len(rows)))
            self._sql.executemany("INSERT INTO block VALUES (?,?,?,?,?,?,?,?,0)", rows)
        return numbers

    def adopt(self, block: BlockRow, pack_size: int, refs: int) -> int:
        """Enter a block as another index of the store has it, and that ``refs`` extents name it; its number here.

        One that is here already keeps its place. Straight to SQLite: nothing of it may wait for the next flush.
        """
        found = self.find(block.hash)
        if found is not None:
            if found[1] != block.size:
                damaged(f"block {block.id} has {block.size} bytes, and {found[1]} in another version")
            self._sql.execute("UPDATE block SET refs=refs+? WHERE id=?", (refs, found[0]))
            return found[0]
        name = bytes.fromhex(block.pack)
        row = self._sql.execute("SELECT id FROM pack WHERE name=?", (name,)).fetchone()
        if row is None:
            row = (self.next_pack,)
            self.next_pack += 1
            self._sql.execute("INSERT INTO pack VALUES (?,?,?,0)", (*row, name, pack_size))
        self._sql.execute("UPDATE pack SET blocks=blocks+1 WHERE id=?", row)
        self._sql.execute(
            "INSERT INTO block VALUES (?,?,?,?,?,?,?,?,?)",
            (self.next_block, block.hash, *row, block.offset, block.stored, block.at, block.size, block.codec, refs),
        )
        self.next_block += 1
        return self.next_block - 1

    def pack_size(self, name: str) -> int:
        """Bytes of a pack's object, which must be a pack of this index. Raises `IndexDamagedError`."""
        row = self._sql.execute("SELECT size FROM pack WHERE name=?", (bytes.fromhex(name),)).fetchone()
        if row is None or not isinstance(row[0], int) or not 0 < row[0] <= MAX_OBJECT:
            damaged(f"pack {name} is out of bounds")
        return row[0]

    def count(self, blocks: Iterable[int], delta: int) -> None:
        """Note that this many more (or fewer) extents name each block."""
        change = self._delta
        for block in blocks:
            change[block] = change.get(block, 0) + delta

    def flush(self) -> None:
        if not self._delta:
            return
        changed = [(delta, block) for block, delta in self._delta.items() if delta]
        self._sql.executemany("UPDATE block SET refs=refs+? WHERE id=?", changed)
        doubtful = [(block,) for block, delta in self._delta.items() if delta <= 0]
        self._delta.clear()
        for block in doubtful:
            row = self._sql.execute("DELETE FROM block WHERE id=? AND refs<=0 RETURNING pack", block).fetchone()
            if row is not None:
                self._known.pop(block[0], None)
                self._sql.execute("UPDATE pack SET blocks=blocks-1 WHERE id=?", row)
                self._sql.execute("DELETE FROM pack WHERE id=? AND blocks<=0", row)

    def packs_from(self, first: int) -> list[tuple[int, str]]:
        """``(number, name)`` of the packs that were entered as number ``first`` or later."""
        rows = self._sql.execute("SELECT id, name FROM pack WHERE id>=? ORDER BY id", (first,))
        return [(row[0], row[1].hex()) for row in rows]

    def rename_pack(self, number: int, name: str) -> None:
        """The same blocks at the same places are in a pack of another name now."""
        self._sql.execute("UPDATE pack SET name=? WHERE id=?", (bytes.fromhex(name), number))
        self._known.clear()

    def totals(self) -> tuple[int, int]:
        """Number of packs that the index needs, and the bytes of their objects."""
        return self._sql.execute("SELECT count(*), coalesce(sum(size), 0) FROM pack").fetchone()

    def packs(self) -> list[tuple[str, int]]:
        """``(name, object size)`` of every pack that the index needs."""
        return [(row[0].hex(), row[1]) for row in self._sql.execute("SELECT name, size FROM pack ORDER BY id")]


def _around(number: int, rows: list[BlockRow]) -> list[BlockRow]:
    left = _NEAR - sum(row.size for row in rows)
    if left >= 0:
        return rows
    first = next((i for i, row in enumerate(rows) if row.id == number), 0)
    last = first + 1
    left = _NEAR - sum(row.size for row in rows[first:last])
    while last < len(rows) and rows[last].size <= left:
        left -= rows[last].size
        last += 1
    while first and rows[first - 1].size <= left:
        first -= 1
        left -= rows[first].size
    return rows[first:last]


def row_of(row: tuple[int, bytes, bytes, int, int, int, int, int]) -> BlockRow:
    """A row of the query above, checked. Raises `IndexDamagedError`."""
    number, digest, pack, offset, stored, at, size, codec = row
    check_block(number, digest, pack, offset, stored, at, size, codec)
    return BlockRow(number, digest, pack.hex(), offset, stored, at, size, codec)
