"""Remove, copy and rename within a volume."""

from __future__ import annotations

import io
import os
import shutil

import pytest

from flyteplugins_vol.io import RWVolume
from tests.io.conftest import World, names


def test_a_copy_reads_and_stores_no_bytes(world: World) -> None:
    volume = world.new("files")
    data = os.urandom(9_000_001)
    volume.write_bytes.sync("weights", data)
    with volume.open.sync("sparse", "wb") as file:
        file.seek(50 << 20)
        file.write(b"end")
    version = volume.finalize.sync()
    world.forget_caches()
    (world.root / "store" / "packs").rename(world.path("away"))  # whoever reads a block now fails
    fork = world.keep(version.fork.sync())
    fork.write_bytes.sync("staged", b"not uploaded yet")
    fork.copy.sync("weights", "copy")
    fork.copy.sync("sparse", "copy of sparse")
    fork.copy.sync("staged", "copy of staged")
    fork.remove.sync("weights")
    copied = fork.finalize.sync()
    assert sum(path.stat().st_size for path in world.objects("packs")) < 2000
    shutil.copytree(world.path("away"), world.root / "store" / "packs", dirs_exist_ok=True)
    assert copied.read_bytes.sync("copy") == data
    assert copied.read_bytes.sync("copy of staged") == b"not uploaded yet"
    assert copied.read_bytes.sync("copy of sparse", offset=(50 << 20) - 1) == b"\0end"
    assert copied.stat.sync("copy").mtime == version.stat.sync("weights").mtime


def test_remove_copy_and_rename(volume: RWVolume) -> None:
    with volume.batch_upload() as batch:
        for path in ("d/one", "d/sub/two", "e/one"):
            batch.put_file(io.BytesIO(path.encode()), path)
    volume.copy.sync("d/one", "copy")
    volume.copy.sync("d", "e", recursive=True)
    assert volume.read_bytes.sync("e/d/sub/two") == b"d/sub/two"
    volume.copy.sync("d", "fresh", recursive=True)
    assert names(volume, "fresh") == ["/fresh/one", "/fresh/sub"]
    with pytest.raises(IsADirectoryError):
        volume.copy.sync("d", "x")
    with pytest.raises(OSError, match="into itself"):
        volume.copy.sync("d", "d/sub", recursive=True)
    with pytest.raises(FileExistsError):
        volume.copy.sync("d/one", "copy")
    volume.copy.sync("e/one", "copy", force=True)
    assert volume.read_bytes.sync("copy") == b"e/one"
    volume.rename.sync("copy", "moved")
    volume.rename.sync("moved", "d/sub")
    assert volume.read_bytes.sync("d/sub/moved") == b"e/one"
    with pytest.raises(FileExistsError):
        volume.rename.sync("d/one", "d/sub/two")
    with pytest.raises(OSError, match="cannot be moved into itself"):
        volume.rename.sync("d", "d/sub/d")
    volume.remove.sync("d", recursive=True)
    assert names(volume) == ["/e", "/fresh"]
    volume.remove.sync("/", recursive=True)
    assert names(volume) == []


def linked(volume: RWVolume, world: World, **links: str) -> None:
    """Bring symlinks in, each with its target."""
    here = world.path("links")
    here.mkdir(exist_ok=True)
    for name, target in links.items():
        (here / name).symlink_to(target)
    with volume.batch_upload() as batch:
        batch.put_directory(here, "/")
    shutil.rmtree(here)


def test_a_symlink_is_not_copied_to_where_it_leads(volume: RWVolume, world: World) -> None:
    volume.write_bytes.sync("real", b"precious")
    volume.mkdir.sync("d")
    linked(volume, world, link="real", other="link", nowhere="gone", loop="loop", to_d="d")
    for source, target in (("link", "real"), ("link", "link"), ("real", "link"), ("real", "real"), ("other", "real")):
        with pytest.raises(shutil.SameFileError, match="is the same file as"):
            volume.copy.sync(source, target, force=True)
    assert volume.read_bytes.sync("link") == b"precious"
    for target in ("nowhere", "loop", "other"):
        with pytest.raises(FileExistsError):
            volume.copy.sync("link", target)
        volume.copy.sync("link", target, force=True)
        assert volume.stat.sync(target, follow_symlinks=False).target == "real"
    volume.copy.sync("link", "to_d")
    assert volume.stat.sync("d/link", follow_symlinks=False).target == "real"


def test_a_directory_of_symlinks_is_not_copied_over_what_they_lead_to(volume: RWVolume, world: World) -> None:
    volume.mkdir.sync("from")
    volume.mkdir.sync("into/from", parents=True)
    volume.write_bytes.sync("into/from/x", b"precious")
    linked(volume, world, x="../into/from/x")
    volume.rename.sync("x", "from/x")
    with pytest.raises(shutil.SameFileError):
        volume.copy.sync("from", "into", recursive=True, force=True)
    assert volume.read_bytes.sync("into/from/x") == b"precious"


def test_a_directory_is_not_copied_below_itself_through_a_symlink(volume: RWVolume, world: World) -> None:
    volume.mkdir.sync("d/sub/deeper", parents=True)
    linked(volume, world, l="d/sub")
    for target in ("l", "l/x", "l/deeper/x", "d/sub/../x", "l/../x"):
        with pytest.raises(OSError, match="into itself"):
            volume.copy.sync("d", target, recursive=True)
    assert names(volume, "d", recursive=True) == ["/d/sub", "/d/sub/deeper"]
    volume.copy.sync("d/sub", "l/../x", recursive=True)
    assert names(volume, "d/x") == ["/d/x/deeper"]
