"""Abandoning a volume while it commits: nothing is published after that, or all of it was before."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from flyteplugins_vol.errors import CommitError, VolumeError
from flyteplugins_vol.history.refs import read_ref, ref_key
from flyteplugins_vol.store.faulty import Faulty
from flyteplugins_vol.store.memory import MemoryStore
from tests.driven import Driven


@pytest.fixture
def store() -> Faulty:
    return Faulty(MemoryStore(f"memory://{uuid4().hex}"))


@pytest.fixture
def volume(tmp_path: Path, store: Faulty) -> Iterator[Driven]:
    driven = Driven.new(tmp_path, store)
    driven.create(b"a", random.Random(1).randbytes(10_000))
    driven.commit("one")
    driven.create(b"b", random.Random(2).randbytes(10_000))
    yield driven
    driven.close()


def head(volume: Driven) -> str:
    ref = read_ref(volume.store, ref_key(volume.spec.volume_name, volume.spec.volume_id))
    assert ref is not None
    return ref.version


def abandon(volume: Driven) -> None:
    volume.opened = False
    volume.session.abandon()


STEPS = [("create", "packs/*"), ("create", "index/*"), ("create", "volumes/*"), ("get_tagged", "*")]


@pytest.mark.parametrize("step", STEPS)
def test_a_commit_that_is_abandoned_before_its_ref_moves_publishes_nothing(
    volume: Driven, store: Faulty, step: tuple[str, str]
) -> None:
    before = head(volume)
    reached, go_on = threading.Event(), threading.Event()

    def wait(answer: object) -> object:
        reached.set()
        assert go_on.wait(10)
        return answer

    store.alter(*step, wait)
    failed: list[BaseException] = []

    def commit() -> None:
        try:
            volume.commit("two")
        except (VolumeError, OSError, AssertionError, ValueError, RuntimeError) as error:
            failed.append(error)

    thread = threading.Thread(target=commit)
    thread.start()
    assert reached.wait(10)
    assert volume.session._committer is not None
    volume.session._committer.stop(0)
    go_on.set()
    thread.join(10)
    assert [type(error) for error in failed] == [CommitError]
    assert head(volume) == before
    abandon(volume)


def test_a_ref_that_is_being_moved_is_waited_for(volume: Driven, store: Faulty) -> None:
    before = head(volume)
    reached, go_on = threading.Event(), threading.Event()

    def wait(answer: object) -> object:
        reached.set()
        assert go_on.wait(10)
        return answer

    store.alter("replace", "*", wait)
    commit = threading.Thread(target=volume.commit, args=("two",))
    commit.start()
    assert reached.wait(10)
    threading.Timer(0.1, go_on.set).start()
    assert volume.session._committer is not None
    volume.session._committer.stop(10)
    assert go_on.is_set(), "it came back before the answer was there"
    commit.join(10)
    assert head(volume) != before
    abandon(volume)
