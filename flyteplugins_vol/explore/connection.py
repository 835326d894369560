"""One aiosqlite connection to an index file that nobody writes: checked before it is believed, errors made ours."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Iterable
from typing import Any

import aiosqlite

from flyteplugins_vol.errors import IndexDamagedError, UsageError
from flyteplugins_vol.index.database import IndexDatabase, check_sqlite

Row = tuple[Any, ...]

_CACHE_KIB = 32 << 10
_HEADER = b"SQLite format 3\0"


_OPEN: set[aiosqlite.Connection] = set()


def close_all() -> None:
    """Stop the threads of connections that an application which failed has left: they would outlive it for ever."""
    while _OPEN:
        _OPEN.pop().stop()  # pyright: ignore[reportUnknownMemberType]


class InterruptedQueryError(Exception):
    """Somebody called `IndexConnection.interrupt`: nobody wants this answer any more."""


def check_index_file(path: str) -> None:
    """Raise `UsageError`, `IndexDamagedError` or `NewerFormatError` if this is no index that we can read. Blocks."""
    check_sqlite()
    try:
        with open(path, "rb") as file:
            header = file.read(len(_HEADER))
    except FileNotFoundError as error:
        raise UsageError(f"there is no file {path}", hint="give the path of an index file") from error
    except IsADirectoryError as error:
        raise UsageError(f"{path} is a directory", hint="give the path of an index file in it") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", hint="look at its permissions") from error
    if header != _HEADER:
        raise IndexDamagedError(
            f"{path} is not an index of a volume: it is no SQLite database",
            hint="give an index file (index.db), or explore a locator or a volume's name",
        )
    IndexDatabase.open(path, read_only=True).close()


class IndexConnection:
    """Runs SQL in a thread of its own; rows come back as tuples. Any number of connections may read one file."""

    def __init__(self, db: aiosqlite.Connection) -> None:
        self._db = db
        _OPEN.add(db)

    @classmethod
    async def open(cls, path: str) -> IndexConnection:
        """A connection to a checked index. It may make temporary tables; the file itself is never written."""
        db = await aiosqlite.connect(_uri(path), uri=True, isolation_level=None)
        connection = cls(db)
        # temporary tables go to files: a sort of ten million names must not fill the memory
        for pragma in ("trusted_schema=OFF", "cell_size_check=ON", f"cache_size=-{_CACHE_KIB}", "temp_store=FILE"):
            await connection.rows(f"PRAGMA {pragma}")
        return connection

    async def attach(self, path: str, name: str) -> None:
        """Make another checked index visible under a schema name."""
        await self.rows(f"ATTACH ? AS {name}", (_uri(path),))

    async def rows(self, sql: str, values: Iterable[Any] = ()) -> list[Row]:
        """All rows of one statement. Raises `IndexDamagedError`, `InterruptedQueryError`."""
        try:
            return [tuple(row) for row in await self._db.execute_fetchall(sql, values)]
        except ValueError as error:  # it was closed meanwhile
            raise InterruptedQueryError from error
        except sqlite3.OperationalError as error:
            if "interrupted" in str(error):
                raise InterruptedQueryError from error
            raise IndexDamagedError(f"the index could not be read: {error}", hint=_HINT) from error
        except sqlite3.DatabaseError as error:
            raise IndexDamagedError(f"the index is damaged: {error}", hint=_HINT) from error

    async def row(self, sql: str, values: Iterable[Any] = ()) -> Row | None:
        """The first row, or None."""
        found = await self.rows(sql, values)
        return found[0] if found else None

    async def interrupt(self) -> None:
        """End the statement that runs now, if one does."""
        await self._db.interrupt()

    async def close(self) -> None:
        """Interrupt what runs and let go. Idempotent."""
        if self._db not in _OPEN:
            return
        _OPEN.discard(self._db)
        await self._db.interrupt()
        await asyncio.shield(self._db.close())


_HINT = "close the explorer and open the version again; if it stays, run a verification of the store"


def _uri(path: str) -> str:
    quoted = os.path.abspath(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    return f"file:{quoted}?mode=ro&immutable=1"
