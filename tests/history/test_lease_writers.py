"""Writers with leases: who lost its own publishes over nobody, who ends lets the next one in, and what that costs."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from flyteplugins_vol.errors import LeaseLostError, RefMovedError, StoreUnavailableError, VolumeBusyError
from flyteplugins_vol.history import commit as commit_module
from flyteplugins_vol.history import processes
from flyteplugins_vol.history import session as session_module
from flyteplugins_vol.history.holding import lease_key, read_lease
from flyteplugins_vol.history.refs import move_ref, read_ref, ref_key
from flyteplugins_vol.store.counting import Counting
from flyteplugins_vol.store.faulty import Faulty
from flyteplugins_vol.store.memory import MemoryStore
from tests.driven import Driven


@pytest.fixture
def store() -> Counting:
    return Counting(Faulty(MemoryStore(f"memory://{uuid4().hex}")))


@pytest.fixture
def volume(tmp_path: Path, store: Counting, monkeypatch: pytest.MonkeyPatch) -> Iterator[Driven]:
    """A writer with a lease of 0.6 s, renewed every 0.2 s, on a machine that no other is on."""
    monkeypatch.setattr(processes, "_machine", lambda: "")
    driven = Driven.new(tmp_path, store, lease_seconds=0.6)
    driven.create(b"a", noise(1))
    driven.commit("one")
    yield driven
    driven.close()


def noise(seed: int, size: int = 20_000) -> bytes:
    return random.Random(seed).randbytes(size)


def head(volume: Driven) -> str:
    ref = read_ref(volume.store, ref_key(volume.spec.volume_name, volume.spec.volume_id))
    assert ref is not None
    return ref.version


def successor(volume: Driven, base: str | None = None) -> Driven:
    """A writer of the same volume on another machine."""
    base = base or str(volume.session.base.locator)  # type: ignore[union-attr]
    return volume.fork(base, volume_id=volume.spec.volume_id)


def cut_off(volume: Driven) -> Faulty:
    """This writer does not reach the lease any more: for its lease, that is as if it were stopped."""
    faulty = Faulty(volume.store)
    faulty.fail("replace", lease_key(volume.spec.volume_name, volume.spec.volume_id), times=None)
    volume.session._lease.lease._store = faulty  # type: ignore[union-attr]
    return faulty


def test_a_second_writer_is_refused_and_a_reader_is_not(volume: Driven) -> None:
    with pytest.raises(VolumeBusyError, match="process"):
        successor(volume)
    volume.at(str(volume.session.base.locator)).close()  # type: ignore[union-attr]
    volume.create(b"b")
    volume.commit("two")


def test_a_writer_that_ends_lets_the_next_one_in_at_once(volume: Driven) -> None:
    base = str(volume.session.base.locator)  # type: ignore[union-attr]
    volume.close(keep=True)
    other = successor(volume, base)
    other.create(b"b")
    other.commit("two")
    other.close()


@pytest.mark.logs_warnings
def test_a_writer_that_was_cut_off_cannot_publish_over_its_successor(volume: Driven) -> None:
    volume.create(b"mine", noise(2))
    expected = volume.tree()
    cut = cut_off(volume)
    other = successor(volume)
    with pytest.raises(StoreUnavailableError):
        volume.commit("mine")
    cut.clear()
    for _ in range(2):
        with pytest.raises(LeaseLostError) as caught:
            volume.commit("mine")
        saved = caught.value.hint.split("version ")[1].split(";")[0]
    fork = volume.fork(saved, lease_seconds=0.0)
    assert fork.tree() == expected, "as the hint says"
    fork.close()
    assert volume.tree() == expected, "and it is still here"
    other.create(b"theirs")
    theirs = other.commit("theirs")
    other.close()
    assert head(volume) == theirs.locator.file


@pytest.mark.logs_warnings
def test_a_writer_that_is_paused_between_its_look_at_the_ref_and_its_move(volume: Driven) -> None:
    """The moment that no lease can cover, and the ref's fence does."""
    others: list[Driven] = []

    def move_after_a_pause(*args: Any) -> str | None:
        patch.undo()
        cut_off(volume)
        others.append(successor(volume))
        return move_ref(*args)

    volume.create(b"mine", noise(2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commit_module, "move_ref", move_after_a_pause)
        with pytest.raises((LeaseLostError, StoreUnavailableError)):
            volume.commit("mine")
    others[0].create(b"theirs")
    assert others[0].commit("theirs").locator.file == head(volume)
    others[0].close()


@pytest.mark.parametrize("hangs", [False, True])
def test_a_lease_is_not_released_while_a_ref_may_be_on_its_way(
    volume: Driven, monkeypatch: pytest.MonkeyPatch, hangs: bool
) -> None:
    """Who finds it released does not fence the ref, so nothing of ours may come after that."""
    left, go_on = threading.Event(), threading.Event()

    def hanging(*args: Any) -> str | None:
        left.set()
        go_on.wait(30)
        return move_ref(*args)

    def commit() -> None:
        with suppress(Exception):  # everything is closed below it
            volume.commit("two")

    monkeypatch.setattr(session_module, "_LAST_MOVE_SECONDS", 0.05)
    thread = threading.Thread(target=commit)
    if hangs:
        monkeypatch.setattr(commit_module, "move_ref", hanging)
        volume.create(b"b", noise(2))
        thread.start()
        assert left.wait(30)
    volume.close(keep=True)
    found = read_lease(volume.store, lease_key("test", volume.spec.volume_id))
    assert found is not None
    assert found.released == (not hangs)
    go_on.set()
    if hangs:
        thread.join()


@pytest.mark.logs_warnings
def test_a_successor_must_begin_where_the_ref_is(volume: Driven) -> None:
    """Published while the successor watched: it is told before it writes anything."""
    first = str(volume.session.base.locator)  # type: ignore[union-attr]
    volume.create(b"b")
    volume.commit("two")
    cut_off(volume)
    with pytest.raises(RefMovedError, match="load it again") as caught:
        successor(volume, first)
    assert head(volume) in caught.value.hint
    other = successor(volume)
    other.close()


@pytest.mark.logs_warnings
def test_a_resumed_writer_has_it_at_once_and_the_killed_one_never_again(volume: Driven, store: Counting) -> None:
    volume.create(b"b", noise(2))
    volume.workspace.begin_sync()
    before = volume.session._lease
    assert before is not None
    volume.kill()
    assert volume.session._lease is not None
    assert volume.session._lease.lease.fence > before.lease.fence
    volume.commit("two")


def test_what_a_lease_costs(tmp_path: Path, store: Counting) -> None:
    """PUTs: one to take it, one to release it, none for a commit."""
    volume = Driven.new(tmp_path, store, lease_seconds=60.0)
    volume.create(b"a", noise(1))
    volume.commit("one")
    base = volume.commit("again")
    assert volume.session.status()["lease"]["fence"] == 1
    assert store.puts == 1 + 4 + 2
    volume.close()
    assert store.puts == 1 + 4 + 2 + 1
    store.reset()
    volume.open(base=str(base.locator), meta_dir=str(tmp_path / "other"))
    assert (store.puts, store.gets) == (1, 2), "the lease; record and ref: the index is cached"
    volume.close()
    volume.fork(str(base.locator), volume_id=volume.spec.volume_id, cache_dir=str(tmp_path / "far")).close()
    store.reset()
    volume.open(base=str(base.locator), meta_dir=str(tmp_path / "another"))
    assert (store.puts, store.gets) == (2, 3), "and when somebody had the lease meanwhile, one try in vain and a look"
    store.reset()
    volume.create(b"b", noise(2))
    volume.commit("two")
    assert store.puts == 4
    assert store.gets == 2, "the ref, and whether garbage was collected"
    volume.close()


def test_without_a_mount_a_fork_takes_none_before_its_second_version(volume: Driven, store: Counting) -> None:
    store.reset()
    fork = volume.fork(str(volume.session.base.locator), mount_path="", lease_seconds=60.0)  # type: ignore[union-attr]
    fork.commit("fork")
    assert store.puts == 2
    fork.create(b"b")
    fork.commit("two")
    assert fork.session.status()["lease"]["fence"] == 1
    fork.close()


def test_a_store_that_fails_while_a_lease_is_taken_is_told(tmp_path: Path, store: Counting) -> None:
    faulty = store.inner
    assert isinstance(faulty, Faulty)
    faulty.fail("replace", "*/lease.json")
    volume = Driven.new(tmp_path, store, lease_seconds=60.0)  # new: nobody waits
    volume.create(b"a")
    with pytest.raises(StoreUnavailableError):
        volume.session._lease.wait()  # type: ignore[union-attr]
    base = volume.commit("one")
    volume.close()
    faulty.fail("replace", "*/lease.json")
    with pytest.raises(StoreUnavailableError):
        volume.open(base=str(base.locator), meta_dir=str(tmp_path / "other"))
    volume.open(base=str(base.locator), meta_dir=str(tmp_path / "other"))
    volume.close()
