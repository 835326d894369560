"""Versions of very many files, made in seconds: real packs, and an index that is filled in SQL.

Every file has 64 bytes of its own, in a block of its own, so that the index is as large as one of a million different
files. A version is made once, into a store of its own that outlives the run, and copied from there.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from flyteplugins_vol.config import store_options_from_environment
from flyteplugins_vol.history.record import FORMAT_VERSION
from flyteplugins_vol.history.unmounted import Unmounted
from flyteplugins_vol.index.index import Index
from flyteplugins_vol.index.schema import create_statements
from flyteplugins_vol.io.facts import new_id
from flyteplugins_vol.io.mounting import MountOptions
from flyteplugins_vol.model import ROOT_INO
from flyteplugins_vol.store.base import ObjectStore
from flyteplugins_vol.store.container import HEADER_SIZE, PACK, Container, block_hash, build, upload
from flyteplugins_vol.store.open import open_store
from flyteplugins_vol.workspace.sealing import PACK_BLOCKS

BULK_SIZE = 64
PER_DIRECTORY = 1000
_MODE = stat.S_IFREG | 0o644
_NOW = 1_700_000_000_000_000_000
_THREADS = 8

# files [start, end): inode, name and extent of each, counted by SQLite
_COUNTED = "WITH RECURSIVE n(i) AS (SELECT :start UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :end) SELECT"
_ROWS = (
    f"inode {_COUNTED} :base + i,{_MODE},1,0,0,0,{BULK_SIZE},{BULK_SIZE},{_NOW},{_NOW},{_NOW},0,NULL",
    f"entry {_COUNTED} :first + i / {PER_DIRECTORY}, CAST(printf('%08d.txt', i) AS BLOB), :base + i",
    f"extent {_COUNTED} :base + i, 0, {BULK_SIZE}, :block + i, 0",
)
# the blocks and packs of such files as far as an index knows of them
_UNSEEN = (
    f"""block {_COUNTED} :block + i, randomblob(32), :pack + i / {PACK_BLOCKS},
 {HEADER_SIZE} + i % {PACK_BLOCKS} * {BULK_SIZE}, {BULK_SIZE}, i % {PACK_BLOCKS} * {BULK_SIZE}, {BULK_SIZE}, 0, 1""",
    f"""pack WITH RECURSIVE n(i) AS (SELECT :start UNION ALL SELECT i + 1 FROM n WHERE (i + 1) * {PACK_BLOCKS} < :end)
 SELECT :pack + i, randomblob(32), {PACK_BLOCKS * BULK_SIZE}, min({PACK_BLOCKS}, :end - i * {PACK_BLOCKS})""",
)

T = TypeVar("T")


def bulk_store(home: Path, files: int) -> tuple[str, str]:
    """A store with one version of so many files, and its locator; made below ``home`` the first time."""
    directory = home / f"bulk-{FORMAT_VERSION}-{files}"
    note = directory / "locator"
    url = (directory / "store").resolve().as_uri()
    if not note.exists():
        locator = make_bulk(url, files)
        note.write_text(locator.removeprefix(url))
    return url, url + note.read_text()


def make_bulk(url: str, files: int) -> str:
    """The locator of a new volume's first version."""
    options = store_options_from_environment(url)
    spec = MountOptions().spec(
        volume_id=new_id(), volume_name="bulk", store_url=url, store_options=options.to_wire(), base=None, writable=True
    )
    with Unmounted(spec) as unmounted, open_store(url, options) as store:
        index = unmounted.session.workspace.index
        unmounted.change(fill_index, index, files, partial(upload, store, PACK))
        unmounted.session.workspace.changed = True
        return str(unmounted.commit(None).locator)


def copy_objects(source: str, target: str) -> None:
    """All objects of one store into another."""
    with open_store(source) as there, open_store(target) as here:
        keys = [entry.key for entry in there.list("")]
        _each(lambda key: _copy(there, here, key), keys)


def fill_index(index: Index, files: int, keep: Callable[[Container], None] | None) -> None:
    """Enter files into an index that has none; ``keep`` gets their packs. None: there are none, only their rows."""
    sql = index.db.sql
    sql.execute("DROP INDEX block_hash")  # entered one by one, hashes would touch all of its pages again and again
    first = index.next_ino
    directories = -(-files // PER_DIRECTORY)
    sql.executemany("INSERT INTO inode VALUES (?,?,2,0,0,0,0,0,?,?,?,1,NULL)", _directories(first, directories))
    sql.executemany(
        "INSERT INTO entry VALUES (?,?,?)", ((ROOT_INO, b"part-%05d" % at, first + at) for at in range(directories))
    )
    sql.execute("UPDATE inode SET nlink=nlink+? WHERE ino=?", (directories, ROOT_INO))
    blocks = index.blocks
    places = {"base": first + directories, "first": first, "block": blocks.next_block, "pack": blocks.next_pack}
    if keep is None:
        _enter(index, _UNSEEN, {**places, "start": 0, "end": files})
    else:
        _make_packs(index, files, places, keep)
    sql.execute(next(text for text in create_statements() if " block_hash " in text))
    index.next_ino = first + directories + files
    index.files += files + directories
    index.bytes += files * BULK_SIZE
    blocks.next_block += files
    blocks.next_pack += -(-files // PACK_BLOCKS)


def _make_packs(index: Index, files: int, places: dict[str, int], keep: Callable[[Container], None]) -> None:
    with ThreadPoolExecutor(2) as pool:
        under_way: list[Future[None]] = []
        for start in range(0, files, PACK_BLOCKS):
            container = _pack(start, min(PACK_BLOCKS, files - start))
            under_way.append(pool.submit(keep, container))
            if len(under_way) > _THREADS:
                under_way.pop(0).result()
            _enter_pack(index, container, places["pack"] + start // PACK_BLOCKS, places["block"] + start)
            _enter(index, (), {**places, "start": start, "end": start + len(container.entries)})
        for future in under_way:
            future.result()


def _pack(start: int, count: int) -> Container:
    noise = os.urandom(count * (BULK_SIZE - 8))
    step = BULK_SIZE - 8
    bodies = [(start + at).to_bytes(8, "big") + noise[at * step : (at + 1) * step] for at in range(count)]
    return build(PACK, [(block_hash(body), BULK_SIZE, 0, body) for body in bodies])


def _enter_pack(index: Index, container: Container, pack: int, block: int) -> None:
    name, size = bytes.fromhex(container.name), len(container.data)
    index.db.sql.execute("INSERT INTO pack VALUES (?,?,?,?)", (pack, name, size, len(container.entries)))
    index.db.sql.executemany(
        f"INSERT INTO block VALUES (?,?,?,?,?,?,{BULK_SIZE},0,1)",
        (
            (block + at, entry.hash, pack, entry.offset, entry.stored, at * BULK_SIZE)
            for at, entry in enumerate(container.entries)
        ),
    )


def _enter(index: Index, more: tuple[str, ...], places: dict[str, int]) -> None:
    for rows in (*more, *_ROWS):
        index.db.sql.execute(f"INSERT INTO {rows} FROM n", places)


def _directories(first: int, count: int) -> Iterator[tuple[int, ...]]:
    return ((first + at, stat.S_IFDIR | 0o755, _NOW, _NOW, _NOW) for at in range(count))


def _copy(there: ObjectStore, here: ObjectStore, key: str) -> None:
    data = there.get(key)
    assert data is not None
    here.create(key, data)


def _each(work: Callable[[str], T], items: list[str]) -> None:
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(work, items))
