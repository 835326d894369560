"""Deleting: nobody who writes is cut off unasked, and a kill at any moment leaves nothing that names what is gone."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from flyteplugins_vol.errors import ConflictError, LeaseLostError, RefMovedError, VersionNotFoundError, VolumeBusyError
from flyteplugins_vol.history import processes, refs
from flyteplugins_vol.history.deletion import delete_version, delete_volume
from flyteplugins_vol.history.holding import lease_key, read_lease
from flyteplugins_vol.history.record import Locator, load_record
from flyteplugins_vol.history.volumes import VolumeEntry, list_refs, list_versions, list_volumes
from flyteplugins_vol.store.faulty import Faulty, StoppedError
from flyteplugins_vol.store.memory import MemoryStore
from tests.driven import Driven


@pytest.fixture
def volume(tmp_path: Path, store: Faulty) -> Iterator[Driven]:
    """A writer with a lease, whose volume has two versions; and a fork of the second."""
    driven = Driven.new(tmp_path, store, lease_seconds=30.0)
    driven.create(b"a", b"one")
    driven.commit("one")
    driven.create(b"b", b"two")
    second = driven.commit("two")
    fork = driven.fork(str(second.locator), volume_name="fork")
    fork.create(b"c", b"three")
    fork.commit("fork")
    fork.close()
    yield driven
    driven.close()


def entry(volume: Driven) -> VolumeEntry:
    return VolumeEntry(volume.store.url, volume.spec.volume_name, volume.spec.volume_id)


def keys(store: Faulty, volume: Driven) -> list[str]:
    return [info.key.removeprefix(entry(volume).prefix + "/") for info in store.inner.list(entry(volume).prefix + "/")]


def check_whole(store: Faulty) -> None:
    """What is listed can be read, and each ref names a version."""
    bare = store.inner
    for found in list_volumes(bare):
        for locator in list_versions(bare, found):
            load_record(bare, locator)
        for ref in list_refs(bare, found).values():
            load_record(bare, Locator(bare.url, found.name, found.id, ref.version))


def test_a_volume_that_somebody_writes_to_is_not_deleted(volume: Driven, store: Faulty) -> None:
    before = keys(store, volume)
    with pytest.raises(VolumeBusyError, match=r"process [0-9]+ on .* since 20") as caught:
        delete_volume(store, entry(volume))
    assert "--force" in caught.value.hint
    assert keys(store, volume) == before
    volume.create(b"d")
    volume.commit("undisturbed")


def test_a_writer_that_may_be_dead_is_watched(volume: Driven, store: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease of 0.6 s that nobody renews any more, of another machine."""
    monkeypatch.setattr(processes, "_machine", lambda: "")
    volume.close(keep=True)
    key = lease_key(volume.spec.volume_name, volume.spec.volume_id)
    found = store.inner.get_tagged(key)
    assert found is not None
    body = {**json.loads(found.data), "released": False, "milliseconds": 300}
    store.inner.replace(key, json.dumps(body).encode(), found.tag)
    told: list[object] = []
    began = time.monotonic()
    assert delete_volume(store, entry(volume), tell=told.append) == 2
    assert time.monotonic() - began >= 0.3
    assert told
    check_whole(store)


def test_by_force_a_writer_is_cut_off_and_loses_nothing_on_its_disk(volume: Driven, store: Faulty) -> None:
    volume.create(b"d", b"mine")
    assert delete_volume(store, entry(volume), force=True) == 2
    assert [volume.name for volume in list_volumes(store)] == ["fork"]
    with pytest.raises((RefMovedError, LeaseLostError, VersionNotFoundError)):
        volume.commit("too late")
    assert volume.content(b"d") == b"mine"
    check_whole(store)


def test_nothing_is_left_but_copies_for_those_who_build_on_them(volume: Driven, store: Faulty) -> None:
    volume.close()
    assert delete_volume(store, entry(volume)) == 2
    assert {key.split("/")[0] for key in keys(store, volume)} == {"deleted"}
    assert [volume.name for volume in list_volumes(store)] == ["fork"]
    assert delete_volume(store, entry(volume)) == 0, "again, it is no error"


def test_while_it_is_deleted_nobody_can_write_to_it(volume: Driven, store: Faulty) -> None:
    volume.close()
    held: list[bool] = []

    def look(answer: object) -> object:
        found = read_lease(store.inner, lease_key(volume.spec.volume_name, volume.spec.volume_id))
        held.append(found is not None and not found.released)
        return answer

    store.alter("delete", "*/versions/*", look, times=None)
    store.alter("delete", "*/refs/*", look, times=None)
    delete_volume(store, entry(volume))
    assert held == [True] * 3


@pytest.mark.parametrize("damage", [b"no ref", b"x" * 100_000])
def test_damaged_refs_and_records_are_deleted_as_well(volume: Driven, store: Faulty, damage: bytes) -> None:
    volume.close()
    for key in keys(store, volume):
        full = f"{entry(volume).prefix}/{key}"
        if key.startswith(("refs/", "versions/")):
            store.inner.delete(full)
            store.inner.create(full, damage if key.startswith("refs/") else damage * 300)
    assert delete_volume(store, entry(volume)) == 2
    assert {key.split("/")[0] for key in keys(store, volume)} <= {"deleted"}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # the lease's thread "dies" too
def test_stopped_before_each_call_it_leaves_what_can_be_deleted_again(
    volume: Driven, store: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refs, "_WAITS", ())
    volume.close()
    objects = {info.key: store.get(info.key) for info in store.list("")}
    stops = 0
    while True:
        store = Faulty(MemoryStore(f"memory://{uuid4().hex}"))
        for key, data in objects.items():
            assert data is not None
            store.create(key, data)
        target = replace(entry(volume), store_url=store.url)
        store.stop_at(stops + 1)
        try:
            delete_volume(store, target)
            break
        except StoppedError:
            stops += 1
        finally:
            store.clear()
        check_whole(store)
        with monkeypatch.context() as patch:
            patch.setattr(processes.Process, "is_dead", lambda self: True)  # who was stopped was this process
            delete_volume(store, target)
        check_whole(store)
        assert [volume.name for volume in list_volumes(store)] == ["fork"]
        assert {key.split("/")[0] for key in keys(store, volume)} <= {"deleted"}
    assert stops >= 10


def test_a_version_that_a_ref_names_stays(volume: Driven, store: Faulty) -> None:
    versions = list_versions(store, entry(volume))
    with pytest.raises(ConflictError, match="main"):
        delete_version(store, versions[-1])
    delete_version(store, versions[0])
    with pytest.raises(VersionNotFoundError):
        delete_version(store, versions[0])
    assert list_versions(store, entry(volume)) == versions[1:]
