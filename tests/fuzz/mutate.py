"""A plain mutation fuzzer: bytes of a seed are changed, cut, repeated, swapped; those of JSON also as values."""

from __future__ import annotations

import json
import random
import sqlite3
from contextlib import suppress
from typing import Any

_NUMBERS = (
    0,
    1,
    -1,
    2**31,
    2**32,
    2**53,
    2**63 - 1,
    2**63,
    -(2**63),
    10**400,
    1.5,
    float("inf"),
    float("nan"),
    True,
    None,
)
_TEXTS = ("", "..", "/", "\0", "\ud800", "a" * 300, "../../etc/passwd", "volumes/x", "s3://u:p@h/x", "é", "\n")
_BYTES = (b"\0", b"\xff", b"..", b"/", b"%2e%2e%2f", b"://", b"@", b"\xed\xa0\x80", b"\r\n", b"9" * 20, b"{", b"[")


def mutated(rng: random.Random, seed: bytes, other: bytes) -> bytes:
    """A seed after one to four changes."""
    data = bytearray(seed)
    if seed[:1] == b"{" and rng.random() < 0.5:
        return _json(rng, seed)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        _change(rng, data, other)
    return bytes(data)


def mutated_database(rng: random.Random, seed: bytes, other: bytes) -> bytes:
    """A SQLite file with some bytes or cells changed: it keeps its size, so that its pages are found."""
    if rng.random() < 0.5:
        return _with_other_cells(rng, seed)
    data = bytearray(seed)
    for _ in range(rng.choice((1, 1, 2, 8))):
        # most of what is interesting stands at the beginning of the file and of each page
        at = rng.choice((rng.randrange(len(data)), rng.randrange(len(data) >> 12) * 4096 + rng.randrange(120)))
        size = rng.choice((1, 1, 2, 4, 8))
        data[at : at + size] = rng.choice((rng.randbytes(size), bytes(size), b"\xff" * size))[: len(data) - at]
    return bytes(data)


_EXTREMES = ("0", "1", "-1", "2", "1 << 20", "1 << 32", "(1 << 63) - 1", "-(1 << 62)")
_CELLS = (*_EXTREMES, "x'2e2e'", "x'2f'", "x'00'", "x''", "zeroblob(300)")


def _with_other_cells(rng: random.Random, seed: bytes) -> bytes:
    """Cells of random rows changed by SQL, as a hostile writer would; what SQLite refuses stays as it was."""
    sql = sqlite3.connect(":memory:", isolation_level=None)
    try:
        sql.deserialize(b"".join((seed[:18], b"\1\1", seed[20:])))  # the header says WAL, which memory has not
        tables = [row[0] for row in sql.execute("SELECT name FROM sqlite_schema WHERE type='table'")]
        for _ in range(rng.choice((1, 2, 5))):
            table = rng.choice(tables)
            column = rng.choice([row[1] for row in sql.execute(f"PRAGMA table_info({table})")])
            (count,) = sql.execute(f"SELECT count(*) FROM {table}").fetchone()
            if not count:
                continue
            cell = rng.choice((*_CELLS, f"(SELECT {column} FROM {table} LIMIT 1 OFFSET {rng.randrange(count)})"))
            which = f"SELECT min({column}) FROM (SELECT {column} FROM {table} LIMIT 3 OFFSET {rng.randrange(count)})"
            with suppress(sqlite3.IntegrityError):  # of another type, or there already
                sql.execute(f"UPDATE {table} SET {column}={cell} WHERE {column}=({which})")
        return sql.serialize()
    except (sqlite3.Error, AttributeError, IndexError):  # broken by now; or Python 3.10, which has no deserialize
        return seed
    finally:
        sql.close()


def _change(rng: random.Random, data: bytearray, other: bytes) -> None:
    at = rng.randrange(len(data) + 1)
    how = rng.randrange(9)
    if how == 0 and data:
        data[at % len(data)] ^= 1 << rng.randrange(8)
    elif how == 1 and data:
        data[at % len(data)] = rng.randrange(256)
    elif how == 2:
        data[at:at] = rng.choice(_BYTES)
    elif how == 3:
        del data[at : at + rng.choice((1, 2, 8, 100))]
    elif how == 4:
        del data[at:]
    elif how == 5:
        data[at:at] = data[at : at + rng.choice((1, 4, 44, 500))]
    elif how == 6:
        start = rng.randrange(len(other) + 1)
        data[at : at + 8] = other[start : start + rng.choice((8, 44))]
    elif how == 7:  # a number of 2, 4 or 8 bytes
        size = rng.choice((2, 4, 8))
        data[at : at + size] = rng.choice((0, 1, 2**15, 2**31, 2**63, 2**64 - 1)).to_bytes(9, "little")[:size]
    else:
        data[-rng.randrange(1, 60) :] = rng.randbytes(rng.randrange(60))


def _json(rng: random.Random, seed: bytes) -> bytes:
    try:
        body = json.loads(seed)
    except ValueError:
        return seed
    for _ in range(rng.choice((1, 1, 2, 3))):
        body = _changed(rng, body)
    try:
        return json.dumps(body, separators=(",", ":")).encode()
    except ValueError:
        return seed


def _changed(rng: random.Random, value: Any) -> Any:
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        chosen = rng.randrange(12)
        if chosen == 0:
            return {k: v for k, v in value.items() if k != key}
        if chosen == 1:
            return {**value, rng.choice(_TEXTS): _any(rng)}
        return {**value, key: _changed(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.8:
        at = rng.randrange(len(value))
        if rng.random() < 0.1:
            return value * rng.choice((0, 2, 50))
        return [*value[:at], _changed(rng, value[at]), *value[at + 1 :]]
    if isinstance(value, int) and rng.random() < 0.5:
        return value + rng.choice((-1, 1, 2**20, -(2**20), 2**52))
    if isinstance(value, str) and value and rng.random() < 0.4:
        at = rng.randrange(len(value))
        return value[:at] + rng.choice(_TEXTS) + value[at + rng.randrange(3) :]
    return _any(rng)


def _any(rng: random.Random) -> Any:
    return rng.choice((*_NUMBERS, *_TEXTS, [], {}, [[]], {"a": {}}, [1, 2, 3], [[0, 0, 1]]))
