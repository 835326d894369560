"""From blocks back to files: which inodes have bytes in some blocks, and every path of them.

The schema has no index for either way, since no verb needs it: each is one pass over a table.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from flyteplugins_vol.index.blocks import BlockRow, row_of
from flyteplugins_vol.index.database import IndexDatabase
from flyteplugins_vol.model import ROOT_INO


class Owned(NamedTuple):
    """Bytes ``[start, start + length)`` of a file are of that block."""

    ino: int
    start: int
    length: int
    block: int


def blocks_by_pack(db: IndexDatabase) -> Iterator[tuple[str, int, list[BlockRow]]]:
    """Name and object size of each pack, with its blocks in the order in which they are stored."""
    packs = db.sql.execute("SELECT id, name, size FROM pack ORDER BY id").fetchall()
    rows = db.sql.execute(
        "SELECT b.pack, b.id, b.hash, p.name, b.offset, b.stored, b.at, b.size, b.codec"
        " FROM block b JOIN pack p ON p.id = b.pack ORDER BY b.pack, b.offset, b.id"
    )
    row = rows.fetchone()
    for number, name, size in packs:
        blocks: list[BlockRow] = []
        while row is not None and row[0] == number:
            blocks.append(row_of(row[1:]))
            row = rows.fetchone()
        yield name.hex(), size, blocks


def owners(db: IndexDatabase, blocks: Collection[int]) -> list[Owned]:
    """Every range of a file that is in one of these blocks, by inode and position."""
    rows = db.sql.execute("SELECT ino, start, length, block FROM extent ORDER BY ino, start")
    return [Owned(*row) for row in rows if row[3] in blocks]


def paths(db: IndexDatabase, inos: Collection[int]) -> dict[int, list[bytes]]:
    """Every path of each inode, from the root, without a slash in front; none for one without a name."""
    names: dict[int, list[tuple[int, bytes]]] = {ino: [] for ino in inos}
    above: dict[int, tuple[int, bytes]] = {}
    directories = {row[0] for row in db.sql.execute("SELECT ino FROM inode WHERE (mode & 0xf000) = 0x4000")}
    for parent, name, ino in db.sql.execute("SELECT parent, name, ino FROM entry"):
        if ino in names:
            names[ino].append((parent, name))
        if ino in directories:
            above[ino] = (parent, name)
    return {ino: sorted(_path(above, *place) for place in places) for ino, places in names.items()}


def _path(above: dict[int, tuple[int, bytes]], parent: int, name: bytes) -> bytes:
    parts = [name]
    while parent != ROOT_INO:
        parent, name = above[parent]
        parts.append(name)
    return b"/".join(reversed(parts))
