"""Create, mount, write, commit, fork, finalize, load: through the public types, on real mounts."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys

import pytest

from flyteplugins_vol.errors import HandleClosedError, NotMountedError, UsageError
from flyteplugins_vol.io import ROVolume, RWVolume, Volume
from tests.io.conftest import World
from tests.io.killed import left_by_a_kill
from tests.waiting import wait_for

pytestmark = pytest.mark.fuse


async def test_the_contract_example(world: World) -> None:
    volume = world.new("my-dataset")
    assert volume.locator is None
    data = await volume.mount()
    assert data == world.path("home") / "flyte-volume"
    (data / "greeting.txt").write_text("hello from a volume\n")
    version = await volume.finalize(message="initial dataset")

    assert isinstance(version, ROVolume)
    assert version.message == "initial dataset"
    assert not data.exists()  # the mount made it, so the mount took it away
    loaded = world.keep(await Volume.from_locator(version.locator))
    async with loaded.mounted() as path:
        assert (path / "greeting.txt").read_text() == "hello from a volume\n"
        with pytest.raises(OSError, match="Read-only"):
            (path / "more.txt").write_text("no")


async def test_commits_are_versions_and_the_mount_lives_on(world: World) -> None:
    volume = world.new()
    data = await volume.mount()
    versions = []
    for number in range(3):
        (data / "state").write_text(f"step {number}")
        versions.append(await volume.commit(f"step {number}"))
    assert volume.mount_path == data
    assert [v.message for v in versions] == ["step 0", "step 1", "step 2"]
    assert versions[1].parents == (versions[0].locator,)
    assert volume.locator == versions[2].locator
    for number, version in enumerate(versions):
        async with world.keep(version).mounted() as path:
            assert (path / "state").read_text() == f"step {number}"


async def test_an_unchanged_volume_is_published_once(world: World) -> None:
    volume = world.new()
    data = await volume.mount()
    (data / "a").write_text("a")
    first = await volume.commit()
    assert (await volume.commit()).locator == first.locator
    assert (await volume.finalize()).locator == first.locator
    assert len(world.objects("volumes")) == 2  # one record, one ref


async def test_forks_share_everything_and_never_touch_their_parent(world: World) -> None:
    volume = world.new()
    with volume.mounted() as data:
        (data / "big").write_bytes(os.urandom(3 << 20))
        (data / "keep").write_text("parent")
    parent = world.load(volume.locator)
    packs = len(world.objects("packs"))

    forks = [world.keep(await parent.fork(f"shard-{i}")) for i in range(3)]
    assert len(world.objects("volumes")) == 2  # a fork writes nothing before its first commit

    async def work(number: int, fork: RWVolume) -> ROVolume:
        path = await fork.mount()
        (path / "keep").write_text(f"fork {number}")
        return await fork.finalize(f"shard {number}")

    results = await asyncio.gather(*(work(i, fork) for i, fork in enumerate(forks)))
    assert len(world.objects("packs")) == packs + 3
    for number, version in enumerate(results):
        assert version.parents == (parent.locator,)
        async with world.keep(version).mounted() as path:
            assert (path / "keep").read_text() == f"fork {number}"
            assert (path / "big").stat().st_size == 3 << 20
    async with parent.mounted() as path:
        assert (path / "keep").read_text() == "parent"


async def test_a_live_volume_can_be_forked(world: World) -> None:
    volume = world.new()
    data = await volume.mount()
    (data / "a").write_text("before")
    fork = world.keep(await volume.fork("branch"))
    (data / "a").write_text("after")
    path = await fork.mount()
    assert (path / "a").read_text() == "before"
    assert (data / "a").read_text() == "after"
    assert (await fork.finalize()).parents == (volume.locator,)


def test_blocking_twins(world: World) -> None:
    volume = world.new()
    data = volume.mount.sync()
    (data / "a").write_text("a")
    first = volume.commit.sync("one")
    branch = world.keep(volume.fork.sync())
    assert branch.name == volume.name
    assert volume.finalize.sync().locator == first.locator
    loaded = world.keep(Volume.from_locator.sync(first.locator))
    with loaded.mounted() as path:
        assert (path / "a").read_text() == "a"
    loaded.unmount.sync()


def test_a_volume_by_name_goes_on_where_its_ref_is(world: World) -> None:
    with world.new("by-name").mounted() as data:
        (data / "a").write_text("1")
    volume = world.keep(Volume.from_name.sync("by-name", world.store))
    with volume.mounted() as data:
        assert (data / "a").read_text() == "1"
        (data / "a").write_text("2")
    assert volume.version is not None
    assert volume.version.startswith("00000002-")
    fresh = Volume.from_name.sync("other", world.store, create_if_missing=True)
    assert fresh.locator is None


def test_finalize_without_a_mount_publishes_what_it_begins_with(world: World) -> None:
    empty = world.new("empty").finalize.sync("nothing yet")
    with world.keep(empty).mounted() as path:
        assert list(path.iterdir()) == []
    fork = world.keep(empty.fork.sync("copy"))
    version = fork.finalize.sync()
    assert version.parents == (empty.locator,)
    assert version.name == "copy"


def test_handles_close(world: World) -> None:
    volume = world.new()
    with volume.mounted() as data:
        (data / "a").write_text("a")
    with pytest.raises(HandleClosedError, match="was finalized"):
        volume.commit.sync()
    with pytest.raises(HandleClosedError, match="fork that version"):
        volume.mount.sync()
    assert volume.fork.sync().parents == (volume.locator,)
    dropped = world.new()
    (dropped.mount.sync() / "a").write_text("lost on purpose")
    dropped.abandon.sync()
    dropped.abandon.sync()
    with pytest.raises(HandleClosedError, match="abandoned"):
        dropped.mount.sync()
    assert dropped.locator is None


def test_an_exception_in_the_body_publishes_nothing(world: World) -> None:
    volume = world.new()
    with pytest.raises(RuntimeError, match="user code"), volume.mounted() as data:
        (data / "a").write_text("a")
        raise RuntimeError("user code")
    assert volume.mount_path is None
    assert world.objects("volumes") == []
    assert not data.exists()


async def test_eight_mounts_at_the_default_path_get_eight_paths(world: World) -> None:
    volumes = [world.new("many") for _ in range(8)]
    paths = await asyncio.gather(*(volume.mount() for volume in volumes))
    assert len(set(paths)) == 8
    for number, path in enumerate(paths):
        (path / "n").write_text(str(number))
    versions = await asyncio.gather(*(volume.finalize() for volume in volumes))
    assert len({version.locator for version in versions}) == 8


async def test_a_cancelled_mount_leaves_nothing(world: World) -> None:
    volume = world.new()
    task = asyncio.ensure_future(volume.mount())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert volume.mount_path is None


async def test_a_cancelled_mount_leaves_what_a_killed_process_left_and_the_handle_can_be_used(world: World) -> None:
    left_by_a_kill(world)
    volume = world.keep(await Volume.from_name("line", world.store))
    task = asyncio.ensure_future(volume.mount(world.path("again")))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert volume.mount_path is None
    (one,) = RWVolume.recoverable()
    assert one.left.files == 3
    with pytest.raises(NotMountedError):
        await volume.commit()
    data = await volume.mount(world.path("again"))
    assert sorted(path.name for path in data.iterdir()) == ["a", "b"]
    await volume.finalize()


async def test_a_handle_whose_mount_was_cancelled_publishes_as_if_it_had_not_begun(world: World) -> None:
    volume = world.new()
    task = asyncio.ensure_future(volume.mount())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await volume.write_bytes("a", b"1")
    version = await volume.finalize()
    assert [info.path for info in await version.ls()] == ["/a"]


async def test_who_leaves_a_mount_keeps_what_is_in_no_version(world: World) -> None:
    volume = world.new("line")
    (await volume.mount() / "a").write_text("1")
    await volume.leave()
    await volume.leave()
    with pytest.raises(HandleClosedError):
        await volume.mount()
    (one,) = RWVolume.recoverable()
    assert (one.left.volume_name, one.left.files) == ("line", 2)


def test_an_exit_without_goodbye_keeps_the_data_for_the_next_mount(world: World) -> None:
    """The process dies; its mount goes, its writes stay, and the next mount in the same place has them."""
    code = f"""
import os, sys
from flyteplugins_vol.io import Volume
volume = Volume.from_name.sync("line", {world.store!r})
path = volume.mount.sync({str(world.path("mnt"))!r})
(path / "kept").write_text("not committed")
os._exit(9)
"""
    with world.new("line").mounted() as data:
        (data / "a").write_text("committed")
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    volume = world.keep(Volume.from_name.sync("line", world.store))
    path = _mount_when_free(volume, world)
    assert (path / "kept").read_text() == "not committed"
    version = volume.finalize.sync()
    with world.keep(version).mounted() as path:
        assert sorted(p.name for p in path.iterdir()) == ["a", "kept"]


def _mount_when_free(volume: RWVolume, world: World) -> os.PathLike[str]:
    """The daemon of the dead process needs a moment to go; until then the volume is busy."""
    import time

    from flyteplugins_vol.errors import VolumeBusyError

    deadline = time.monotonic() + 30
    while True:
        try:
            return volume.mount.sync(world.path("mnt2"))
        except VolumeBusyError:
            if time.monotonic() > deadline:
                raise


def test_files_larger_than_the_cache(world: World) -> None:
    content = os.urandom(4 << 20)
    volume = world.new()
    path = volume.mount.sync(cache_size=16 << 20)
    with open(path / "big", "wb") as file:
        for number in range(24):
            file.write(number.to_bytes(4, "big") + content[4:])
    version = volume.finalize.sync()
    world.forget_caches()
    path = world.keep(version).mount.sync(cache_size=16 << 20)
    with open(path / "big", "rb") as file:
        for number in range(24):
            assert file.read(4 << 20) == number.to_bytes(4, "big") + content[4:], number
        file.seek(5 << 22)
        assert file.read(4) == (5).to_bytes(4, "big")
    blocks = sum(p.stat().st_blocks * 512 for p in (world.root / "cache/cache/blocks").rglob("*") if p.is_file())
    assert blocks <= 32 << 20


@pytest.mark.s3
async def test_the_whole_life_on_s3(world: World, s3_server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    store = s3_server.new_bucket_url() + "/prefix"
    volume = world.new("on-s3", store)
    data = await volume.mount()
    (data / "a").write_bytes(b"a" * 5_000_000)
    first = await volume.commit("one")
    (data / "b").write_text("b")
    second = await volume.finalize("two")
    world.forget_caches()
    loaded = world.keep(await Volume.from_locator(second.locator))
    assert loaded.parents == (first.locator,)
    async with loaded.mounted() as path:
        assert (path / "a").read_bytes() == b"a" * 5_000_000
    fork = world.keep(await loaded.fork())
    path = await fork.mount()
    (path / "c").write_text("c")
    assert (await fork.finalize()).parents == (second.locator,)


def test_a_part_of_a_volume_can_be_mounted(world: World) -> None:
    with world.new("parts").mounted() as data:
        (data / "a" / "b").mkdir(parents=True)
        (data / "a" / "b" / "file").write_text("deep")
        (data / "top").write_text("top")
    volume = world.keep(Volume.from_name.sync("parts", world.store))
    path = volume.mount.sync(subdir="a")
    assert [p.name for p in path.iterdir()] == ["b"]
    assert (path / "b" / ".." / "b" / "file").read_text() == "deep"
    (path / "new").write_text("new")
    os.rename(path / "b" / "file", path / "moved")
    os.link(path / "moved", path / "b" / "linked")
    version = volume.finalize.sync()
    reader = world.keep(version)
    with reader.mounted() as path:
        assert sorted(p.name for p in path.rglob("*")) == ["a", "b", "linked", "moved", "new", "top"]
    for wrong, why in (("nowhere", "not there"), ("top", "not a directory"), ("a/..", "not there")):
        with pytest.raises(UsageError, match=why):
            reader.mount.sync(subdir=wrong)


def test_warm_up_fetches_before_anybody_reads(world: World) -> None:
    with world.new().mounted() as data:
        for number in range(3):
            (data / f"f{number}").write_bytes(os.urandom(5 << 20))
        locator = data
    reader = world.keep(world.handles[0].finalize.sync())
    world.forget_caches()
    reader.mount.sync(warmup=("f0", "f1", "not-there"), log_path=world.path("log"))
    wait_for(lambda: reader.status()["fetched_bytes"] >= 10 << 20)
    requests = reader.status()["fetch_requests"]
    assert locator != reader.mount_path or len((reader.mount_path / "f0").read_bytes()) == 5 << 20
    assert reader.status()["fetch_requests"] == requests
    wait_for(lambda: "there is no not-there" in world.path("log").read_text())


def test_autocommit_publishes_by_itself(world: World) -> None:
    volume = world.new("auto")
    path = volume.mount.sync(autocommit=0.3)
    (path / "a").write_text("a")
    wait_for(lambda: len(world.objects("volumes")) == 2)
    volume.abandon.sync()
    again = Volume.from_name.sync("auto", world.store)
    assert again.message == "autocommit"


def test_extended_attributes_when_asked_for(world: World) -> None:
    volume = world.new()
    path = volume.mount.sync(xattr=True)
    (path / "a").write_text("a")
    os.setxattr(path / "a", "user.color", b"blue")
    with pytest.raises(OSError, match="not supported"):
        os.setxattr(path / "a", "security.x", b"1")
    version = volume.finalize.sync()
    path = world.keep(version).mount.sync(xattr=True)
    assert os.listxattr(path / "a") == ["user.color"]
    assert os.getxattr(path / "a", "user.color") == b"blue"


def test_a_mount_says_which_version_it_shows(world: World) -> None:
    volume = world.new()
    path = volume.mount.sync()
    assert volume.status()["base"] is None
    (path / "a").write_text("a")
    version = volume.commit.sync()
    assert volume.status()["base"] == version.locator
    world.keep(version).mount.sync()
    assert version.status()["base"] == version.locator


def test_a_store_that_a_group_shares_is_shared_whoever_writes_to_it(world: World) -> None:
    shared = world.path("store")
    shared.mkdir()
    shared.chmod(0o2770)
    before = os.umask(0o007)
    try:
        volume = world.new()
        path = volume.mount.sync(world.path("mnt"))
        (path / "file").write_bytes(b"x" * 100)
        volume.finalize.sync()
    finally:
        os.umask(before)
    modes = {
        (stat.S_ISDIR(one.stat().st_mode), stat.S_IMODE(one.stat().st_mode)) for one in shared.rglob("*")
    }  # a directory has its group from the one above
    assert modes == {(True, 0o2770), (False, 0o660)}
