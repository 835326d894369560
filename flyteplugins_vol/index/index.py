"""All tables of an index together: opened as one, flushed in the order that keeps their counts right."""

from __future__ import annotations

import sqlite3
import stat
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager

from flyteplugins_vol.forked import no_fork
from flyteplugins_vol.index.blocks import BlockTable
from flyteplugins_vol.index.database import IndexDatabase
from flyteplugins_vol.index.entries import EntryTable
from flyteplugins_vol.index.inodes import InodeTable
from flyteplugins_vol.index.rows import damaged
from flyteplugins_vol.index.windows import WindowTable
from flyteplugins_vol.index.xattrs import XattrTable
from flyteplugins_vol.model import ROOT_INO, Inode

_WIDE = 256 << 20  # bytes of SQLite pages that `hold_all` lets be held
_NARROW = 1 << 20  # the same, for `hold_little`
_FEW = 100  # inodes, and windows
_WRAP = 1 << 64  # two sparse files of 2^63 - 1 bytes are legal, and their sum is more than SQLite's integers hold


def _counters(db: IndexDatabase) -> dict[str, int]:
    counters = dict(db.sql.execute("SELECT key, value FROM meta LIMIT 100").fetchall())
    for key, value in counters.items():
        if not isinstance(value, int):
            damaged(f"{str(key)[:40]} is no number")
    return counters


def _wrapped(total: int) -> int:
    """A sum of sizes as a signed 64-bit integer: exact under + and -, also where it wraps around."""
    return (total + (_WRAP >> 1)) % _WRAP - (_WRAP >> 1)


class Index:
    """The tables of one open index. One owner thread."""

    def __init__(self, db: IndexDatabase) -> None:
        self.db = db
        counters = _counters(db)
        self.next_ino: int = counters.get("next_ino", ROOT_INO)
        self.files: int = counters.get("files", 0)
        self.bytes: int = counters.get("bytes", 0) % _WRAP
        self.inodes = InodeTable(db)
        self.entries = EntryTable(db)
        self.blocks = BlockTable(db, counters.get("next_block", 1), counters.get("next_pack", 1))
        self.windows = WindowTable(db, self.blocks)
        self.xattrs = XattrTable(db)
        self._stored = counters

    @classmethod
    def create(cls, path: str, *, uid: int, gid: int) -> Index:
        """A new index with an empty root directory, mode 0755, of that owner."""
        with no_fork():
            index = cls(IndexDatabase.create(path))
            now = time.time_ns()
            root = Inode(ROOT_INO, stat.S_IFDIR | 0o755, 2, uid, gid, 0, 0, 0, now, now, now, ROOT_INO, None)
            index.next_ino = ROOT_INO + 1
            index.files = 1
            index.inodes.add(root)
            index.commit()
            return index

    @classmethod
    def open(cls, path: str, *, read_only: bool) -> Index:
        """An existing index. Raises `IndexDamagedError` or `NewerFormatError`."""
        with no_fork():
            db = IndexDatabase.open(path, read_only=read_only)
            try:
                return cls(db)
            except sqlite3.DatabaseError as error:
                db.drop()
                damaged(str(error))
            except BaseException:
                db.drop()
                raise

    def hold_all(self) -> None:
        """Forget nothing from now on: for namespaces that are gone through again and again, at 500 bytes a file."""
        self.inodes.keep = self.windows.keep = sys.maxsize
        self.db.widen(_WIDE)

    def hold_little(self) -> None:
        """Hold next to nothing from now on: for a version of which somebody still has a file or two open."""
        self.inodes.keep = self.windows.keep = _FEW
        self.trim()
        self.db.widen(_NARROW)

    def new_ino(self) -> int:
        self.next_ino += 1
        return self.next_ino - 1

    def flush(self) -> None:
        """Write everything that memory holds to SQLite, in the open transaction."""
        if self.db.read_only:
            return
        self.windows.flush()  # before blocks: it counts references
        self.inodes.flush()
        self.blocks.flush()
        counters = {
            "next_ino": self.next_ino, "next_block": self.blocks.next_block, "next_pack": self.blocks.next_pack,
            "files": self.files, "bytes": _wrapped(self.bytes),
        }  # fmt: skip
        changed = [item for item in counters.items() if self._stored.get(item[0]) != item[1]]
        if changed:
            self.db.sql.executemany("INSERT OR REPLACE INTO meta VALUES (?,?)", changed)
            self._stored = counters

    def commit(self) -> None:
        """Flush, and end the transaction: a kill loses nothing from here on."""
        self.flush()
        self.db.commit()

    @contextmanager
    def attempt(self) -> Generator[None]:
        """Rows that go straight to SQLite inside are all there after it; after an error none of them, nor a number.

        What memory holds is not to be changed inside. It all lies in the open transaction, so a kill undoes it as well.
        """
        self.flush()
        blocks = self.blocks
        before = self.next_ino, self.files, self.bytes, blocks.next_block, blocks.next_pack
        sql = self.db.sql
        sql.execute("SAVEPOINT attempt")
        try:
            yield
        except BaseException:
            if sql.in_transaction:  # else SQLite has left it, and the workspace takes no more changes
                sql.execute("ROLLBACK TO attempt")
                sql.execute("RELEASE attempt")
            self.next_ino, self.files, self.bytes, blocks.next_block, blocks.next_pack = before
            raise
        sql.execute("RELEASE attempt")

    def trim(self) -> None:
        """Bound the memory of clean rows. Only between two verbs."""
        self.inodes.trim()
        self.windows.trim()

    @property
    def dirty(self) -> int:
        """Rows that memory holds and SQLite does not."""
        return self.inodes.dirty + self.windows.dirty

    def close(self) -> None:
        self.flush()
        self.db.close()
