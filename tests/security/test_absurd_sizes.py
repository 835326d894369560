"""Files of exabytes are legal, and sparse; whoever makes one must not keep the mount busy for ever."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from flyteplugins_vol.index.index import Index
from flyteplugins_vol.model import AttrChange, Caller
from flyteplugins_vol.store.cache import BlockCache
from flyteplugins_vol.workspace.staging import Staging
from flyteplugins_vol.workspace.workspace import Workspace

ME = Caller(0, 0, 0o022)
MOST = (1 << 63) - 1
PUNCH_AND_KEEP_SIZE = 3


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    index = Index.create(str(tmp_path / "index.db"), uid=0, gid=0)
    made = Workspace(index, Staging(str(tmp_path / "staging")), BlockCache(str(tmp_path / "cache")))
    yield made
    made.close()


@pytest.mark.timeout(10)
def test_holes_of_exabytes_take_no_time(workspace: Workspace) -> None:
    ino = workspace.mknod(1, b"sparse", 0o100644, 0, ME).ino
    workspace.write(ino, 0, b"begin")
    workspace.setattr(ino, AttrChange(size=MOST), ME)
    workspace.write(ino, MOST - 5, b"end!!")
    workspace.index.flush()
    assert workspace.read(ino, MOST - 5, 100) == b"end!!"
    assert workspace.lseek(ino, 5, os.SEEK_DATA) <= MOST - 5
    workspace.fallocate(ino, 0, MOST - 5, PUNCH_AND_KEEP_SIZE)
    assert workspace.read(ino, 0, 5) == bytes(5)
    assert workspace.read(ino, MOST - 5, 5) == b"end!!"
    other = workspace.mknod(1, b"other", 0o100644, 0, ME).ino
    workspace.copy_range(ino, 0, other, 0, MOST - 10)
    assert workspace.getattr(other).size == MOST - 10
    workspace.setattr(ino, AttrChange(size=0), ME)
    assert workspace.getattr(ino).allocated == 0
