"""Trees that are deeper than Python's stack: nothing that walks them calls itself."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flyteplugins_vol.fs import VolumeFileSystem
from flyteplugins_vol.io import RWVolume
from flyteplugins_vol.io.writing import WriteFiles
from flyteplugins_vol.model import ROOT_INO, Caller
from tests.io.conftest import World

LEVELS = 400
STACK = 200  # calls that a test may nest: with the usual 1,000 the trees would take their time
ME = Caller(0, 0, 0o022)


@pytest.fixture
def small_stack() -> Iterator[None]:
    usual = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + STACK)
    yield
    sys.setrecursionlimit(usual)


@pytest.fixture
def deep(world: World) -> RWVolume:
    """``/top/d/d/d…`` with a file at its end."""
    volume = world.new("deep")
    volume.mkdir.sync("top")
    tree = WriteFiles._writing(volume)
    workspace = tree._workspace  # type: ignore[attr-defined]

    def make() -> None:
        ino = workspace.lookup(ROOT_INO, b"top").ino
        for _ in range(LEVELS):
            ino = workspace.mkdir(ino, b"d", 0o755, ME).ino
        workspace.write(workspace.mknod(ino, b"end", 0o100644, 0, ME).ino, 0, b"content")

    tree._session.change(make)  # type: ignore[attr-defined]
    return volume


@pytest.mark.usefixtures("small_stack")
def test_without_a_mount(deep: RWVolume, tmp_path: Path) -> None:
    bottom = "/top" + "/d" * LEVELS
    found = deep.ls.sync("/", recursive=True)
    assert len(found) == LEVELS + 2
    assert found[-1].path == f"{bottom}/end"
    assert sum(1 for _ in deep.walk("/")) == LEVELS + 2
    assert deep.read_bytes.sync(f"{bottom}/end") == b"content"
    target = deep.download.sync("/top", tmp_path / "there")
    path = Path(f"{target}{'/d' * LEVELS}/end")
    assert path.read_bytes() == b"content"
    with deep.batch_upload() as batch:
        batch.put_directory(target, "again")
    deep.copy.sync("/top", "/copied", recursive=True)
    deep.rename.sync("/copied", "/renamed")
    with pytest.raises(OSError, match="into itself"):
        deep.copy.sync("/top", "/top/d/d/new", recursive=True)
    for name in ("again", "renamed"):
        assert deep.read_bytes.sync(f"/{name}{'/d' * LEVELS}/end") == b"content"
        deep.remove.sync(name, recursive=True)
    assert [info.name for info in deep.ls.sync("/")] == ["top"]


@pytest.mark.usefixtures("small_stack")
def test_over_fsspec(deep: RWVolume) -> None:
    files = VolumeFileSystem.of(deep)
    assert len(files.find("/", withdirs=True)) >= LEVELS + 2
    for topdown in (True, False):
        levels = [here for here, _, _ in files.walk("/", topdown=topdown)]
        assert len(levels) == LEVELS + 2
        assert sorted(levels, key=len, reverse=not topdown) == levels
    assert [len(directories) for _, directories, _ in files.walk("/", maxdepth=3)] == [1, 1, 1]
    files.rm("/top", recursive=True)
    assert files.ls("/") == []
