"""A second reader of the format, written from docs/FORMAT.md alone: standard library, blake3 and zstandard.

It shares no code with the package, so what the two agree on is what the document says. `read_version` walks from a
locator to every file. Slow and strict: `Refused` is a newer format, `Damaged` is anything that breaks a MUST.
"""

from __future__ import annotations

import json
import re
import sqlite3
import stat
import struct
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zstandard
from blake3 import blake3

Get = Callable[[str], "bytes | None"]

FORMAT_MD = Path(__file__).parents[2] / "docs" / "FORMAT.md"
WINDOW = 4 << 20
LOCATOR = re.compile(
    r"(.+)/(volumes/([A-Za-z0-9][A-Za-z0-9._-]{0,62})-([0-9a-f]{16})/versions/"
    r"([0-9]{8}|[1-9][0-9]{8,15})-([0-9a-f]{40})\.json)"
)


class Refused(Exception):
    """Written by a later release."""


class Damaged(Exception):
    """Not what a writer of version 1 writes."""


@dataclass
class File:
    """What a path leads to. ``pieces`` are ``(offset, bytes)``; between them, and up to ``size``, there are zeros."""

    ino: int
    mode: int
    nlink: int
    uid: int
    gid: int
    rdev: int
    size: int
    mtime: int
    target: bytes | None
    pieces: list[tuple[int, bytes]] = field(default_factory=lambda: [])
    xattr: dict[bytes, bytes] = field(default_factory=lambda: {})

    def content(self) -> bytes:
        whole = bytearray(self.size)
        for offset, data in self.pieces:
            whole[offset : offset + len(data)] = data
        return bytes(whole)


def read_version(get: Get, locator: str) -> tuple[dict[str, Any], dict[bytes, File]]:
    """The record of a version, and every path of it. ``get`` brings an object by its key, None if it is absent."""
    record = read_record(get, locator)
    with tempfile.NamedTemporaryFile(suffix=".db") as file:
        file.write(read_index(get, record["index"]))
        file.flush()
        sql = sqlite3.connect(f"file:{file.name}?mode=ro&immutable=1", uri=True)
        try:
            check_index(sql)
            return record, read_tree(get, sql)
        except sqlite3.DatabaseError as error:
            raise Damaged(str(error)) from error
        finally:
            sql.close()


def read_record(get: Get, locator: str) -> dict[str, Any]:
    found = LOCATOR.fullmatch(locator)
    if found is None:
        raise Damaged("not a locator")
    _, key, name, volume_id, sequence, digest = found.groups()
    data = _present(get, key)
    _must(len(data) <= 16 << 20 and blake3(data).hexdigest()[:40] == digest, "the record was altered")
    record = json.loads(data)
    _must(record["format"] == "flytevol/version", "not a version record")
    if record["format_version"] > 1 or record["requires"]:
        raise Refused("a later record")
    _must(record["format_version"] == 1, "no format version")
    _must(record["volume"] == {"name": name, "id": volume_id}, "of another volume")
    _must(record["sequence"] == int(sequence), "of another sequence")
    return record


def read_ref(get: Get, key: str) -> dict[str, Any]:
    ref = json.loads(_present(get, key))
    _must(ref["format"] == "flytevol/ref", "not a ref")
    if ref["format_version"] > 1 or ref["requires"]:
        raise Refused("a later ref")
    return ref


def read_index(get: Get, index: dict[str, Any]) -> bytes:
    """The bytes of the index file, every segment checked."""
    size, step = index["size"], index["segment_size"]
    _must(4096 <= step <= WINDOW and step % 4096 == 0, "segment size")
    count = -(-size // step)
    _must(count <= 1 << 22 and sum(run[2] for run in index["map"]) == count, "the map does not cover the index")
    objects = [read_container(get, "I", item) for item in index["objects"]]
    file = bytearray()
    for number, first, length in index["map"]:
        _must(length > 0 and first + length <= len(objects[number]), "a run is out of bounds")
        for plain in objects[number][first : first + length]:
            _must(len(plain) == min(step, size - len(file)), "a segment of another size")
            file += plain
    return bytes(file)


def read_container(get: Get, kind: str, item: dict[str, Any]) -> list[bytes]:
    """The plain bytes of all entries of a container."""
    name = item["name"]
    _must(item["size"] <= 1 << 30 and item["entries"] <= 1 << 20, "an object is too large")
    data = _present(get, f"{'packs' if kind == 'P' else 'index'}/{name[:2]}/{name}")
    _, count, found, version, flags, stored, magic = struct.unpack("<16sIcBHQ8s", data[-40:])
    _must(magic == b"LOVETYLF" and found == kind.encode(), "not a container")
    if version > 1 or flags:
        raise Refused("a later container")
    _must(version == 1 and count == item["entries"], "another number of entries")
    _must(len(data) == item["size"] == 16 + stored + 44 * count + 40, "another size")
    tail = data[16 + stored :]
    _must(blake3(tail).hexdigest() == name, "the footer does not match the name")
    entries: list[bytes] = []
    at = 16
    for digest, length, size, codec in struct.iter_unpack("<32sIIB3x", tail[:-40]):
        entries.append(decode(data[at : at + length], digest, size, codec))
        at += length
    _must(at == 16 + stored, "the bodies do not add up")
    return entries


def decode(stored: bytes, digest: bytes, size: int, codec: int) -> bytes:
    if codec > 1:
        raise Refused("a later codec")
    _must(0 < len(stored) <= size <= WINDOW, "sizes out of bounds")
    plain = stored
    if codec == 1:
        try:
            _must(zstandard.get_frame_parameters(stored).content_size == size, "a frame of another size")
            frame = zstandard.ZstdDecompressor(max_window_size=8 << 20).decompressobj()
            plain = frame.decompress(stored)
            _must(not frame.unused_data, "more than a frame")
        except zstandard.ZstdError as error:
            raise Damaged(str(error)) from error
    _must(len(plain) == size and blake3(plain).digest() == digest, "content does not match its hash")
    return plain


def check_index(sql: sqlite3.Connection) -> None:
    sql.execute("PRAGMA trusted_schema=OFF")
    _must(sql.execute("PRAGMA application_id").fetchone() == (0x466C5669,), "not an index")
    (version,) = sql.execute("PRAGMA user_version").fetchone()
    if version > 1:
        raise Refused("a later index")
    _must(version == 1, "no index version")
    found = {row[0] for row in sql.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")}
    _must(found == schema(), "another schema")
    _must(sql.execute("SELECT count(*) FROM staged").fetchone() == (0,), "staged rows")


def schema() -> set[str]:
    """The statements of section 6, as the document itself has them."""
    text = FORMAT_MD.read_text(encoding="utf-8").split("```sql\n")[1].split("```")[0]
    text = re.sub(r"^--.*$", "", text, flags=re.MULTILINE)
    return {" ".join(statement.split()) for statement in re.split(r"^(?=CREATE)", text, flags=re.MULTILINE)[1:]}


def read_tree(get: Get, sql: sqlite3.Connection) -> dict[bytes, File]:
    """Every path, from the root ``b""`` on; names of one file share one `File`."""
    files: dict[int, File] = {}
    tree: dict[bytes, File] = {}
    todo: list[tuple[bytes, int, int]] = [(b"", 1, 1)]
    while todo:
        path, ino, parent = todo.pop()
        if ino not in files:
            files[ino] = read_file(get, sql, ino)
            directory = stat.S_ISDIR(files[ino].mode)
            if directory:
                _must(sql.execute("SELECT parent FROM inode WHERE ino=?", (ino,)).fetchone() == (parent,), "its parent")
            below = sql.execute("SELECT name, ino FROM entry WHERE parent=?", (ino,)).fetchall()
            _must(directory or not below, "names in what is no directory")
            for name, child in below:
                _must(0 < len(name) < 256 and name not in (b".", b"..") and not set(name) & {0, 47}, "a bad name")
                todo.append((path + b"/" + name, child, ino))
        else:
            _must(not stat.S_ISDIR(files[ino].mode), "a directory with two names")
        tree[path] = files[ino]
    return tree


def read_file(get: Get, sql: sqlite3.Connection, ino: int) -> File:
    columns = "ino, mode, nlink, uid, gid, rdev, size, mtime, target"
    row = sql.execute(f"SELECT {columns} FROM inode WHERE ino=?", (ino,)).fetchone()
    _must(row and row[2] > 0, "a name without an inode")
    file = File(*row)
    file.xattr = dict(sql.execute("SELECT name, value FROM xattr WHERE ino=?", (ino,)))
    file.pieces = list(read_extents(get, sql, file))
    return file


def read_extents(get: Get, sql: sqlite3.Connection, file: File) -> Iterator[tuple[int, bytes]]:
    end = 0
    rows = sql.execute(
        "SELECT start, length, skip, hash, offset, stored, b.size, codec, p.name, p.size FROM extent e "
        "LEFT JOIN block b ON b.id = e.block LEFT JOIN pack p ON p.id = b.pack WHERE e.ino=? ORDER BY start",
        (file.ino,),
    )
    for start, length, skip, digest, offset, stored, size, codec, pack, pack_size in rows.fetchall():
        _must(pack and stat.S_ISREG(file.mode), "an extent without a pack or a file")
        _must(end <= start < start + length <= file.size, "extents out of bounds")
        _must(start // WINDOW == (start + length - 1) // WINDOW, "an extent across windows")
        _must(skip >= 0 and skip + length <= size and 16 <= offset <= offset + stored <= pack_size - 84, "a block")
        data = _present(get, f"packs/{pack.hex()[:2]}/{pack.hex()}")[offset : offset + stored]
        _must(len(data) == stored, "the pack is cut short")
        yield start, decode(data, digest, size, codec)[skip : skip + length]
        end = start + length


def _present(get: Get, key: str) -> bytes:
    data = get(key)
    if data is None:
        raise Damaged(f"{key} is missing")
    return data


def _must(truth: Any, why: str) -> None:
    if not truth:
        raise Damaged(why)
