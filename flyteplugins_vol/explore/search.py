"""Find names: a part of the name, or a pattern with ``*``, ``?`` and ``[…]``. Letters in lower case match both."""

from __future__ import annotations

import asyncio
import re
from typing import Any, NamedTuple

from flyteplugins_vol.explore.connection import IndexConnection, InterruptedQueryError

_WILD = re.compile(r"[*?\[]")


class Found(NamedTuple):
    """A name that matched, and the directory that has it."""

    parent: int
    name: bytes
    ino: int
    mode: int
    size: int
    mtime: int


class Search:
    """One search at a time: the next one ends the one before it."""

    def __init__(self, connection: IndexConnection) -> None:
        self._db = connection
        self._lock = asyncio.Lock()

    async def page(self, pattern: str, after: Found | None, limit: int) -> list[Found]:
        """At most ``limit`` matches behind ``after``. Walks the table of names in its order, so it needs no sort.

        Raises `InterruptedQueryError` when another search took its place.
        """
        if not pattern:
            return []
        await self._db.interrupt()  # also a statement whose caller is gone
        async with self._lock:
            condition, value = matching(pattern)
            parent, name = (after.parent, after.name) if after else (0, b"")
            # an upper bound costs nothing and lets two plain comparisons stand for the row value
            rows = await self._db.rows(
                "SELECT e.parent, e.name, e.ino, coalesce(i.mode,0), coalesce(i.size,0), coalesce(i.mtime,0) FROM"
                f" (SELECT parent, name, ino FROM entry WHERE (parent, name) > (?, ?) AND {condition}"
                " ORDER BY parent, name LIMIT ?) e LEFT JOIN inode i ON i.ino=e.ino ORDER BY e.parent, e.name",
                (parent, name, value, limit),
            )
        return [Found(*row) for row in rows]


def matching(pattern: str) -> tuple[str, Any]:
    """SQL condition on ``name`` and its value for what a person typed."""
    column = "CAST(name AS TEXT)"
    careful = pattern != pattern.lower()  # a capital letter was meant
    if _WILD.search(pattern):
        return (f"{column} GLOB ?", pattern) if careful else (f"lower({column}) GLOB ?", pattern)
    if careful:
        return "instr(name, ?) > 0", as_bytes(pattern)
    escaped = re.sub(r"([\\%_])", r"\\\1", pattern)
    return f"{column} LIKE ? ESCAPE '\\'", f"%{escaped}%"


def as_bytes(pattern: str) -> bytes:
    return pattern.encode("utf-8", "surrogateescape")


__all__ = ["Found", "InterruptedQueryError", "Search", "matching"]
