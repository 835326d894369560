"""A volume and its copy in another store have one name and id: on one machine, neither takes the other for itself."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from flyteplugins_vol.errors import LocalDirectoryError
from flyteplugins_vol.history.local import WorkspaceDirectory, WorkspaceState
from flyteplugins_vol.io import RWVolume, Volume
from tests.io.conftest import World


@pytest.fixture
def other(world: World) -> str:
    """The URL of a second store with the same volume, whose last version was written to by this machine as well."""
    volume = world.new("line")
    volume.write_bytes.sync("a", b"1")
    volume.finalize.sync()
    shutil.copytree(world.root / "store", world.root / "other")
    return f"file://{world.root}/other"


def mounted(world: World, store: str, name: str) -> tuple[RWVolume, Path]:
    volume = world.keep(Volume.from_name.sync("line", store))
    return volume, volume.mount.sync(world.path(name))


@pytest.mark.fuse
def test_both_are_written_to_at_once(world: World, other: str) -> None:
    here, path = mounted(world, world.store, "here")
    there, other_path = mounted(world, other, "there")
    (path / "of").write_text("here")
    (other_path / "of").write_text("there")
    assert here.finalize.sync().read_text.sync("of") == "here"
    version = there.finalize.sync()
    assert version.read_text.sync("of") == "there"
    assert version.locator is not None
    assert version.locator.startswith(other)


@pytest.mark.fuse
def test_what_a_killed_writer_left_is_that_stores_own(world: World, other: str) -> None:
    """Its packs are in that store alone: published in the other one, the version would be damaged."""
    here, path = mounted(world, world.store, "here")
    with open(path / "left", "wb") as file:
        file.write(os.urandom(5 << 20))
        os.fsync(file.fileno())
    os.kill(here.status()["pid"], signal.SIGKILL)
    while here.mount_path is not None:
        time.sleep(0.01)
    there, other_path = mounted(world, other, "there")
    assert os.listdir(other_path) == ["a"]
    assert there.finalize.sync("nothing of that").verify.sync(deep=True).ok
    path = here.mount.sync(world.path("again"))
    assert sorted(os.listdir(path)) == ["a", "left"]
    assert here.finalize.sync().verify.sync(deep=True).ok


def test_a_workspace_of_a_copy_is_not_resumed(tmp_path: Path) -> None:
    directory = WorkspaceDirectory(str(tmp_path / "workspaces" / "x"))
    directory.save(WorkspaceState("0" * 16, "writer", None, store_url="s3://here"))
    Path(directory.index).touch()
    assert directory.load("0" * 16, "s3://here") is not None
    with pytest.raises(LocalDirectoryError, match="s3://here") as caught:
        directory.load("0" * 16, "s3://there")
    assert caught.value.hint
