"""Verifying a version: whether all that it needs is in the store, and which files are broken where it is not.

*Shallow*: the record, every segment of the index, every sentence of the schema (`index.check`), and that each pack is
there with a footer that has its blocks where the index says. *Deep*: also every byte of every block, against its hash.
Nothing is believed of what lies on this machine. Damage is a result and no error; what keeps us from looking (a
store that does not answer, a missing secret, a newer format) is an error and no result.
"""

from __future__ import annotations

import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from flyteplugins_vol.errors import DamageError, ObjectMissingError, StoreError
from flyteplugins_vol.history.record import Locator, VersionRecord, load_record
from flyteplugins_vol.history.segments import checkout_segments
from flyteplugins_vol.index.blocks import BlockRow
from flyteplugins_vol.index.check import check_completely
from flyteplugins_vol.index.database import IndexDatabase
from flyteplugins_vol.index.owners import blocks_by_pack, owners, paths
from flyteplugins_vol.store.base import ObjectStore
from flyteplugins_vol.store.cipher import sealed_size
from flyteplugins_vol.store.container import PACK, Entry, decode, object_key, read_footer, whole_size
from flyteplugins_vol.store.daemonpool import DaemonPool

Progress = Callable[[Mapping[str, Any]], None]

_LOOKERS = 16  # footers at once
_READERS = 4  # packs read at once, each with one span and one block in memory
_SPAN = 8 << 20
_GAP = 1 << 20  # bytes of blocks of other versions that are read along rather than asked around
_MANY = 2000  # packs from which on one listing of all is cheaper: a page of it has 1,000
_TRIES = 3  # at a block that is not what it should be: it may have been altered on its way

T = TypeVar("T")
S = TypeVar("S")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a ``kind``: ``record``, ``index``, ``pack`` or ``block``; ``key``: the object's."""

    kind: str
    key: str | None
    message: str


@dataclass(frozen=True)
class BrokenFile:
    """A file that cannot be read whole: all its paths (none: it was deleted while it was open), and why.

    Bytes of names that are not UTF-8 are surrogates, as `os.fsdecode` makes them. ``bytes``: how many of the file's
    are lost, or in doubt where only a pack as a whole was looked at.
    """

    paths: tuple[str, ...]
    bytes: int
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Verification:
    """What a verification found. ``read_bytes``: stored bytes of blocks that were read and checked (deep)."""

    locator: str
    deep: bool
    problems: tuple[Problem, ...] = ()
    files: tuple[BrokenFile, ...] = ()
    packs: int = 0
    blocks: int = 0
    read_bytes: int = 0

    @property
    def ok(self) -> bool:
        return not self.problems and not self.files


@dataclass
class _Findings:
    """What is wrong with one pack: with all of it, and with some of its blocks, by number."""

    key: str
    whole: str = ""
    blocks: dict[int, str] = field(default_factory=dict[int, str])
    read: int = 0


def verify(
    store: ObjectStore, locator: Locator, *, deep: bool = False, scratch: str | None = None,
    progress: Progress | None = None,
) -> Verification:  # fmt: skip
    """Look at all that a version needs. Blocks. ``scratch``: a directory with room for its index.

    Raises `VersionNotFoundError`, `NewerFormatError`, `EncryptionKeyError`, `StoreAccessError`,
    `StoreUnavailableError`.
    """
    name = str(locator)
    try:
        record = load_record(store, locator)
    except DamageError as error:
        return Verification(name, deep, (Problem("record", locator.key, error.message),))
    with tempfile.TemporaryDirectory(dir=scratch, prefix="verify-") as directory:
        path = os.path.join(directory, "index.db")
        try:
            checkout_segments(store, record.index, path)
            check_completely(path)
        except (DamageError, ObjectMissingError) as error:
            return Verification(name, deep, (Problem("index", None, error.message),))
        db = IndexDatabase.open(path, read_only=True)
        try:
            return _verify_packs(store, record, db, deep, progress or _ignore)
        finally:
            db.drop()


def _verify_packs(
    store: ObjectStore, record: VersionRecord, db: IndexDatabase, deep: bool, progress: Progress
) -> Verification:  # fmt: skip
    total, size = db.sql.execute("SELECT count(*), coalesce(sum(size), 0) FROM pack").fetchone()
    look = _Look(store, {info.key: info.size for info in store.list("packs/")} if total > _MANY and not deep else None)
    problems: list[Problem] = []
    lost: dict[int, str] = {}
    packs = blocks = read = looked = 0
    jobs = ((name, pack_size, rows) for name, pack_size, rows in blocks_by_pack(db))
    workers, check = (_READERS, look.deep) if deep else (_LOOKERS, look.shallow)
    for (_, pack_size, rows), found in _in_order(check, jobs, workers):
        packs += 1
        blocks += len(rows)
        read += found.read
        looked += pack_size
        progress({"phase": "verify", "done": looked, "total": size})
        if found.whole:
            problems.append(Problem("pack", found.key, found.whole))
        for number, why in found.blocks.items():
            lost[number] = f"{found.key}: {why}"
            if not found.whole:
                problems.append(Problem("block", found.key, f"block {number}: {why}"))
    files = _files(db, lost)
    return Verification(str(record.locator), deep, tuple(problems), files, packs, blocks, read)


class _Look:
    """Looks at single packs. Thread-safe."""

    def __init__(self, store: ObjectStore, listed: Mapping[str, int] | None) -> None:
        self._store = store
        self._listed = listed

    def shallow(self, pack: tuple[str, int, list[BlockRow]]) -> _Findings:
        """Whether the pack is there with the blocks that the index names; if it is not, all of them are in doubt."""
        name, size, rows = pack
        key = object_key(PACK, name)
        listed = self._listed.get(key) if self._listed is not None else None
        if listed in (size, sealed_size(size)):  # as it is, or encrypted
            return _Findings(key)
        found = _Findings(key)
        entries = self._footer(name, size, found)
        if found.whole:
            found.blocks = {row.id: found.whole for row in rows}
            return found
        for row in rows:
            there = entries.get(row.offset)
            if there is None or there != Entry(row.hash, row.offset, row.stored, row.size, row.codec):
                found.blocks[row.id] = "it is not where the index says"
        return found

    def deep(self, pack: tuple[str, int, list[BlockRow]]) -> _Findings:
        """Read and check every block that the index names. A footer that is damaged is told, and costs no file."""
        name, size, rows = pack
        key = object_key(PACK, name)
        found = _Findings(key)
        self._footer(name, size, found)
        for span in _spans(rows):
            self._read(key, span, found)
        return found

    def _footer(self, name: str, size: int, found: _Findings) -> dict[int, Entry]:
        try:
            entries = read_footer(self._store, PACK, name)
        except DamageError as error:
            found.whole = error.message
            return {}
        if entries is None:
            found.whole = "it is missing"
            return {}
        if whole_size(entries) != size:
            found.whole = f"it has not the {size:,} bytes that the index says"
        return {entry.offset: entry for entry in entries}

    def _read(self, key: str, span: Sequence[BlockRow], found: _Findings) -> None:
        """Blocks that are wrong are asked for again, and at last one by one."""
        left, why = list(span), ""
        for again in range(_TRIES):
            if again and len(left) > 1:
                for row in left:
                    self._read(key, [row], found)
                return
            left, why = self._try(key, left, found)
            if not left or why == _MISSING:
                break
        found.blocks.update({row.id: why for row in left})

    def _try(self, key: str, span: list[BlockRow], found: _Findings) -> tuple[list[BlockRow], str]:
        """The blocks of a span that are not what they should be, and what is wrong with the last of them."""
        start = span[0].offset
        size = max(row.offset + row.stored for row in span) - start
        try:
            data = self._store.get_range(key, start, size)
        except (StoreError, DamageError) as error:
            if isinstance(error, StoreError) and type(error) is not StoreError:
                raise  # not an answer
            return span, error.message
        if data is None:
            return span, _MISSING
        left, why, view = list[BlockRow](), "", memoryview(data)
        for row in span:
            entry = Entry(row.hash, row.offset, row.stored, row.size, row.codec)
            try:
                decode(entry, view[row.offset - start : row.offset - start + row.stored])
                found.read += row.stored
            except DamageError as error:
                left.append(row)
                why = error.message
        return left, why


_MISSING = "its pack is missing"


def _spans(rows: Iterable[BlockRow]) -> Iterator[list[BlockRow]]:
    """Runs of blocks that are worth one GET, in the order of the pack; a block is never cut."""
    span: list[BlockRow] = []
    end = 0
    for row in rows:
        if span and (row.offset - end > _GAP or row.offset + row.stored - span[0].offset > _SPAN):
            yield span
            span = []
        span.append(row)
        end = max(row.offset + row.stored, end if len(span) > 1 else 0)
    if span:
        yield span


def _files(db: IndexDatabase, lost: Mapping[int, str]) -> tuple[BrokenFile, ...]:
    """The files with bytes in blocks that are lost, by their first path."""
    if not lost:
        return ()
    sizes: dict[int, int] = {}
    reasons: dict[int, dict[str, None]] = {}
    for owned in owners(db, lost.keys()):
        sizes[owned.ino] = sizes.get(owned.ino, 0) + owned.length
        reasons.setdefault(owned.ino, {})[lost[owned.block]] = None
    named = paths(db, sizes.keys())
    files = (
        BrokenFile(tuple(path.decode("utf-8", "surrogateescape") for path in named[ino]), size, tuple(reasons[ino]))
        for ino, size in sizes.items()
    )
    return tuple(sorted(files, key=lambda file: file.paths))


def _in_order(check: Callable[[T], S], items: Iterable[T], workers: int) -> Iterator[tuple[T, S]]:
    """Each item with what ``check`` says of it, in order; at most twice as many as ``workers`` are under way."""
    with DaemonPool(workers, "verify") as pool:
        waiting: deque[tuple[T, Any]] = deque()
        try:
            for item in items:
                waiting.append((item, pool.submit(check, item)))
                if len(waiting) >= 2 * workers:
                    done, job = waiting.popleft()
                    yield done, job.result()
            while waiting:
                done, job = waiting.popleft()
                yield done, job.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _ignore(_: Mapping[str, Any]) -> None:
    return
