"""A volume of a million files: opens in under a second, and moves without lag."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest

from flyteplugins_vol.explore.queries import Sort
from flyteplugins_vol.explore.widgets.bars import StatusLine
from flyteplugins_vol.index.index import Index
from tests.explore.conftest import exploring

FILES = 1_000_000
LAG = 0.5  # seconds of this process's own, whatever else the machine does; some 0.05 as it is

pytestmark = pytest.mark.slow

_NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ? - 1)"


@pytest.fixture(scope="module")
def million(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half of the files in one directory, half in 1,000: made in SQL, since a mount would take minutes."""
    path = tmp_path_factory.mktemp("million") / "index.db"
    Index.create(str(path), uid=0, gid=0).close()
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode=OFF")
    db.execute("BEGIN")
    insert = (
        "INSERT INTO inode SELECT {ino}, {mode}, {links}, 0, 0, 0, {size}, {size}, 0, {time}, 0, {parent}, NULL FROM n"
    )
    time_ = "1700000000000000000 + (i * 7919 % 99991) * 1000000000"
    directory = {"mode": 0o40755, "links": 2, "size": 0, "time": time_, "parent": 1}
    file = {"mode": 0o100644, "links": 1, "size": "(i * 7919) % 100000", "time": time_, "parent": 0}
    db.execute(f"{_NUMBERS} {insert.format(ino='2 + i', **directory)}", (1001,))
    db.execute(f"{_NUMBERS} {insert.format(ino='2000 + i', **file)}", (FILES,))
    db.execute("""INSERT INTO entry SELECT 1, CAST(printf('shard-%04d', ino - 2) AS BLOB), ino FROM inode
 WHERE ino BETWEEN 2 AND 1001""")
    db.execute("INSERT INTO entry VALUES (1, CAST('images' AS BLOB), 1002)")
    db.execute("""INSERT INTO entry SELECT CASE WHEN ino < 502000 THEN 2 + (ino - 2000) / 500 ELSE 1002 END,
 CAST(printf('sample-%07d.json', ino - 2000) AS BLOB), ino FROM inode WHERE ino >= 2000""")
    db.execute("INSERT OR REPLACE INTO meta VALUES ('files', ?)", (FILES + 1002,))
    db.execute("COMMIT")
    db.execute("PRAGMA journal_mode=DELETE")
    db.close()
    return path


async def test_opens_at_once_and_moves_without_lag(million: Path) -> None:
    start = time.process_time()
    async with exploring(from_file=million) as e:
        assert "shard-0000" in e.text
        assert time.process_time() - start < 1 + LAG

        async def quick(*keys: str) -> None:
            begin = time.process_time()
            await e.pilot.press(*keys)
            assert time.process_time() - begin < LAG

        tree = e.browse.files.file_tree
        await quick("right")  # half a million names
        await e.until(lambda: tree.row_count == 501_001)
        await quick("pagedown")
        await quick("end")
        await e.until(lambda: "/shard-0999" in e.browse.query_one(StatusLine).path)
        tree.cursor = 400_001
        await e.until(lambda: e.browse.query_one(StatusLine).path == "/images/sample-0900000.json")
        for row in range(0, 500_000, 9_999):  # dragging the scrollbar
            tree.scroll_to(y=row, animate=False)
            await e.pilot.pause()
        await e.until(lambda: "sample-" in e.text)


async def test_sorts_sums_up_and_searches(million: Path) -> None:
    async with exploring(from_file=million) as e:
        tree = e.browse.files.file_tree
        await e.until(lambda: "GiB" in e.text or "MiB" in e.text)
        await e.press("s")
        await e.until(lambda: tree.sort is Sort.SIZE)
        assert e.browse.query_one(StatusLine).path == "/images"
        await e.press("right")
        await e.until(lambda: tree.row_count == 501_001)
        assert await tree.reveal((b"images", b"sample-0777777.json"))
        await e.until(lambda: e.browse.query_one(StatusLine).path == "/images/sample-0777777.json")
        await e.press("slash")
        e.app.screen.query_one("Input").value = "*99999.json"  # type: ignore[attr-defined]
        await e.until(lambda: "10 found" in e.text)
