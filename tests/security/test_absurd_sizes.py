"""Files of exabytes are legal, and sparse; whoever makes one must not keep the mount busy for ever."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from flyteplugins_vol.errors import UsageError
from flyteplugins_vol.index.index import Index
from flyteplugins_vol.io import RWVolume, Volume
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


@pytest.fixture
def sparse(tmp_path: Path) -> Iterator[RWVolume]:
    """A volume with a file of all bytes that there can be: 5 at its begin, 5 at 1 TiB, 5 at its end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLYTE_VOL_CACHE_DIR", str(tmp_path / "cache"))
        volume = Volume.new("sparse", f"file://{tmp_path}/store")
        volume.write_bytes.sync("file", b"begin")
        with volume.open.sync("file", "r+b", buffering=0) as file:
            for at, data in ((1 << 40, b"there"), (MOST - 5, b"end!!")):
                file.seek(at)
                file.write(data)
        volume.commit.sync()
        yield volume
        volume.close.sync()


@pytest.mark.timeout(20)
def test_a_file_of_exabytes_is_warmed_up_by_what_is_stored_of_it(sparse: RWVolume, tmp_path: Path) -> None:
    locator = sparse.locator
    assert locator is not None
    version = Volume.from_locator.sync(locator)
    shutil.rmtree(tmp_path / "cache" / "cache" / "packs", ignore_errors=True)
    for _ in range(2):
        assert version.warm_up.sync() < 1000
    with version.open.sync("file") as file:
        for at, data in ((0, b"begin"), (1 << 40, b"there"), (MOST - 5, b"end!!")):
            file.seek(at)
            assert file.read(5) == data
    version.close.sync()


@pytest.mark.timeout(20)
def test_a_file_of_exabytes_is_copied_by_what_is_stored_of_it(sparse: RWVolume, tmp_path: Path) -> None:
    sparse.copy.sync("file", "copy")
    assert sparse.stat.sync("copy").size == MOST
    for at, data in ((0, b"begin"), (1 << 40, b"there"), (MOST - 5, b"end!!")):
        assert sparse.read_bytes.sync("copy", offset=at, size=5) == data
    assert sparse.read_bytes.sync("copy", offset=1 << 50, size=5) == bytes(5)
    with sparse.open.sync("file", "r+b") as file:  # no file system of this machine keeps one of exabytes
        file.truncate((1 << 40) + (1 << 20))
    target = sparse.download.sync("file", tmp_path / "out")
    assert target.stat().st_size == (1 << 40) + (1 << 20)
    assert target.stat().st_blocks * 512 < 32 << 20
    with target.open("rb") as file:
        assert file.read(10) == b"begin" + bytes(5)
        file.seek(1 << 40)
        assert file.read(10) == b"there" + bytes(5)


def test_a_file_of_exabytes_is_not_read_into_memory(sparse: RWVolume) -> None:
    with pytest.raises(UsageError, match="more than this machine's memory") as caught:
        sparse.read_bytes.sync("file")
    assert "size=" in caught.value.hint
    with sparse.open.sync("file") as file, pytest.raises(UsageError, match="memory"):
        file.read()
    assert sparse.read_bytes.sync("file", offset=MOST - 5) == b"end!!"
