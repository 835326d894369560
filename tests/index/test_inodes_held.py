"""High-throughput mode: what was seen stays in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from flyteplugins_vol.index import inodes
from flyteplugins_vol.index.index import Index
from flyteplugins_vol.model import Inode

COUNT = 50


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    monkeypatch.setattr(inodes, "_KEEP", 10)
    return Index.create(str(tmp_path / "index.db"), uid=0, gid=0)


def fill(index: Index) -> None:
    for _ in range(COUNT):
        ino = index.new_ino()
        index.inodes.add(Inode(ino, 0o100644, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, None))
    index.commit()
    index.trim()


def test_memory_is_bounded_without_it(index: Index) -> None:
    fill(index)
    asked: list[str] = []
    index.db.sql.set_trace_callback(asked.append)
    assert index.inodes.get(10) is not None
    assert len(asked) == 1


def test_with_all_held_nothing_is_read_again(index: Index) -> None:
    index.hold_all()
    fill(index)
    held = [index.inodes.get(ino) for ino in range(2, COUNT)]
    asked: list[str] = []
    index.db.sql.set_trace_callback(asked.append)
    index.trim()
    assert [index.inodes.get(ino) for ino in range(2, COUNT)] == held
    assert asked == []
