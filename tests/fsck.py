"""Checks an index file against every sentence of its schema, row by row, with nothing of the package's own logic.

`check_index` returns what is wrong, as sentences; an empty list is a sound index.
"""

from __future__ import annotations

import sqlite3
import stat
from collections import Counter
from collections.abc import Iterator
from typing import Any

from flyteplugins_vol.index import schema
from flyteplugins_vol.model import ROOT_INO
from flyteplugins_vol.store.base import ObjectStore
from flyteplugins_vol.store.container import PACK, object_key, parse_footer


def check_index(
    path: str, *, published: bool = True, window: int = 4 << 20, store: ObjectStore | None = None
) -> list[str]:
    """Everything that is wrong with the index at ``path``; with a store, also whether its packs hold its blocks."""
    sql = sqlite3.connect(f"file:{path}?mode=ro" + ("&immutable=1" if published else ""), uri=True)
    try:
        return list(_problems(sql, published=published, window=window, store=store))
    finally:
        sql.close()


def _problems(sql: sqlite3.Connection, *, published: bool, window: int, store: ObjectStore | None) -> Iterator[str]:
    for (line,) in sql.execute("PRAGMA integrity_check"):
        if line != "ok":
            yield f"sqlite: {line}"
    found = sorted(row[0] for row in sql.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL"))
    if found != sorted(schema.create_statements()):
        yield "other tables than an index"
        return
    inodes = {
        row[0]: dict(zip(_INODE, row, strict=True)) for row in sql.execute(f"SELECT {', '.join(_INODE)} FROM inode")
    }
    yield from _names(sql, inodes)
    yield from _contents(sql, inodes, window)
    yield from _blocks(sql)
    yield from _meta(sql, inodes)
    if published and sql.execute("SELECT count(*) FROM staged").fetchone()[0]:
        yield "staged rows in a published index"
    for (ino,) in sql.execute("SELECT DISTINCT ino FROM xattr"):
        if ino not in inodes:
            yield f"xattr of inode {ino}, which is not there"
    if store is not None:
        yield from _packs(sql, store)


_INODE: tuple[str, ...] = ("ino", "mode", "nlink", "size", "allocated", "parent", "target")


def _names(sql: sqlite3.Connection, inodes: dict[int, dict[str, Any]]) -> Iterator[str]:
    links: Counter[int] = Counter()
    subdirs: Counter[int] = Counter()
    home: dict[int, int] = {}
    for parent, name, ino in sql.execute("SELECT parent, name, ino FROM entry"):
        if not 1 <= len(name) <= 255 or b"/" in name or b"\0" in name or name in (b".", b".."):
            yield f"bad name {name!r} in {parent}"
        if ino not in inodes:
            yield f"{name!r} in {parent} names inode {ino}, which is not there"
            continue
        if parent not in inodes or not stat.S_ISDIR(inodes[parent]["mode"]) or not inodes[parent]["nlink"]:
            yield f"{name!r} is in {parent}, which is no living directory"
        links[ino] += 1
        if stat.S_ISDIR(inodes[ino]["mode"]):
            subdirs[parent] += 1
            home[ino] = parent
    orphans = {row[0] for row in sql.execute("SELECT ino FROM orphan")}
    if orphans != {ino for ino, inode in inodes.items() if inode["nlink"] == 0}:
        yield f"orphan table {sorted(orphans)} is not the inodes with nlink 0"
    for ino, inode in inodes.items():
        yield from _links(ino, inode, links[ino], subdirs[ino], home)
        yield from _reaches_root(ino, home)


def _links(ino: int, inode: dict[str, Any], names: int, subdirs: int, home: dict[int, int]) -> Iterator[str]:
    if not stat.S_ISDIR(inode["mode"]):
        if inode["nlink"] != names:
            yield f"inode {ino} has nlink {inode['nlink']} and {names} names"
        if inode["parent"] != 0:
            yield f"inode {ino} is no directory and has a parent"
        if stat.S_ISLNK(inode["mode"]) != (inode["target"] is not None):
            yield f"inode {ino}: target does not fit its type"
        if inode["target"] is not None and len(inode["target"]) != inode["size"]:
            yield f"symlink {ino} has size {inode['size']}"
        return
    if ino == ROOT_INO:
        if names or inode["parent"] != ROOT_INO:
            yield "the root has a name or a parent"
    elif inode["nlink"] and (names != 1 or inode["parent"] != home.get(ino)):
        yield f"directory {ino} has {names} names, parent {inode['parent']}, is in {home.get(ino)}"
    if inode["nlink"] not in (0, 2 + subdirs) or (inode["nlink"] == 0 and (names or subdirs)):
        yield f"directory {ino} has nlink {inode['nlink']} and {subdirs} directories in it"


def _reaches_root(ino: int, home: dict[int, int]) -> Iterator[str]:
    seen = {ino}
    while ino in home:
        ino = home[ino]
        if ino in seen:
            yield f"directory {ino} is below itself"
            return
        seen.add(ino)


def _contents(sql: sqlite3.Connection, inodes: dict[int, dict[str, Any]], window: int) -> Iterator[str]:
    sizes = dict(sql.execute("SELECT id, size FROM block"))
    covered: Counter[int] = Counter()
    last: tuple[int, int] = (0, 0)
    rows = sql.execute(
        "SELECT ino, start, length, block, skip FROM extent UNION ALL SELECT ino, start, length, 0, 0 FROM staged"
        " ORDER BY ino, start"
    )
    for ino, start, length, block, skip in rows:
        label = f"extent {ino}@{start}+{length}"
        inode = inodes.get(ino)
        if inode is None or not stat.S_ISREG(inode["mode"]):
            yield f"{label}: of no regular file"
            continue
        if length <= 0 or start < 0 or start + length > inode["size"]:
            yield f"{label}: outside of its file of {inode['size']} bytes"
        if start // window != (start + length - 1) // window:
            yield f"{label}: crosses a window"
        if last[0] == ino and last[1] > start:
            yield f"{label}: overlaps the one before"
        if block and (block not in sizes or skip < 0 or skip + length > sizes[block]):
            yield f"{label}: outside of block {block} of {sizes.get(block)} bytes"
        covered[ino] += length
        last = (ino, start + length)
    for ino, inode in inodes.items():
        if inode["allocated"] != covered[ino]:
            yield f"inode {ino} has allocated {inode['allocated']}, its extents cover {covered[ino]}"


def _blocks(sql: sqlite3.Connection) -> Iterator[str]:
    counted = dict(sql.execute("SELECT block, count(*) FROM extent GROUP BY block"))
    packs: Counter[int] = Counter()
    for number, digest, pack, refs, size, stored, codec in sql.execute(
        "SELECT id, hash, pack, refs, size, stored, codec FROM block"
    ):
        packs[pack] += 1
        if refs != counted.get(number, 0) or refs <= 0:
            yield f"block {number} has refs {refs}, {counted.get(number, 0)} extents name it"
        if len(digest) != 32 or not 0 < size <= 4 << 20 or not 0 < stored <= size or codec not in (0, 1):
            yield f"block {number} is out of bounds"
    for number in counted.keys() - {row[0] for row in sql.execute("SELECT id FROM block")}:
        yield f"block {number} is named by extents and not there"
    there = dict(sql.execute("SELECT id, blocks FROM pack"))
    if there != dict(packs):
        yield f"pack.blocks {there} is not the rows of block {dict(packs)}"
    for (name,) in sql.execute("SELECT name FROM pack"):
        if len(name) != 32:
            yield f"pack name of {len(name)} bytes"


def _meta(sql: sqlite3.Connection, inodes: dict[int, dict[str, Any]]) -> Iterator[str]:
    meta = dict(sql.execute("SELECT key, value FROM meta"))
    wanted = {
        "files": sum(inode["nlink"] > 0 for inode in inodes.values()),
        "bytes": sum(i["size"] for i in inodes.values() if stat.S_ISREG(i["mode"]) and i["nlink"]),
    }
    for key, value in wanted.items():
        if meta.get(key) != value:
            yield f"meta.{key} is {meta.get(key)}, counted {value}"
    for key, table, column in (
        ("next_ino", "inode", "ino"),
        ("next_block", "block", "id"),
        ("next_pack", "pack", "id"),
    ):
        (highest,) = sql.execute(f"SELECT coalesce(max({column}), 0) FROM {table}").fetchone()
        if meta.get(key, 0) <= highest:
            yield f"meta.{key} is {meta.get(key)}, the highest number is {highest}"
    if meta.keys() - {*wanted, "next_ino", "next_block", "next_pack"}:
        yield f"unknown counters {sorted(meta)}"


def _packs(sql: sqlite3.Connection, store: ObjectStore) -> Iterator[str]:
    for number, raw, size in sql.execute("SELECT id, name, size FROM pack"):
        name = raw.hex()
        data = store.get(object_key(PACK, name))
        if data is None or len(data) != size:
            yield f"pack {name} is missing or has another size"
            continue
        at = 0
        held: dict[bytes, tuple[int, ...]] = {}
        for entry in parse_footer(PACK, name, data):
            held[entry.hash] = (entry.offset, entry.stored, at, entry.size, entry.codec)
            at += entry.size
        for digest, *place in sql.execute(
            "SELECT hash, offset, stored, at, size, codec FROM block WHERE pack=?", (number,)
        ):
            if held.get(digest) != tuple(place):
                yield f"block {digest.hex()} is not at {place} of pack {name}"
