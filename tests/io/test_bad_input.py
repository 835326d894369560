"""What can be wrong, and what a person is told: its own class, what it was, what to do next."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flyteplugins_vol import errors
from flyteplugins_vol.io import Volume
from tests.io.conftest import World

GOOD = "file:///nowhere/volumes/a-0123456789abcdef/versions/00000001-0123456789abcdef0123456789abcdef.json"


@pytest.mark.parametrize(
    "text", ["", "hello", "s3://bucket/file.txt", GOOD[:-1], GOOD.replace("/versions", ""), GOOD + "x"]
)
def test_not_a_locator(text: str) -> None:
    with pytest.raises(errors.LocatorError, match="is not a locator") as caught:
        Volume.from_locator.sync(text)
    assert "vol.locator" in caught.value.hint


def test_a_locator_of_something_deleted(world: World) -> None:
    version = world.new().finalize.sync()
    world.objects("volumes/")[1].unlink()
    with pytest.raises(errors.VersionNotFoundError, match="there is no version at") as caught:
        Volume.from_locator.sync(version.locator)
    assert "deleted" in caught.value.hint


def test_an_altered_record(world: World) -> None:
    version = world.new().finalize.sync()
    record = next(path for path in world.objects("volumes") if "versions" in str(path))
    record.write_bytes(record.read_bytes().replace(b'"files":1', b'"files":2'))
    with pytest.raises(errors.RecordDamagedError, match="altered"):
        Volume.from_locator.sync(version.locator)


def test_unknown_schemes_and_names(world: World) -> None:
    with pytest.raises(errors.UnknownSchemeError, match="no store speaks gopher://") as caught:
        Volume.new("a", "gopher://hole/x").finalize.sync()
    assert "s3://" in caught.value.message + caught.value.hint
    for name in ("", "a/b", "-a", "x" * 64, "a b"):
        with pytest.raises(errors.VolumeNameError, match="cannot name a volume"):
            Volume.new(name, world.store)
    with pytest.raises(errors.UsageError, match="user name or a password"):
        Volume.new("a", "s3://key:secret@bucket/x")


def test_nothing_to_fork_and_nothing_mounted(world: World) -> None:
    volume = world.new()
    with pytest.raises(errors.NothingCommittedError, match="has no version yet"):
        volume.fork.sync()
    with pytest.raises(errors.NotMountedError, match="is not mounted"):
        volume.commit.sync()
    with pytest.raises(errors.NotMountedError):
        volume.status()
    with pytest.raises(errors.NothingCommittedError):
        volume.mount.sync(read_only=True)


@pytest.mark.fuse
def test_a_read_only_mount_of_a_writer_forks_and_commits_nothing(world: World) -> None:
    first = world.new()
    first.write_bytes.sync("a", b"1")
    version = first.finalize.sync()
    volume = world.keep(Volume.from_name.sync("demo", world.store))
    path = volume.mount.sync(read_only=True)
    with pytest.raises(errors.UsageError, match="is mounted read-only: there is nothing to commit") as caught:
        volume.commit.sync()
    assert "without read_only" in caught.value.hint
    fork = world.keep(volume.fork.sync("other"))
    assert fork.read_bytes.sync("a") == b"1"
    assert (path / "a").read_bytes() == b"1"
    assert volume.locator == version.locator


LONG = "ä" * (64 << 10)
"""As long as a message may be."""


@pytest.mark.fuse
@pytest.mark.parametrize("message", [LONG + "x", "x" * (3 << 20)], ids=["one byte", "megabytes"])
def test_a_message_that_is_too_long(world: World, message: str) -> None:
    volume = world.new()
    volume.write_bytes.sync("a", b"1")
    for publish in (volume.commit, volume.finalize):
        with pytest.raises(errors.UsageError, match="and a version takes 128") as caught:
            publish.sync(message)
        assert caught.value.hint
    version = volume.commit.sync(LONG)
    assert version.message == LONG
    path = volume.mount.sync()
    (path / "b").write_text("2")
    for publish in (volume.commit, volume.finalize):
        with pytest.raises(errors.UsageError, match="and a version takes 128"):
            publish.sync(message)
    assert volume.finalize.sync(LONG).message == LONG
    with pytest.raises(errors.UsageError, match="and a version takes 128"):
        version.fork.sync("other").finalize.sync(message)
    assert [found.name for found in Volume.list.sync(world.store)] == ["demo"]
    assert len(version.log.sync()) == 1


def test_options_that_make_no_sense(world: World) -> None:
    version = world.new().finalize.sync()
    with pytest.raises(errors.UsageError, match="takes no writeback"):
        version.mount.sync(writeback=True)
    with pytest.raises(errors.UsageError, match="negative"):
        world.new().mount.sync(attr_cache=-1)
    with pytest.raises(errors.UsageError, match="not positive"):
        world.new().mount.sync(max_uploads=0)
    with pytest.raises(TypeError, match="no_such"):
        version.mount.sync(no_such=1)


@pytest.mark.fuse
def test_mounting_twice(world: World) -> None:
    version = world.new("twice").finalize.sync()
    volume = world.keep(Volume.from_name.sync("twice", world.store))
    path = volume.mount.sync()
    with pytest.raises(errors.AlreadyMountedError, match=str(path)):
        volume.mount.sync()
    second = world.keep(Volume.from_name.sync("twice", world.store))
    with pytest.raises(errors.VolumeBusyError, match="mounted") as caught:
        second.mount.sync()
    assert str(os.getpid()) in str(caught.value)
    assert (path / ".").is_dir()  # the first mount is unharmed
    readers = [world.load(version.locator) for _ in range(2)]
    assert len({reader.mount.sync() for reader in readers}) == 2


@pytest.mark.fuse
def test_mount_paths_that_cannot_be(world: World) -> None:
    version = world.keep(world.new().finalize.sync())
    file = world.path("file")
    file.write_text("x")
    full = world.path("full")
    full.mkdir()
    (full / "x").touch()
    for path, why in ((file, "is not a directory"), (full, "is not empty"), (file / "below", "is not a directory")):
        with pytest.raises(errors.MountPathError, match=why) as caught:
            version.mount.sync(path)
        assert caught.value.hint
    taken = version.mount.sync(world.path("taken"))
    other = world.load(version.locator)
    with pytest.raises(errors.MountPathError, match="mount point already") as caught:
        other.mount.sync(taken)
    assert caught.value.hint.endswith(f"`flytevol umount {taken}`")
    assert file.read_text() == "x"


@pytest.mark.fuse
@pytest.mark.parametrize("read_only", [False, True])
def test_a_mount_path_above_the_cache(world: World, read_only: bool) -> None:
    version = world.new().finalize.sync()
    volume = world.load(version.locator) if read_only else world.new("other")
    path = world.path("above")
    path.mkdir()
    with pytest.raises(errors.MountPathError, match="would hide the staging directory of the mount"):
        volume.mount.sync(path, meta_dir=path / "meta")
    with pytest.raises(errors.MountPathError, match="would hide the cache directory of the mount"):
        volume.mount.sync(path, cache_dir=path / "cache")
    assert list(path.iterdir()) == []
    assert volume.mount.sync(path) == path


@pytest.mark.fuse
def test_a_log_path_or_a_mount_path_that_cannot_be(world: World) -> None:
    volume = world.new()
    with pytest.raises(errors.LocalDirectoryError, match="cannot be written"):
        volume.mount.sync(world.path("mnt"), log_path=world.path("nowhere") / "log")
    with pytest.raises(errors.LocalDirectoryError, match="cannot be written"):
        volume.mount.sync(world.path("mnt"), log_path=world.root)
    with pytest.raises(errors.MountPathError, match="would hide the log"):
        volume.mount.sync(world.path("mnt"), log_path=world.path("mnt") / "log")
    assert not world.path("mnt").exists()
    with pytest.raises(errors.MountPathError, match="NUL"):
        volume.mount.sync("/mnt/\0")
    with pytest.raises(errors.MountPathError, match="would hide the store"):
        world.new("inside", f"file://{world.root}/mnt/store").mount.sync(world.path("mnt"))
    (volume.mount.sync(world.path("mnt"), log_path=world.path("log")) / "a").touch()


def test_memory_stores_cannot_be_mounted(world: World) -> None:
    with pytest.raises(errors.UnknownSchemeError, match="lives in one process"):
        world.new("m", "memory://m").mount.sync()


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[Path]:
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="makes a small disk to fill: needs root")


@pytest.mark.fuse
@needs_root
def test_a_cache_directory_that_is_full_or_missing(world: World) -> None:
    with small_disk(world.path("small"), "8m") as small:
        with pytest.raises(errors.LocalDirectoryError, match="MiB free"):
            world.new().mount.sync(cache_dir=small)
    with pytest.raises(errors.LocalDirectoryError, match="cannot be made"):
        world.new().mount.sync(cache_dir="/proc/none")
    path = world.new().mount.sync(cache_dir=world.path("made") / "for" / "us")
    assert path.is_dir()


@pytest.mark.fuse
@needs_root
def test_a_full_staging_disk_is_enospc_and_loses_nothing(world: World) -> None:
    with small_disk(world.path("small"), "100m") as small:
        volume = world.new()
        path = volume.mount.sync(meta_dir=small, upload_delay=3600)
        (path / "first").write_bytes(b"1" * 1_000_000)
        filler = small / "filler"
        filler.write_bytes(bytes(90_000_000))
        with pytest.raises(OSError, match="No space left") as caught:
            with open(path / "second", "wb", buffering=0) as file:
                for _ in range(64):
                    file.write(os.urandom(1 << 20))
                os.fsync(file.fileno())
        assert caught.value.errno == errno.ENOSPC
        filler.unlink()
        (path / "third").write_bytes(b"3" * 1_000_000)
        with pytest.raises(errors.LostWritesError, match="/second"):
            volume.finalize.sync()
        assert (path / "first").exists()  # it is mounted, and nothing is dropped
        version = volume.finalize.sync()  # somebody has heard of it
    with world.keep(version).mounted() as path:
        assert (path / "first").read_bytes() == b"1" * 1_000_000
        assert (path / "third").read_bytes() == b"3" * 1_000_000


@pytest.mark.fuse
@pytest.mark.parametrize("harm", ["missing", "cut", "altered"])
def test_a_harmed_pack_is_eio_on_its_files_only(world: World, harm: str) -> None:
    volume = world.new()
    path = volume.mount.sync()
    (path / "good").write_bytes(os.urandom(100_000))
    volume.commit.sync()
    good = set(world.objects("packs"))
    (path / "bad").write_bytes(os.urandom(100_000))
    version = volume.finalize.sync()
    world.forget_caches()
    _harm((set(world.objects("packs")) - good).pop(), harm)
    path = world.keep(version).mount.sync(log_path=world.path("log"))
    assert len((path / "good").read_bytes()) == 100_000
    with pytest.raises(OSError, match="Input/output") as caught:
        (path / "bad").read_bytes()
    assert caught.value.errno == errno.EIO
    assert len((path / "good").read_bytes()) == 100_000
    assert "pack" in world.path("log").read_text()


@pytest.mark.fuse
@pytest.mark.parametrize(
    ("harm", "error"),
    [
        ("missing", errors.ObjectMissingError),
        ("cut", errors.IndexDamagedError),
        ("altered", errors.IndexDamagedError),
    ],
)
def test_a_harmed_index_object(world: World, harm: str, error: type[errors.VolumeError]) -> None:
    version = world.keep(world.new().finalize.sync())
    world.forget_caches()
    _harm(world.objects("index")[0], harm)
    with pytest.raises(error) as caught:
        version.mount.sync(world.path("mnt"))
    assert caught.value.hint
    assert not world.path("mnt").exists()


def _harm(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    path.unlink()
    if how == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif how == "altered":
        data[len(data) // 3] ^= 0x40
        path.write_bytes(data)


@pytest.mark.fuse
@needs_root
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_an_ordinary_user_without_rights_in_the_store(world: World) -> None:
    """As another user, since root may do everything with a directory."""
    version = world.new().finalize.sync()
    store = world.root / "store"
    os.chmod(store, 0o700)
    for directory in (world.root, *world.root.parents):
        if directory != Path("/"):
            os.chmod(directory, directory.stat().st_mode | 0o055)
    os.chmod(store, 0o700)
    child = os.fork()
    if not child:
        os._exit(_as_nobody(version.locator))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _as_nobody(locator: str | None) -> int:
    """In a forked child: nothing is started, so it matters not whether that user may run this interpreter."""
    try:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        Volume.from_locator.sync(str(locator))
    except errors.StoreAccessError as error:
        return 0 if error.hint else 2
    except BaseException:
        return 3
    return 1


@pytest.mark.fuse
def test_a_damaged_block_harms_no_neighbour_in_its_pack(world: World) -> None:
    """Small files come in by the line: one that is damaged must not take the others of its line with it."""
    volume = world.new()
    path = volume.mount.sync()
    for number in range(20):
        (path / f"f{number:02}").write_bytes(os.urandom(1000))
    version = volume.finalize.sync()
    world.forget_caches()
    (pack,) = world.objects("packs")
    data = bytearray(pack.read_bytes())
    data[16 + 10_500] ^= 1  # in the eleventh of the blocks, which follow a header of 16 bytes
    pack.unlink()
    pack.write_bytes(data)
    path = world.keep(version).mount.sync()
    failed = [p.name for p in sorted(path.iterdir()) if not _readable(p)]
    assert len(failed) == 1


def _readable(path: Path) -> bool:
    try:
        return len(path.read_bytes()) == 1000
    except OSError as error:
        assert error.errno == errno.EIO
        return False
