"""Pruning and collecting, stopped anywhere, beside everything else, and in any order.

Whatever happens: every version in the store reads whole, and every ref names one; a second try succeeds; in the end
what is garbage is gone, and nothing else. Enumerated are the calls of the store: each of them is a place to stop before
and after, and a place at which something else happens from beginning to end. ``COLLECT_POINTS=all`` tries every place;
the default is a sample, another one each day. ``COLLECT_SEEDS`` is how many histories by chance there are.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from flyteplugins_vol.errors import CommitError, ConflictError, ObjectMissingError, StoreUnavailableError
from flyteplugins_vol.history.record import Locator, VersionRecord
from flyteplugins_vol.history.refs import read_ref, ref_key
from flyteplugins_vol.store.faulty import StoppedError
from tests.driven import Driven
from tests.history.world import World

pytestmark = [pytest.mark.slow, pytest.mark.logs_warnings]

ALL = os.environ.get("COLLECT_POINTS") == "all"
SAMPLE = int(os.environ.get("COLLECT_POINTS", "24")) if not ALL else 0
SEEDS = int(os.environ.get("COLLECT_SEEDS", "2"))
TODAY = time.strftime("%Y-%m-%d")

REFUSALS = (CommitError, ConflictError, ObjectMissingError, StoreUnavailableError)
"""What may be said instead of doing it, where something else happened meanwhile."""


# -- every place -----------------------------------------------------------------------------------------------------


class Stage(World):
    """A store in which much can go wrong: garbage that is about to be deleted, and workspaces that know nothing of it.

    ``lags``: by how much each workspace's clock is behind, where it stood still while it was asleep.
    """

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(root, monkeypatch)
        self.done: list[tuple[VersionRecord, Any]] = []
        self.all_versions = True  # are whole, also those that no ref names
        data = self.open()
        self.write(data, b"kept")
        self.write(data, b"a")
        first = data.commit("one")
        self.fork_of_first, self.fork_asleep, self.fork_with_pack = (self.fork(first) for _ in range(3))
        self.write(self.fork_of_first, b"mine")
        self.write(self.fork_asleep, b"mine")
        self.write(self.fork_with_pack, b"mine")
        assert self.fork_with_pack.seal()
        self.taker, self.taker_asleep = (self.open() for _ in range(2))
        for taker in (self.taker, self.taker_asleep):
            self.write(taker, b"mine")
            taker.commit("one")
            self.take(taker, first.locator, b"a")
        self.sleeper = self.open()
        self.write(self.sleeper, b"s")
        self.sleeper.commit("one")
        self.write(self.sleeper, b"t")
        assert self.sleeper.seal()
        self.data = data
        self.replace_all(data, "two")
        self.pruned = self.open()
        for number in range(3):
            self.replace_all(self.pruned, f"{number}")
        asleep = self.store.now
        self.prune(data, last=1)
        for _ in range(2):
            self.store.pass_time(days=8)
            self.collect()
        self.store.pass_time(days=8)
        self.asleep = (self.store.now - asleep).total_seconds()
        self.write(data, b"new")

    def replace_all(self, volume: Driven, message: str) -> None:
        for name in (b"a", b"kept"):
            self.write(volume, name)
        volume.commit(message)

    @contextmanager
    def behind(self, seconds: float) -> Iterator[None]:
        before, self.lag = self.lag, seconds
        try:
            yield
        finally:
            self.lag = before

    def commit(self, volume: Driven, lag: float = 0) -> None:
        with self.behind(lag):
            record = volume.commit("by a test")
        self.done.append((record, volume.tree()))

    def resume(self, volume: Driven) -> None:
        volume.close(keep=True)
        self.store.restart()
        volume.open()

    def check_all(self) -> None:
        self.store.restart()
        self.check(all_versions=self.all_versions)
        for record, tree in self.done:
            self.check_tree(record, tree)

    def settle(self) -> None:
        """Everybody tries again; in the end all that is garbage is gone."""
        for _ in range(3):
            for act in ACTS.values():
                try:
                    act(self)
                except ObjectMissingError as error:  # collected while it slept: it says so, and publishes nothing
                    assert error.hint
                except CommitError as error:
                    assert "commit again" in error.hint
        self.collect_all()
        self.check_all()
        assert self.collect().marked.objects == 0


STOOD_STILL = "by a clock that stood still"
ACTS: dict[str, Callable[[Stage], None]] = {
    "a commit": lambda stage: stage.commit(stage.data),
    "a commit after weeks": lambda stage: stage.commit(stage.sleeper),
    f"a commit after weeks, {STOOD_STILL}": lambda stage: stage.commit(stage.sleeper, stage.asleep),
    "a fork of what was pruned": lambda stage: stage.commit(stage.fork_of_first),
    f"another fork of it, {STOOD_STILL}": lambda stage: stage.commit(stage.fork_asleep, stage.asleep),
    f"a fork of it with a pack of its own, {STOOD_STILL}": lambda stage: stage.commit(
        stage.fork_with_pack, stage.asleep
    ),
    "a commit with what was taken over": lambda stage: stage.commit(stage.taker),
    f"another commit with that, {STOOD_STILL}": lambda stage: stage.commit(stage.taker_asleep, stage.asleep),
    "a pruning": lambda stage: stage.prune(stage.pruned, last=1) and None,
    "a collection": lambda stage: stage.collect() and None,
}


def calls_of(stage: Stage, act: str) -> int:
    before = stage.store.calls
    with _refused():
        ACTS[act](stage)
    return stage.store.calls - before


@contextmanager
def _refused() -> Iterator[None]:
    try:
        yield
    except REFUSALS as error:
        assert error.hint


@pytest.fixture
def staged(tmp_path: Path) -> Iterator[Callable[[], Stage]]:
    """Makes the same stage again and again, each in a directory of its own."""
    stages: list[Stage] = []
    patches: list[pytest.MonkeyPatch] = []

    def make() -> Stage:
        end()
        root = tmp_path / f"{len(patches)}"
        root.mkdir()
        patches.append(pytest.MonkeyPatch())
        stages.append(Stage(root, patches[-1]))
        return stages[-1]

    def end() -> None:
        for stage in stages:
            stage.close()
        stages.clear()
        for patch in patches:
            patch.undo()

    yield make
    end()


def places(staged: Callable[[], Stage]) -> list[tuple[str, int, bool]]:
    return [
        (act, call, after)
        for act in ACTS
        for call in range(1, calls_of(staged(), act) + 1)
        for after in (False, True)
    ]  # fmt: skip


@pytest.mark.timeout(3600 if ALL else 120)
def test_stopped_at_any_call(staged: Callable[[], Stage], capsys: pytest.CaptureFixture[str]) -> None:
    every = places(staged)
    tried = every if ALL else random.Random(TODAY).sample(every, min(SAMPLE // 3, len(every)))
    for act, call, after in tried:
        stage = staged()
        stage.store.stop(call, after=after)
        try:
            with _refused():
                ACTS[act](stage)
        except StoppedError:
            pass
        try:
            # A record is there before it is certain that all it names is. With clocks that go on it always is.
            stage.all_versions = STOOD_STILL not in act
            stage.check_all()
            for volume in (
                stage.data,
                stage.sleeper,
                stage.fork_of_first,
                stage.fork_asleep,
                stage.fork_with_pack,
                stage.taker,
                stage.taker_asleep,
            ):
                stage.resume(volume)
            stage.settle()
        except Exception as error:
            raise AssertionError(f"{act}, stopped {'after' if after else 'before'} call {call}: {error}") from error
    with capsys.disabled():
        print(f" {len(tried)} of {len(every)} places")


@pytest.mark.timeout(7200 if ALL else 180)
def test_something_else_at_any_call(staged: Callable[[], Stage], capsys: pytest.CaptureFixture[str]) -> None:
    every = [(*place, other) for place in places(staged) for other in ACTS if _go_together(place[0], other)]
    tried = every if ALL else random.Random(TODAY).sample(every, min(SAMPLE, len(every)))
    for act, call, after, other in tried:
        stage = staged()

        def meanwhile(stage: Stage = stage, other: str = other) -> None:
            with stage.behind(0), _refused():
                ACTS[other](stage)

        try:
            stage.store.interrupt(call, meanwhile, after=after)
            with _refused():
                ACTS[act](stage)
            stage.check_all()
            stage.settle()
        except Exception as error:
            place = f"{'after' if after else 'before'} call {call}"
            raise AssertionError(f"{act}, {place} of it {other}: {type(error).__name__}: {error}") from error
    with capsys.disabled():
        print(f" {len(tried)} of {len(every)} places")


def _go_together(act: str, other: str) -> bool:
    """One workspace has one commit at a time; prunings and collections there may be several."""
    commits = "commit" in act or "fork" in act
    return not commits or act.split(",")[0] != other.split(",")[0]


# -- histories by chance ---------------------------------------------------------------------------------------------


@dataclass
class Actor:
    """A workspace, and what the model knows of it."""

    volume: Driven
    awake: float  # when it last committed or was opened, by the store's clock
    lag: float = 0.0
    base: VersionRecord | None = None
    written: int = 0


@dataclass
class History:
    """Random steps on a store, with steps inside of steps, and a model: which versions must read as what."""

    world: World
    rng: random.Random
    actors: list[Actor] = field(default_factory=list[Actor])
    versions: dict[Locator, tuple[VersionRecord, Any]] = field(default_factory=dict[Locator, Any])
    busy: set[int] = field(default_factory=set[int])
    said: dict[str, int] = field(default_factory=dict[str, int])

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.step()
            self.world.check_refs()
            if self.rng.random() < 0.15:
                self.check()
        self.world.collect_all()
        self.check()

    def step(self, depth: int = 0) -> None:
        step = self.rng.choices(
            (
                self.write,
                self.commit,
                self.fork,
                self.take,
                self.sleep,
                self.prune,
                self.collect,
                self.resume,
                self.freeze,
            ),
            (6, 6, 3, 4, 4, 3, 4, 2, 1),
        )[0]
        if depth < 2 and self.rng.random() < 0.4:
            call = self.world.store.calls + self.rng.randrange(1, 40)
            after = self.rng.random() < 0.5
            self.world.store.interrupt(call - self.world.store.calls, lambda: self.inside(depth + 1), after=after)
        try:
            step()
        finally:
            if not depth:
                self.world.store.restart()

    def inside(self, depth: int) -> None:
        lag, self.world.lag = self.world.lag, 0.0
        try:
            self.step(depth)
        finally:
            self.world.lag = lag

    def now(self) -> float:
        return self.world.store.now.timestamp()

    def actor(self) -> Actor | None:
        free = [one for one in self.actors if id(one) not in self.busy]
        return self.rng.choice(free) if free else None

    def write(self) -> None:
        actor = self.actor()
        if actor is None or len(self.actors) < 2:
            if len(self.actors) < 6:
                self.actors.append(Actor(self.world.open(), self.now()))
            return
        if self.busy:
            return
        for _ in range(self.rng.randrange(1, 4)):
            self.world.write(actor.volume, b"%d" % self.rng.randrange(5), self.rng.randrange(1, 20_000))
        actor.written += 1
        if self.rng.random() < 0.5:
            actor.volume.seal()

    def commit(self) -> None:
        actor = self.actor()
        if actor is None:
            return
        self.busy.add(id(actor))
        slept = self.now() - actor.awake
        tree = actor.volume.tree() if not self.busy - {id(actor)} else None
        try:
            before, self.world.lag = self.world.lag, actor.lag
            try:
                record = actor.volume.commit(f"{len(self.versions)}")
            finally:
                self.world.lag = before
        except (CommitError, ObjectMissingError) as error:
            self.count(type(error).__name__)
            assert error.hint
            slept = max(slept, self.now() - actor.awake)
            assert slept > 7 * 86_400, f"refused after {slept / 3600:.0f} hours: {error}"
            if isinstance(error, ObjectMissingError):  # nothing is left of it to publish
                actor.volume.close()
                self.actors.remove(actor)
        else:
            self.count("commits")
            actor.awake, actor.base, actor.lag = self.now(), record, 0.0
            self.versions[record.locator] = (record, tree)
        finally:
            self.busy.discard(id(actor))

    def fork(self) -> None:
        there = [record for at, (record, _) in self.versions.items() if self.world.store.inner.get(at.key)]
        if there and len(self.actors) < 6:
            base = self.rng.choice(there)
            try:
                self.actors.append(Actor(self.world.fork(base), self.now(), base=base))
            except Exception:  # pruned while it was opened
                assert self.world.store.inner.get(base.locator.key) is None

    def take(self) -> None:
        """Something of another version comes into a workspace, by reference."""
        actor = self.actor()
        there = [at for at in self.versions if self.world.store.inner.get(at.key)]
        if actor is None or not there or self.busy:
            return
        self.busy.add(id(actor))
        at = self.rng.choice(there)
        try:
            self.world.take(actor.volume, at, new=b"%d" % self.rng.randrange(5))
            self.count("taken over")
        except Exception:  # pruned while it was looked at
            assert self.world.store.inner.get(at.key) is None
        finally:
            self.busy.discard(id(actor))

    def sleep(self) -> None:
        hours = self.rng.choice((0.1, 5, 30, 80, 200, 500))
        self.world.store.pass_time(hours=hours)

    def prune(self) -> None:
        actor = self.actor()
        if actor is None or actor.base is None or actor.base.volume_id != actor.volume.spec.volume_id:
            return
        within = timedelta(days=self.rng.choice((1, 10))) if self.rng.random() < 0.3 else None
        with _refused():
            self.world.prune(actor.volume, last=self.rng.randrange(1, 3), within=within)
        self.count("prunings")

    def collect(self) -> None:
        with _refused():
            found = self.world.collect(grace=timedelta(days=self.rng.choice((1, 7))))
            self.count("collected", found.deleted.objects)

    def resume(self) -> None:
        actor = self.actor()
        if actor is not None and not self.busy:
            self.busy.add(id(actor))
            actor.volume.workspace.begin_sync()
            try:
                actor.volume.reopen()
            except ObjectMissingError:  # the index of what it builds on is gone, weeks after that was pruned
                assert self.now() - actor.awake > 7 * 86_400
                self.actors.remove(actor)
                self.count("not resumed")
            finally:
                self.busy.discard(id(actor))

    def freeze(self) -> None:
        """The clock of a machine stands still, as long as everything else goes on."""
        actor = self.actor()
        if actor is not None:
            days = self.rng.randrange(1, 30)
            self.world.store.pass_time(days=days)
            actor.lag += days * 86_400.0

    def count(self, what: str, number: int = 1) -> None:
        self.said[what] = self.said.get(what, 0) + number

    def check(self) -> None:
        self.world.check()
        there = set(self.world.versions())
        for actor in self.actors:  # what a ref names stays
            key = ref_key("test", actor.volume.spec.volume_id)
            ref = read_ref(self.world.store.inner, key)
            own = actor.base is not None and actor.base.volume_id == actor.volume.spec.volume_id
            if own and actor.base is not None:
                assert ref is not None
                assert actor.base.locator in there
        for locator, (record, tree) in list(self.versions.items()):
            if locator in there and tree is not None and self.rng.random() < 0.2:
                self.world.check_tree(record, tree)


@pytest.mark.timeout(120 + 60 * SEEDS)
def test_by_chance(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = random.Random(TODAY).randrange(1 << 30)
    said: dict[str, int] = {}
    for seed in range(first, first + SEEDS):
        with pytest.MonkeyPatch.context() as patch:
            directory = tmp_path / str(seed)
            directory.mkdir()
            world = World(directory, patch)
            history = History(world, random.Random(seed))
            try:
                history.run(80)
            except Exception as error:
                raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
            finally:
                world.close()
            for what, number in history.said.items():
                said[what] = said.get(what, 0) + number
    with capsys.disabled():
        print(f" {SEEDS} from seed {first}: {said}")
