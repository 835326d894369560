"""Copies in other stores by the public types: buckets, directories, encrypted or not."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import pytest

from flyteplugins_vol.errors import (
    DivergedError,
    EncryptionKeyError,
    LocalDirectoryError,
    NothingCommittedError,
    UnknownSchemeError,
    UsageError,
)
from flyteplugins_vol.io import Copied, ROVolume, StoreOptions, Volume
from tests.io.conftest import World, commit, committed

if TYPE_CHECKING:
    from tests.servers import S3Server

SECRETS = ("a secret of the first store", "a secret of the second store")


def beside(world: World, name: str = "other") -> str:
    return f"file://{world.root}/{name}"


def stored(world: World, name: str) -> dict[str, bytes]:
    """Packs and index objects of a store in a directory, by key."""
    root = world.root / name
    paths = [path for kind in ("packs", "index") for path in (root / kind).rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}


def test_a_copy_is_a_volume_there(world: World) -> None:
    volume = committed(world, "one", "two")
    copied = asyncio.run(volume.copy_to(beside(world), history=True))
    assert isinstance(copied, Copied)
    copy = world.keep(copied.version)
    assert isinstance(copy, ROVolume)
    assert (copy.name, copy.id, copy.version, copy.store) == (volume.name, volume.id, volume.version, beside(world))
    assert volume.locator is not None
    assert copy.locator == volume.locator.replace(world.store, beside(world))
    assert [one.version for one in copy.log.sync()] == [one.version for one in volume.log.sync()]
    assert (copy.content, copy.stats, copy.message) == (volume.content, volume.stats, "two")
    assert len(Volume.diff.sync(copy, volume)) == 0
    assert stored(world, "other") == stored(world, "store")
    assert copied.copied.objects == len(stored(world, "other"))
    assert copied.copied.bytes == sum(map(len, stored(world, "other").values()))
    fork = world.keep(copy.fork.sync("fork"))
    assert fork.finalize.sync().verify.sync(deep=True).ok


def test_it_is_committed_to_and_comes_back(world: World) -> None:
    volume = committed(world, "one")
    volume.close.sync()
    volume.copy_to.sync(beside(world))
    there = world.keep(Volume.from_name.sync(volume.name, beside(world)))
    there.write_bytes.sync("there", b"there")
    version = there.finalize.sync("there")
    back = version.copy_to.sync(world.store)
    assert (back.moved, back.versions) == (True, 1)
    here = world.keep(Volume.from_name.sync(volume.name, world.store))
    assert (here.locator, here.read_bytes.sync("there")) == (back.version.locator, b"there")


@pytest.mark.fuse
def test_a_copy_is_mounted_where_the_store_it_came_from_is_gone(world: World) -> None:
    volume = world.new()
    path = volume.mount.sync(world.path("mnt"))
    data = os.urandom(9 << 20)
    (path / "data").write_bytes(data)
    copy = world.keep(volume.finalize.sync().copy_to.sync(beside(world)).version)
    (world.root / "store").rename(world.root / "gone")
    world.forget_caches()
    assert (copy.mount.sync(world.path("look")) / "data").read_bytes() == data


def test_of_a_volume_that_is_written_to_it_is_the_last_version(world: World) -> None:
    volume = world.new()
    with pytest.raises(NothingCommittedError):
        volume.copy_to.sync(beside(world))
    volume.write_bytes.sync("a", b"1")
    commit(volume, "one")
    volume.write_bytes.sync("b", b"2")
    copy = volume.copy_to.sync(beside(world)).version
    assert [info.name for info in copy.ls.sync()] == ["a"]
    assert volume.has_changes
    fork = world.keep(copy.fork.sync())
    with pytest.raises(NothingCommittedError):
        fork.copy_to.sync(beside(world, "third"))


def test_of_a_handle_that_another_task_was_given(world: World) -> None:
    """It knows no more than the locator, and what the record says for people."""
    import pickle

    volume = committed(world, "one").log.sync()[0]
    copied = pickle.loads(pickle.dumps(volume)).copy_to.sync(beside(world))
    assert copied.version.version == volume.version


def test_bad_places(world: World) -> None:
    volume = committed(world, "one")
    for store, kind in (
        (world.store + "/", UsageError),
        ("nowhere", UsageError),
        ("no-such://x/y", UnknownSchemeError),
    ):
        with pytest.raises(kind) as caught:
            volume.copy_to.sync(store)
        assert caught.value.hint


def test_where_somebody_has_committed_there(world: World) -> None:
    volume = committed(world, "one")
    volume.copy_to.sync(beside(world))
    there = world.keep(Volume.from_name.sync(volume.name, beside(world)))
    commit(there, "there")
    commit(volume, "here")
    with pytest.raises(DivergedError):
        volume.copy_to.sync(beside(world))
    copy = volume.copy_to.sync(beside(world), name="here").version
    assert (copy.name, copy.message, copy.parents) == ("here", "here", (volume.locator,))
    assert Volume.from_name.sync(volume.name, beside(world)).message == "there"


def test_a_full_local_disk_is_told_as_that(world: World, tiny_disk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = committed(world, "one")
    monkeypatch.setenv("FLYTE_VOL_CACHE_DIR", str(tiny_disk))
    (tiny_disk / "full").write_bytes(bytes(os.statvfs(tiny_disk).f_bavail * os.statvfs(tiny_disk).f_frsize - (8 << 10)))
    with pytest.raises(LocalDirectoryError):
        volume.copy_to.sync(beside(world))
    assert not (world.root / "other" / "volumes").exists()


# -- encrypted stores --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secrets", [("", SECRETS[1]), (SECRETS[0], ""), SECRETS, (SECRETS[0], SECRETS[0])])
def test_each_store_has_its_own_encryption(world: World, secrets: tuple[str, str]) -> None:
    here, there = (StoreOptions(encryption=secret) for secret in secrets)
    volume = world.keep(Volume.new("demo", world.store, store_options=here))
    data = os.urandom(5 << 20)
    volume.write_bytes.sync("data", data)
    for number in range(2):
        volume.write_bytes.sync("number", b"%d" % number)
        version = volume.commit.sync(f"{number}")
        copied = version.copy_to.sync(beside(world), store_options=there)
        copy = world.keep(copied.version)
        assert (copy.version, copied.moved) == (version.version, True)
        assert copy.verify.sync(deep=True).ok
    assert copied.skipped.objects >= 1
    assert copied.copied.bytes < 1 << 20
    world.forget_caches()
    again = world.keep(Volume.from_locator.sync(str(copy.locator), store_options=there))
    assert (again.read_bytes.sync("data"), again.read_bytes.sync("number")) == (data, b"1")
    a, b = stored(world, "store"), stored(world, "other")
    assert b.keys() <= a.keys()
    assert all(a[key] != b[key] for key in b), "each with the key of its store"
    if secrets[1]:
        with pytest.raises(EncryptionKeyError):
            Volume.from_locator.sync(str(copy.locator))


def test_a_secret_is_asked_for_before_anything_is_sent(world: World) -> None:
    there = world.keep(Volume.new("theirs", beside(world), encryption=SECRETS[0]))
    there.write_bytes.sync("a", b"1")
    there.finalize.sync()
    volume = committed(world, "one")
    before = stored(world, "other")
    for options in ({}, {"encryption": SECRETS[1]}):
        with pytest.raises(EncryptionKeyError) as caught:
            volume.copy_to.sync(beside(world), **options)
        assert caught.value.hint
    assert stored(world, "other") == before
    assert volume.copy_to.sync(beside(world), encryption=lambda url: SECRETS[0]).moved


# -- object storage ----------------------------------------------------------------------------------------------------


@pytest.mark.s3
@pytest.mark.parametrize("backend", ["auto", "fsspec"])
def test_to_a_bucket_to_another_and_back(
    world: World, s3_environment: S3Server, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLYTE_VOL_STORE_BACKEND", backend)
    buckets = [s3_environment.new_bucket_url() + "/volumes" for _ in range(2)]
    volume = world.new()
    contents = {f"/{number}": os.urandom(3 << 20) for number in range(9)}
    for path, data in contents.items():
        volume.write_bytes.sync(path, data)
    version: ROVolume = volume.finalize.sync("one")
    for store in (*buckets, beside(world)):
        copied = version.copy_to.sync(store, history=True)
        assert (copied.moved, copied.versions, copied.skipped.objects) == (True, 1, 0)
        assert copied.version.verify.sync(deep=True).ok
        again = version.copy_to.sync(store, history=True)
        assert (again.moved, again.versions, again.copied.objects) == (False, 0, 0)
        version = world.keep(copied.version)
    assert stored(world, "other") == stored(world, "store")
    world.forget_caches()
    assert {path: version.read_bytes.sync(path) for path in contents} == contents
