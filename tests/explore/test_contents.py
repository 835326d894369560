"""Bytes: previews read little, exports write whole files or none."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from pathlib import Path

import pytest

from flyteplugins_vol.errors import LocalDirectoryError, StoreError, UsageError
from flyteplugins_vol.explore.contents import StoreContents
from flyteplugins_vol.explore.export import ExportStopped, export
from flyteplugins_vol.explore.queries import Entry, IndexReader
from flyteplugins_vol.store.counting import Counting
from tests.explore.conftest import World, index_of, put

BIG = os.urandom(9 << 20)


async def opened(world: World, data: bytes, *, at: int = 0) -> tuple[StoreContents, Entry, Counting]:
    """A committed file, its entry, and the store that counts."""
    volume = world.new()
    ino = put(volume, "file")
    volume.workspace.write(ino, at, data)
    index = index_of(world, volume.commit())
    reader = await IndexReader.open(index)
    (entry,) = await reader.walk((b"file",))
    await reader.close()
    store = Counting(world.store)
    return StoreContents(index, store), entry, store


async def test_a_preview_reads_no_more_than_it_needs(world: World) -> None:
    contents, entry, store = await opened(world, BIG)
    assert sum(store.calls.values()) == 0
    assert contents.read(entry.ino, 0, 64 << 10) == BIG[: 64 << 10]
    assert store.calls["get_range"] == 1
    assert store.received <= (4 << 20) + 4096  # one block
    contents.close()


async def test_export_is_whole_and_keeps_holes(world: World, tmp_path: Path) -> None:
    contents, entry, _ = await opened(world, b"end", at=64 << 20)
    target = tmp_path / "copy"
    done: list[int] = []
    export(contents, entry, str(target), force=False, progress=done.append, stop=threading.Event())
    assert target.read_bytes() == bytes(64 << 20) + b"end"
    assert target.stat().st_blocks * 512 < 1 << 20
    assert done[-1] == entry.size == (64 << 20) + 3
    assert target.stat().st_mtime_ns == entry.mtime
    with pytest.raises(UsageError, match="there already"):
        export(contents, entry, str(target), force=False, progress=done.append, stop=threading.Event())
    export(contents, entry, str(target), force=True, progress=done.append, stop=threading.Event())
    with pytest.raises(UsageError, match="is a directory"):
        export(contents, entry, str(tmp_path), force=True, progress=done.append, stop=threading.Event())
    nowhere = str(tmp_path / "none" / "x")
    with pytest.raises(LocalDirectoryError, match="No such file or directory") as refused:
        export(contents, entry, nowhere, force=True, progress=done.append, stop=threading.Event())
    assert refused.value.hint == "give another path"
    contents.close()


async def test_an_export_that_ends_early_leaves_nothing(world: World, tmp_path: Path) -> None:
    contents, entry, _ = await opened(world, BIG)
    index_path = contents._index.db.path
    stop = threading.Event()
    with pytest.raises(ExportStopped):
        export(contents, entry, str(tmp_path / "x"), force=False, progress=lambda _: stop.set(), stop=stop)
    contents.close()
    world.lose_blocks()
    again = StoreContents(index_path, world.store)
    with pytest.raises(StoreError):
        export(again, entry, str(tmp_path / "x"), force=False, progress=lambda _: None, stop=threading.Event())
    again.close()
    assert not [name for name in os.listdir(tmp_path) if name.startswith("x")]


async def test_staged_bytes_are_said_to_be_elsewhere(world: World, tmp_path: Path) -> None:
    volume = world.new()
    volume.commit()
    ino = put(volume, "staged", b"not sealed so far")
    volume.workspace.index.commit()
    copy = tmp_path / "copy.db"
    volume.workspace.index.db.checkpoint()
    shutil.copyfile(volume.workspace.index.db.path, copy)
    db = sqlite3.connect(copy)
    db.execute("PRAGMA journal_mode=DELETE")
    db.close()
    contents = StoreContents(str(copy), world.store)
    with pytest.raises(UsageError, match="not in the store yet"):
        contents.read(ino, 0, 10)
    contents.close()
