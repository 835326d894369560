"""A store that cannot be read whole, or not by this release: collecting says so, and nothing is deleted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flyteplugins_vol.config import StoreOptions
from flyteplugins_vol.errors import (
    DamageError,
    EncryptionKeyError,
    IndexDamagedError,
    NewerFormatError,
    ObjectMissingError,
    RecordDamagedError,
    StoreUnavailableError,
    VolumeError,
)
from flyteplugins_vol.history.collect import WEEK, collect
from flyteplugins_vol.history.copies import copy_key
from flyteplugins_vol.history.marks import KEY
from flyteplugins_vol.history.record import VersionRecord
from flyteplugins_vol.store.base import ObjectInfo
from flyteplugins_vol.store.container import INDEX, object_key
from flyteplugins_vol.store.open import open_store
from flyteplugins_vol.store.wrapper import Wrapper
from tests.driven import Driven
from tests.history.garbage import garbage, ripe, two_versions
from tests.history.world import World


def newer(data: bytes) -> bytes:
    return data.replace(b'"format_version":1', b'"format_version":2')


def harmed(
    world: World, record: VersionRecord, change: Callable[[bytes], bytes | None], key: str | None = None
) -> None:
    key = key or record.locator.key
    data = world.store.inner.get(key)
    assert data is not None
    world.store.inner.delete(key)
    if (other := change(data)) is not None:
        world.store.inner.create(key, other)


def refused(world: World, error: type[VolumeError], match: str = "nothing was deleted") -> None:
    """Neither by a collection that would delete, nor by the next ones."""
    for _ in range(3):
        before = world.objects("packs/") | world.objects("index/")
        with pytest.raises(error, match=match) as caught:
            world.collect()
        assert caught.value.hint
        assert world.objects("packs/") | world.objects("index/") == before
        world.store.pass_time(days=8)


def test_a_record_of_a_newer_release(world: World) -> None:
    record = ripe(world)
    data = newer(record.encode())
    from blake3 import blake3

    file = f"{record.sequence + 1:08d}-{blake3(data).hexdigest()[:40]}.json"
    world.store.create(f"volumes/test-{record.volume_id}/versions/{file}", data)
    refused(world, NewerFormatError)


def test_a_record_that_was_altered(world: World) -> None:
    harmed(world, ripe(world), lambda data: data[:-1] + b" ")
    refused(world, RecordDamagedError)


def test_a_record_that_names_an_index_object_that_is_gone(world: World) -> None:
    record = ripe(world)
    harmed(world, record, lambda _: None, object_key(INDEX, record.index.objects[-1].name))
    refused(world, ObjectMissingError)


def test_an_index_object_that_is_damaged(world: World) -> None:
    record = ripe(world)
    key = object_key(INDEX, record.index.objects[-1].name)
    harmed(world, record, lambda data: data[:100] + bytes([data[100] ^ 1]) + data[101:], key)
    refused(world, IndexDamagedError)


def test_the_copy_of_a_deleted_record_that_was_altered_until_it_is_old(world: World) -> None:
    volume, _, dead = garbage(world)
    world.write(volume, b"a")
    third = volume.commit("three")
    world.collect()
    world.store.pass_time(days=8)
    second = world.versions()[0]
    world.prune(volume, last=1)
    harmed(world, third, lambda data: data[:50], copy_key(second))
    world.store.times[copy_key(second)] = world.store.now
    with pytest.raises(RecordDamagedError, match="nothing was deleted"):
        world.collect()
    world.store.pass_time(days=8)
    world.collect()
    assert not dead & world.objects("packs/")
    world.check()


@pytest.mark.parametrize(
    "key",
    [
        "store.json", "volumes/test-{id}/writers/x.json", "volumes/test-{id}/volume.json",
        "volumes/test-{id}/versions/3-x.json", "volumes/elsewhere/versions/x.json",
    ],
)  # fmt: skip
def test_a_key_that_this_release_does_not_know(world: World, key: str) -> None:
    record = ripe(world)
    world.store.create(key.format(id=record.volume_id), b"{}")
    refused(world, NewerFormatError)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"{", RecordDamagedError),
        (b'{"format":"flytevol/marks","format_version":1,"requires":[],"run":"a","lists":[1]}', RecordDamagedError),
        (b'{"format":"flytevol/marks","format_version":1,"requires":[],"run":"a"}', RecordDamagedError),
        (b'{"format":"flytevol/marks","format_version":2,"requires":[],"run":"a","lists":[]}', NewerFormatError),
        (b'{"format":"flytevol/marks","format_version":1,"requires":["x"],"run":"a","lists":[]}', NewerFormatError),
    ],
)
def test_marks_that_are_none_or_newer(world: World, data: bytes, error: type[VolumeError]) -> None:
    record = ripe(world)
    harmed(world, record, lambda _: data, KEY)
    refused(world, error)


def test_a_ref_that_is_damaged(world: World) -> None:
    record = ripe(world)
    harmed(world, record, lambda _: b"{}", f"volumes/test-{record.volume_id}/refs/main.json")
    refused(world, RecordDamagedError)


class Cut(Wrapper):
    """Listings of volumes leave something out: so many of them, after some, or all."""

    leave_out = ""
    skip = 0
    times = -1

    def list(self, prefix: str, after: str = "") -> Iterator[ObjectInfo]:
        out = ""
        if prefix == "volumes/" and self.skip:
            self.skip -= 1
        elif prefix == "volumes/" and self.times:
            self.times -= 1
            out = self.leave_out
        return (info for info in super().list(prefix, after) if not out or out not in info.key)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_listing_that_leaves_out_what_a_ref_or_a_later_version_names(world: World, which: int) -> None:
    """A version of another volume that nothing names cannot be missed so; two listings a week apart must miss it."""
    volume, first, second = two_versions(world)
    world.write(volume, b"b")
    third = volume.commit("three")
    store = Cut(world.store)
    for _ in range(3):
        Cut.leave_out = ""
        world.store.pass_time(days=8)
        store.leave_out = (first, second, third)[which].locator.file
        with pytest.raises(StoreUnavailableError, match="leave out"):
            collect(store, abandoned=WEEK, scratch=str(world.root), clock=world.store.now.timestamp)
    world.check()


def test_a_second_look_finds_what_the_first_did_not(world: World) -> None:
    """A listing leaves out a whole volume, with its ref, and so does that of the week before."""
    volume = world.open()
    world.write(volume, b"a")
    volume.commit("one")
    store = Cut(world.store)
    store.leave_out = volume.spec.volume_id
    for times, versions, marked in ((2, 0, 2), (2, 1, 0)):  # the second one looks again before it deletes
        world.store.pass_time(days=8)
        store.times = times
        found = collect(store, abandoned=WEEK, scratch=str(world.root), clock=world.store.now.timestamp)
        assert (found.versions, found.marked.objects, found.deleted.objects) == (versions, marked, 0)
    world.check()


def test_a_second_look_that_misses_what_the_first_saw(world: World) -> None:
    record = ripe(world)
    store = Cut(world.store)
    store.leave_out, store.skip = record.locator.file, 2
    before = world.objects("packs/")
    with pytest.raises(StoreUnavailableError, match="nothing was deleted"):
        collect(store, abandoned=WEEK, scratch=str(world.root), clock=world.store.now.timestamp)
    assert world.objects("packs/") == before


def test_a_store_that_is_encrypted_and_a_secret_that_is_missing(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/store"
    options = StoreOptions(encryption="a secret of some length")
    with open_store(url, options) as store:
        volume = Driven.new(tmp_path, store)
        volume.create(b"a", b"x" * 5000)
        volume.commit()
        volume.close()
        assert collect(store, scratch=str(tmp_path)).versions == 1
    with open_store(url) as store, pytest.raises(EncryptionKeyError):
        collect(store, scratch=str(tmp_path))
    with (
        open_store(url, StoreOptions(encryption="another one of that kind")) as store,
        pytest.raises(EncryptionKeyError),
    ):
        collect(store, scratch=str(tmp_path), dry_run=True)


def test_a_record_that_vanishes_without_a_copy(world: World) -> None:
    record = ripe(world)
    start = world.store.calls
    world.collect(dry_run=True)
    contents = world.store.contents()
    for call in range(1, world.store.calls - start):
        world.store.put_back(contents)
        world.store.interrupt(call, lambda: world.store.inner.delete(record.locator.key))
        before = world.objects("packs/")
        try:
            found = world.collect()
        except (StoreUnavailableError, DamageError):
            assert world.objects("packs/") == before
        else:
            assert found.versions == 0 or record.locator not in world.versions()
        world.store.restart()
