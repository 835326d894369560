"""What the log calls a file on which something failed: its path, also where there are many, and none that is a lie."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flyteplugins_vol.index.index import Index
from flyteplugins_vol.model import ROOT_INO, Caller
from flyteplugins_vol.store.cache import BlockCache
from flyteplugins_vol.workspace.staging import Staging
from flyteplugins_vol.workspace.workspace import Workspace

ME = Caller(0, 0, 0o022)


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    index = Index.create(str(tmp_path / "index.db"), uid=0, gid=0)
    made = Workspace(index, Staging(str(tmp_path / "staging")), BlockCache(str(tmp_path / "cache")))
    yield made
    made.close()


def test_files_and_directories(workspace: Workspace) -> None:
    above = workspace.mkdir(ROOT_INO, b"a", 0o755, ME).ino
    below = workspace.mkdir(above, b"b", 0o755, ME).ino
    file = workspace.mknod(below, b"file", 0o100644, 0, ME).ino
    assert workspace.path_of(ROOT_INO) == b"/"
    assert workspace.path_of(below) == b"/a/b"
    for _ in range(2):
        assert workspace.path_of(file) == b"/a/b/file"
    workspace.rename(below, b"file", ROOT_INO, b"moved", 0)
    assert workspace.path_of(file) == b"/moved"
    workspace.rename(ROOT_INO, b"a", ROOT_INO, b"z", 0)
    assert workspace.path_of(below) == b"/z/b"
    workspace.link(file, below, b"second")
    workspace.unlink(ROOT_INO, b"moved")
    assert workspace.path_of(file) == b"/z/b/second"


def test_what_has_no_name_has_no_path(workspace: Workspace) -> None:
    file = workspace.mknod(ROOT_INO, b"file", 0o100644, 0, ME).ino
    workspace.open(file, 0)
    assert workspace.path_of(file) == b"/file"
    workspace.unlink(ROOT_INO, b"file")
    assert workspace.path_of(file) is None
    assert workspace.path_of(4711) is None


@pytest.mark.timeout(10)
def test_directories_in_a_circle_end_it(workspace: Workspace) -> None:
    """Nobody comes to them from the root; a file's second name may lie in one, in an index of a stranger's making."""
    one = workspace.mkdir(ROOT_INO, b"one", 0o755, ME).ino
    two = workspace.mkdir(one, b"two", 0o755, ME).ino
    file = workspace.mknod(two, b"file", 0o100644, 0, ME).ino
    workspace.index.flush()
    workspace.index.entries.remove(ROOT_INO, b"one")
    workspace.index.entries.put(two, b"one", one)
    workspace.index.inodes.get(one).parent = two  # type: ignore[union-attr]
    assert workspace.path_of(file) is None
