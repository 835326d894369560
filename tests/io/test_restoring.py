"""Files brought back as they were in another version, by the public types."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from flyteplugins_vol.errors import (
    AlreadyMountedError,
    HandleClosedError,
    LocatorError,
    NothingCommittedError,
    OtherStoreError,
    VersionNotFoundError,
    VolumeBusyError,
)
from flyteplugins_vol.io import Restored, ROVolume, RWVolume, Volume
from flyteplugins_vol.io.tree import FileTree
from tests.io.conftest import World, run_elsewhere
from tests.servers import S3Server

SECRET = "a secret of the tests"


@pytest.fixture
def volume(world: World) -> RWVolume:
    """Its first version has ``a`` and a directory; in its second, ``a`` is another and ``dir`` is gone."""
    volume = world.new()
    volume.mkdir.sync("dir/sub", parents=True)
    for name in ("a", "dir/b", "dir/sub/c"):
        volume.write_bytes.sync(name, name.encode() * 1000)
    volume.commit.sync("one")
    volume.write_bytes.sync("a", b"other")
    volume.remove.sync("dir", recursive=True)
    volume.commit.sync("two")
    return volume


def first(volume: Volume) -> ROVolume:
    return volume.log.sync()[-1]


def paths(volume: Volume) -> list[str]:
    return [one.path for one in volume.ls.sync("/", recursive=True)]


def differ(a: Volume, b: Volume) -> list[str]:
    with Volume.diff.sync(a, b) as found:
        return [one.path for one in found]


# ----------------------------------------------------------------------------------------------- what comes back


def test_a_directory_comes_back_and_no_byte_moves(world: World, volume: RWVolume) -> None:
    packs = world.objects("packs")
    kept = {pack: pack.read_bytes() for pack in packs}
    volume.close.sync()
    world.forget_caches()
    for pack in packs:
        pack.unlink()
    assert asyncio.run(volume.restore("dir", first(volume))) == Restored(files=4, bytes=5000 + 9000)
    version = volume.commit.sync("back")
    assert world.objects("packs") == [], "nothing was stored"
    assert version.stats["new_pack_bytes"] == 0
    for pack, data in kept.items():
        pack.write_bytes(data)
    assert differ(first(volume), version) == ["/a"]
    assert version.read_bytes.sync("dir/sub/c") == b"dir/sub/c" * 1000
    assert version.verify.sync(deep=True).ok


def test_a_file_comes_back_with_the_directories_above_it(volume: RWVolume) -> None:
    assert volume.restore.sync("/dir/sub/c", first(volume)) == Restored(files=3, bytes=9000)
    assert paths(volume) == ["/a", "/dir", "/dir/sub", "/dir/sub/c"]
    old, new = first(volume).stat.sync("dir"), volume.stat.sync("dir")
    assert (new.mode, new.mtime, new.nlink) == (old.mode, old.mtime, 3)
    assert volume.stat.sync("dir/sub").nlink == 2


def test_the_whole_volume(volume: RWVolume) -> None:
    before = first(volume)
    with pytest.raises(FileExistsError):
        volume.restore.sync("/", before)
    volume.write_bytes.sync("new", b"n")
    assert volume.restore.sync("/", before, overwrite=True) == Restored(files=5, bytes=1000 + 5000 + 9000)
    assert paths(volume) == ["/a", "/dir", "/dir/b", "/dir/sub", "/dir/sub/c"]
    version = volume.commit.sync()
    assert differ(before, version) == []
    assert version.stat.sync("/").mtime == before.stat.sync("/").mtime
    assert version.verify.sync(deep=True).ok


def test_a_new_volume_that_begins_with_a_part_of_another(world: World, volume: RWVolume) -> None:
    new = world.new("part")
    new.restore.sync("/", first(volume))
    assert paths(new) == ["/a", "/dir", "/dir/b", "/dir/sub", "/dir/sub/c"]
    part = world.new("less")
    part.restore.sync("dir/sub", first(volume), to="/")
    assert paths(part) == ["/c"]
    part.restore.sync("/", first(volume), to="all")
    version = part.commit.sync()
    assert version.read_bytes.sync("all/dir/b") == b"dir/b" * 1000
    assert version.parents == ()
    assert version.verify.sync(deep=True).ok


def test_what_is_there_goes_only_if_that_is_asked_for(volume: RWVolume) -> None:
    before = first(volume)
    with pytest.raises(FileExistsError) as caught:
        volume.restore.sync("a", before)
    assert caught.value.filename == "a"
    assert not volume.has_changes
    assert volume.read_bytes.sync("a") == b"other"
    volume.restore.sync("a", before, overwrite=True)
    assert volume.read_bytes.sync("a") == b"a" * 1000
    volume.restore.sync("dir", before)
    volume.write_bytes.sync("dir/sub/new", b"n")
    volume.restore.sync("dir", before, overwrite=True)
    assert paths(volume) == ["/a", "/dir", "/dir/b", "/dir/sub", "/dir/sub/c"], "a directory is replaced, not filled"
    volume.restore.sync("a", before, to="dir", overwrite=True)
    assert paths(volume) == ["/a", "/dir"]
    assert volume.commit.sync().verify.sync(deep=True).ok


def test_to_another_path(volume: RWVolume) -> None:
    before = first(volume)
    volume.restore.sync("dir/b", before, to="b.old")
    volume.restore.sync("dir/sub", before, to="/sub.old")
    assert paths(volume) == ["/a", "/b.old", "/sub.old", "/sub.old/c"]
    for missing in ("no/b", "a/b"):
        with pytest.raises((FileNotFoundError, NotADirectoryError)):
            volume.restore.sync("dir/b", before, to=missing)
    with pytest.raises(NotADirectoryError):
        volume.restore.sync("dir/b", before, to="/", overwrite=True)
    assert paths(volume) == ["/a", "/b.old", "/sub.old", "/sub.old/c"]


def link(tree: FileTree, name: bytes, target: bytes) -> None:
    with tree.unnamed(tree.root(), 0, target) as node:
        tree.give_name(node, tree.root(), name, replace=False)


def test_symlinks_are_followed_on_the_way_and_come_back_at_the_end(world: World) -> None:
    volume = world.new()
    tree: Any = volume._writing()
    volume.mkdir.sync("v1")
    volume.write_bytes.sync("v1/x", b"1")
    link(tree, b"latest", b"v1")
    before = volume.commit.sync()
    volume.remove.sync("latest")
    volume.remove.sync("v1", recursive=True)
    link(tree, b"gone", b"nowhere")
    volume.restore.sync("latest", before)
    assert volume.stat.sync("latest", follow_symlinks=False).target == "v1"
    with pytest.raises(FileNotFoundError):
        volume.restore.sync("latest/x", before)  # here it leads nowhere, and nothing is put in its place
    with pytest.raises(FileNotFoundError):
        volume.restore.sync("v1/x", before, to="gone/x")
    volume.restore.sync("v1", before)
    volume.remove.sync("v1/x")
    volume.restore.sync("latest/x", before)
    assert volume.read_bytes.sync("v1/x") == b"1"


def test_many_files_in_many_directories(world: World) -> None:
    volume = world.new()
    for number in range(1100):
        volume.mkdir.sync(f"wide/{number:04}", parents=True)
    for number in range(2100):
        volume.write_bytes.sync(f"wide/0001/{number}", b"%d" % (number % 7))
    deep = "/".join(["d"] * 200)
    volume.mkdir.sync(f"wide/{deep}", parents=True)
    volume.write_bytes.sync(f"wide/{deep}/end", b"end")
    before = volume.commit.sync()
    for _ in range(2):
        volume.restore.sync("wide", before, overwrite=True)
    version = volume.commit.sync("again")
    assert differ(before, version) == []
    assert version.verify.sync(deep=True).ok
    assert version.stats["files"] == before.stats["files"]


def test_a_file_that_is_open_is_read_to_its_end(volume: RWVolume) -> None:
    volume.write_bytes.sync("a", b"open" * 100)
    with volume.open.sync("a", buffering=0) as file:
        volume.restore.sync("a", first(volume), overwrite=True)
        assert file.read() == b"open" * 100
    assert volume.read_bytes.sync("a") == b"a" * 1000
    assert volume.commit.sync().verify.sync(deep=True).ok


def test_from_another_volume_by_its_locator(world: World, volume: RWVolume) -> None:
    other = world.keep(first(volume).fork.sync("other"))
    other.write_bytes.sync("mine", b"m" * 5000)
    other.commit.sync()
    volume.restore.sync("mine", str(other.locator))
    other_spelling = world.load(str(other.locator).replace("/store/", "//store/"))
    volume.restore.sync("mine", other_spelling, to="mine2")
    version = volume.commit.sync()
    assert version.read_bytes.sync("mine") == version.read_bytes.sync("mine2") == b"m" * 5000
    assert version.parents == (volume.log.sync()[1].locator,)
    other.close.sync()
    world.forget_caches()
    assert world.load(version.locator).verify.sync(deep=True).ok


def test_of_an_encrypted_store(world: World) -> None:
    pytest.importorskip("cryptography")
    url = f"file://{world.root}/secret"
    volume = world.keep(Volume.new("x", url, encryption=SECRET))
    volume.write_bytes.sync("a", b"a" * 5000)
    before = volume.commit.sync()
    volume.remove.sync("a")
    volume.commit.sync()
    volume.restore.sync("a", before)
    version = volume.commit.sync()
    volume.close.sync()
    world.forget_caches()
    again = world.keep(Volume.from_locator.sync(str(version.locator), encryption=SECRET))
    assert again.read_bytes.sync("a") == b"a" * 5000


def test_on_s3(world: World, s3_environment: S3Server) -> None:
    volume = world.new("x", s3_environment.new_bucket_url())
    volume.write_bytes.sync("dir", b"d" * 5000)
    before = volume.commit.sync()
    volume.remove.sync("dir")
    volume.commit.sync()
    world.forget_caches()
    volume.close.sync()
    volume.restore.sync("dir", str(before.locator))
    assert volume.commit.sync().verify.sync(deep=True).ok


@pytest.mark.parametrize("system", ["macos", "windows"])
def test_on_other_systems(world: World, system: str) -> None:
    code = """
        from flyteplugins_vol.io import Volume

        volume = Volume.new("x", STORE)
        volume.write_bytes.sync("a", b"1")
        first = volume.commit.sync()
        volume.write_bytes.sync("a", b"2")
        volume.restore.sync("a", first, overwrite=True)
        assert volume.commit.sync().read_bytes.sync("a") == b"1"
    """
    run_elsewhere(system, world, code)


# ------------------------------------------------------------------------------------------------- all that it has


Facts = dict[str, tuple[Any, ...]]


def facts(root: Path) -> Facts:
    """All that can be seen of a tree, but for inode numbers and ctimes."""
    found: Facts = {}
    for top, directories, files in os.walk(root):
        for name in [".", *directories, *files]:
            path = Path(top, name)
            s = path.lstat()
            is_file = stat.S_ISREG(s.st_mode)
            found[str(path.relative_to(root))] = (
                s.st_mode, s.st_nlink, s.st_uid, s.st_gid, s.st_size, s.st_blocks, s.st_mtime_ns, s.st_rdev,
                os.readlink(path) if path.is_symlink() else path.read_bytes() if is_file else None,
                {key: os.getxattr(path, key) for key in os.listxattr(path)} if is_file or path.is_dir() else None,
            )  # fmt: skip
    return found


@pytest.fixture
def everything(world: World, no_open_files: None) -> ROVolume:
    """A version with something of every kind in ``dir``, written through a mount."""
    volume = world.new()
    with volume.mounted(world.path("mount"), xattr=True) as mount:
        top = mount / "dir"
        (top / "sub").mkdir(parents=True)
        (top / "file").write_bytes(os.urandom(5000))
        (top / "file").chmod(0o4751)
        if os.getuid() == 0:
            os.chown(top / "file", 12, 34)
            os.mknod(top / "null", stat.S_IFCHR | 0o640, os.makedev(1, 3))
        os.setxattr(top / "file", "user.what", b"a file")
        os.setxattr(top / "sub", "user.what", b"a directory")
        os.link(top / "file", top / "sub" / "hard")
        os.link(top / "file", mount / "outside")
        os.symlink("../nowhere", top / "sub" / "symbolic")
        os.mkfifo(top / "fifo", 0o600)
        with open(top / "sparse", "wb") as file:
            file.truncate(50 << 20)
            file.seek(9 << 20)
            file.write(b"data" * 1000)
            file.flush()
            os.lseek(file.fileno(), 0, os.SEEK_SET)
        (top / "sub" / "sticky").mkdir(mode=0o700)
        (top / "sub" / "sticky").chmod(0o3777)
        for path in (top / "sparse", top / "sub" / "sticky", top / "sub", top):
            os.utime(path, ns=(10**18 + 1, 10**18 + 2))
        os.utime(top / "sub" / "symbolic", ns=(5, 7), follow_symlinks=False)
    return volume.log.sync()[0]


@pytest.mark.fuse
def test_everything_comes_back(world: World, everything: ROVolume) -> None:
    volume = world.keep(everything.fork.sync())
    volume.remove.sync("dir", recursive=True)
    volume.commit.sync()
    volume.restore.sync("dir", everything)
    version = volume.commit.sync()
    with everything.mounted(world.path("old"), xattr=True) as mount:
        old = facts(mount / "dir")
    with version.mounted(world.path("new"), xattr=True) as mount:
        new = facts(mount / "dir")
        assert (mount / "dir/file").stat().st_ino == (mount / "dir/sub/hard").stat().st_ino
        assert (mount / "outside").stat().st_ino != (mount / "dir/file").stat().st_ino
        with open(mount / "dir/sparse", "rb") as file:
            assert os.lseek(file.fileno(), 0, os.SEEK_DATA) == 9 << 20
    # a hard link's name outside of what came back is not one of it any more
    names = {"file": 1, "sub/hard": 1}
    assert new == {path: (one[0], one[1] - names.get(path, 0), *one[2:]) for path, one in old.items()}
    assert version.verify.sync(deep=True).ok


# ----------------------------------------------------------------------------------------------- what is refused


def test_what_is_not_there(volume: RWVolume) -> None:
    with pytest.raises(FileNotFoundError, match="not in version demo@1"):
        volume.restore.sync("nothing", first(volume))
    with pytest.raises(FileNotFoundError, match="not in version"):
        volume.restore.sync("no/thing", first(volume))
    with pytest.raises(NotADirectoryError):
        volume.restore.sync("a/thing", first(volume))
    assert paths(volume) == ["/a"]


def test_what_is_no_version(world: World, volume: RWVolume) -> None:
    with pytest.raises(NothingCommittedError):
        volume.restore.sync("a", world.new("new"))
    with pytest.raises(LocatorError):
        volume.restore.sync("a", "nonsense")
    with pytest.raises(VersionNotFoundError):
        volume.restore.sync("a", str(volume.locator).replace("00000002-", "00000003-"))
    volume.finalize.sync()
    with pytest.raises(HandleClosedError):
        volume.restore.sync("a", volume)


def test_a_version_of_another_store(world: World, volume: RWVolume) -> None:
    other = world.new("else", f"file://{world.root}/store2")
    other.write_bytes.sync("x", b"x")
    for one in (other.commit.sync(), str(other.locator)):
        with pytest.raises(OtherStoreError) as caught:
            volume.restore.sync("x", one)
        assert "copies their bytes" in caught.value.hint
    assert paths(volume) == ["/a"]


@pytest.mark.fuse
def test_a_volume_that_is_mounted(world: World, volume: RWVolume) -> None:
    before = first(volume)
    volume.mount.sync(world.path("mount"))
    with pytest.raises(AlreadyMountedError) as caught:
        volume.restore.sync("dir", before)
    assert "finalize()" in caught.value.hint
    other = world.keep(Volume.from_name.sync("demo", world.store))
    with pytest.raises(VolumeBusyError):
        other.restore.sync("dir", before)
    assert paths(volume) == ["/a"]
    volume.finalize.sync()
