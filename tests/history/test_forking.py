"""A fork's first version without a workspace: a record and a ref, whatever stops or fails on the way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from flyteplugins_vol.errors import StoreUnavailableError, VersionNotFoundError
from flyteplugins_vol.history import forking
from flyteplugins_vol.history.forking import publish_fork
from flyteplugins_vol.history.marks import write_marks
from flyteplugins_vol.history.record import VersionRecord, load_record
from flyteplugins_vol.history.refs import read_ref, ref_key
from flyteplugins_vol.model import MountSpec
from flyteplugins_vol.store.faulty import Faulty, StoppedError
from flyteplugins_vol.store.memory import MemoryStore
from tests.driven import Driven


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Faulty:
    store = Faulty(MemoryStore(f"memory://{uuid4().hex}"))
    monkeypatch.setattr(forking, "open_store", lambda *_: store)
    return store


@pytest.fixture
def parent(tmp_path: Path, store: Faulty) -> Iterator[Driven]:
    volume = Driven.new(tmp_path, store)
    volume.create(b"file", b"content" * 1000)
    yield volume
    volume.close()


@pytest.fixture
def base(parent: Driven, store: Faulty) -> VersionRecord:
    record = parent.commit("parent")
    store.log.clear()
    return record


@pytest.fixture
def spec(parent: Driven, base: VersionRecord) -> MountSpec:
    return replace(
        parent.spec, volume_id="f" * 16, volume_name="fork", base=str(base.locator), author="me", produced_by={"a": "b"}
    )


def named(store: Faulty) -> str | None:
    ref = read_ref(store.inner, ref_key("fork", "f" * 16))
    return None if ref is None else ref.version


def records(store: Faulty) -> list[str]:
    return [
        info.key
        for info in store.inner.list("volumes/")
        if info.key.startswith("volumes/fork-") and "/versions/" in info.key
    ]


def test_it_is_a_record_and_a_ref(parent: Driven, base: VersionRecord, spec: MountSpec, store: Faulty) -> None:
    record = publish_fork(spec, "begun")
    assert record is not None
    assert [verb for verb, _ in store.log] == ["get", "create", "get_tagged", "replace"]
    assert named(store) == record.locator.file
    found = load_record(store.inner, record.locator)
    assert (found.sequence, found.parents, found.message, found.author) == (1, (str(base.locator),), "begun", "me")
    assert found.produced_by == {"a": "b"}
    assert found.index == base.index
    assert found.stats == {**base.stats, "new_pack_bytes": 0, "new_index_bytes": 0}
    assert found.writer not in ("", base.writer)
    other = parent.at(str(record.locator), cache_dir=str(parent.directory / "far"))
    assert other.content(b"file") == b"content" * 1000
    other.check(record)
    other.close()


def test_a_volume_that_has_a_version_already_is_left_as_it_is(spec: MountSpec, store: Faulty) -> None:
    first = publish_fork(spec, None)
    assert first is not None
    assert publish_fork(spec, "another") is None
    assert named(store) == first.locator.file
    assert records(store) == [first.locator.key]


def test_a_base_that_was_pruned_is_told(base: VersionRecord, spec: MountSpec, store: Faulty) -> None:
    store.inner.delete(base.locator.key)
    with pytest.raises(VersionNotFoundError):
        publish_fork(spec, None)
    assert not records(store)


def test_a_base_that_goes_meanwhile_leaves_nothing(base: VersionRecord, spec: MountSpec, store: Faulty) -> None:
    assert write_marks(store, (), None)

    def gone(answer: object) -> object:
        store.inner.delete(base.locator.key)
        return answer

    store.alter("create", "volumes/fork-*", gone)
    assert publish_fork(spec, None) is None
    assert not records(store)
    assert named(store) is None


def test_after_an_answer_that_is_lost_the_record_stays(spec: MountSpec, store: Faulty) -> None:
    """The ref may name it: it does."""
    store.fail("replace", after=True)
    with pytest.raises(StoreUnavailableError):
        publish_fork(spec, None)
    (key,) = records(store)
    assert key.endswith(named(store) or "none")
    again = publish_fork(spec, None)
    assert again is not None, "a second try finds what the first has published"
    assert again.locator.key == key
    assert records(store) == [key]


def test_stopped_anywhere_no_ref_names_what_is_not_there(spec: MountSpec, store: Faulty) -> None:
    for call in range(1, 5):
        changed = replace(spec, volume_id=f"{call:016x}")
        store.stop_at(call)
        with pytest.raises(StoppedError):
            publish_fork(changed, None)
        store.stop_at(None)
        ref = read_ref(store.inner, ref_key("fork", changed.volume_id))
        assert ref is None or f"volumes/fork-{changed.volume_id}/versions/{ref.version}" in records(store)
        again = publish_fork(changed, None)
        assert again is not None
        assert read_ref(store.inner, ref_key("fork", changed.volume_id)).version == again.locator.file  # type: ignore[union-attr]
