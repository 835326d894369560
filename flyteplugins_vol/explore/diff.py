"""What changed between two versions, as the explorer shows it: a directory that came or went is one row."""

from __future__ import annotations

from flyteplugins_vol.explore.connection import IndexConnection
from flyteplugins_vol.index.difference import PAGE, Change, Summary, change_of, compare


class Diff:
    """The changes from an older index to a newer one. Compared in the connection's own thread by `open`."""

    def __init__(self, connection: IndexConnection, summary: Summary) -> None:
        self._db = connection
        self.summary = summary

    @classmethod
    async def open(cls, older: str, newer: str) -> Diff:
        """Compare two checked index files. A few seconds for a million names on each side."""
        db = await IndexConnection.open(older)
        try:
            await db.attach(newer, "new")
            return cls(db, await _compare(db))
        except BaseException:
            await db.close()
            raise

    async def page(self, first: int, limit: int) -> list[Change]:
        """Changes in the order of their paths."""
        return [change_of(row) for row in await self._db.rows(PAGE, (first, limit))]

    async def close(self) -> None:
        await self._db.close()


async def _compare(db: IndexConnection) -> Summary:
    steps = compare()
    statement, values = next(steps)
    while True:
        rows = await db.rows(statement, values)
        try:
            statement, values = steps.send(rows)
        except StopIteration as end:
            return end.value
