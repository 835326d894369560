"""Stopped anywhere: before and after every call of the store and every local fsync, with and without the power.

One run of a scenario is recorded, its local disk by a file system that notes every change (`recorder`), its store by
copies. From that come all the moments at which it could have stopped, SQLite's own fsyncs among them, and for each
several states of the disk (`lossy_disk.LOSSES`). A workspace is resumed from each:

- every published version reads whole, and the ref names one;
- what an fsync had answered is there, bytes and names;
- a second try succeeds: a commit brings all that the workspace shows.

The scenario that is written down goes through all that a volume does; others are put together from a seed.
``CRASH_POINTS=all`` tries every moment with every loss; the default is a sample, another one each day. ``CRASH_SEEDS``
is how many scenarios by chance there are.
"""

from __future__ import annotations

import os
import random
import shutil
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import pytest

from flyteplugins_vol.history.record import load_record, parse_locator
from flyteplugins_vol.history.refs import read_ref, ref_key
from flyteplugins_vol.model import ROOT_INO
from flyteplugins_vol.store.base import ObjectStore
from flyteplugins_vol.store.memory import MemoryStore
from flyteplugins_vol.store.wrapper import Wrapper
from flyteplugins_vol.workspace import workspace
from tests.driven import ME, Driven
from tests.reliability.lossy_disk import LOSSES, Entry, Recording, disk_after, materialise, recording
from tests.workspace.test_model import LIMITS

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

ALL = os.environ.get("CRASH_POINTS") == "all"
SAMPLE = int(os.environ.get("CRASH_POINTS", "30")) if not ALL else 0
SEEDS = int(os.environ.get("CRASH_SEEDS", "1"))
TODAY = time.strftime("%Y-%m-%d")
T = TypeVar("T")
MAIN, FORK = "a" * 16, "f" * 16  # ids of the volumes
Shelf = dict[str, bytes]
Tree = Mapping[bytes, Any]


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small logs, packs and windows, and a checkpoint at every housekeeping."""
    for module, name, value in [*LIMITS, (workspace, "_WAL_LIMIT", 64 << 10), (workspace, "_BURY_AFTER", 0)]:
        assert hasattr(module, name)
        monkeypatch.setattr(module, name, value)


# --- the recorded run ----------------------------------------------------------------------------------------------


class Watched(Wrapper):
    """A store that is copied before and after each call that can change it, with a mark in the disk's history."""

    def __init__(self, inner: ObjectStore, disk: Recording) -> None:
        super().__init__(inner)
        self._disk = disk
        self._lock = threading.Lock()  # several packs are uploaded at once: copies and marks in one order
        self.shelves: list[Shelf] = []

    def around(self, verb: str, key: str, call: Callable[[], T], sent: int = 0) -> T:
        self._note()
        try:
            return call()
        finally:
            self._note()

    def _note(self) -> None:
        with self._lock:
            self.shelves.append(contents(self.inner))
            self._disk.mark(f"store {len(self.shelves) - 1}")


def contents(store: ObjectStore) -> Shelf:
    return {info.key: store.get(info.key) or b"" for info in store.list("")}


@dataclass
class Run:
    """A recorded scenario: its history, the store at each mark, and what each answered fsync promised."""

    disk: Recording
    url: str = field(default_factory=lambda: f"memory://{uuid4().hex}")
    promises: list[tuple[str, Tree]] = field(default_factory=list)
    touched: set[bytes] = field(default_factory=set)  # names that changed since the last promise
    touched_before: list[set[bytes]] = field(default_factory=list)  # the same, for each promise
    history: list[Entry] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = Watched(MemoryStore(self.url), self.disk)

    def open(self, name: str, **spec: Any) -> Driven:
        root = self.disk.mount
        places = {"meta_dir": str(root / name), "cache_dir": str(root / "cache"), "volume_id": name}
        return Driven.new(root, self.store, window=16 << 10, **{**places, **spec})

    def fsync(self, volume: Driven) -> None:
        """As the mount's group sync does; on return, all that is there is promised."""
        for fd in volume.workspace.begin_sync():
            os.fdatasync(fd)
        self.promise(volume)

    def finalized(self, volume: Driven) -> None:
        """Nothing is to be resumed any more."""
        self.promises.append((volume.spec.volume_id, {}))
        self.touched_before.append(set())
        self.disk.mark(f"promise {len(self.promises) - 1}")

    def promise(self, volume: Driven) -> None:
        self.promises.append((volume.spec.volume_id, volume.tree()))
        self.touched_before.append(self.touched)
        self.touched = set()
        self.disk.mark(f"promise {len(self.promises) - 1}")


def noise(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def scenario(run: Run) -> None:
    """Write, seal, upload, commit, evict, checkpoint, fork, finalize, resume; fsyncs at many a moment."""
    volume = run.open(MAIN)
    for number in range(8):
        volume.create(b"a%d" % number, noise(number, 9_000))
    run.fsync(volume)
    volume.workspace.mkdir(ROOT_INO, b"d", 0o755, ME)
    volume.create(b"b", noise(20, 40_000))
    run.fsync(volume)
    while volume.seal(everything=False):
        pass
    volume.workspace.rename(ROOT_INO, b"b", volume.find(b"d").ino, b"b", 0)
    volume.create(b"never synced", noise(21, 30_000))
    volume.workspace.housekeep()
    volume.seal()
    run.fsync(volume)
    first = volume.commit("first")
    run.promise(volume)  # what a commit took is in the store
    again = volume.find(b"a0").ino
    volume.workspace.write(again, 5_000, noise(22, 30_000))
    volume.create(b"new", noise(23, 3_000))
    run.fsync(volume)
    volume.workspace.rename(ROOT_INO, b"new", ROOT_INO, b"a1", 0)
    volume.workspace.unlink(ROOT_INO, b"a2")
    volume.workspace.symlink(ROOT_INO, b"s", b"a1", ME)
    run.fsync(volume)
    volume.session.cache.trim(0)
    assert volume.content(b"a3") == noise(3, 9_000)
    volume.create(b"before", noise(28, 10_000))
    volume.reopen()
    volume.create(b"after", noise(24, 70_000))
    run.fsync(volume)  # also what the process before wrote
    volume.commit("second")
    run.promise(volume)
    fork(run, volume, str(first.locator))
    volume.create(b"last", noise(26, 5_000))
    volume.commit("last")
    volume.close(keep=False)
    run.finalized(volume)


def fork(run: Run, volume: Driven, locator: str) -> None:
    other = run.open(FORK, base=locator)
    other.create(b"mine", noise(25, 20_000))
    other.workspace.unlink(ROOT_INO, b"a4")
    run.fsync(other)
    other.workspace.housekeep()
    other.seal()
    other.create(b"more", noise(27, 20_000))
    run.fsync(other)
    other.commit("fork")
    run.promise(other)
    other.close(keep=True)


def by_chance(run: Run, seed: int) -> None:
    """A scenario of steps by chance, with names that come again."""
    rng = random.Random(seed)
    volume = run.open(MAIN)
    names: set[bytes] = set()

    def create() -> None:
        name = b"n%d" % rng.randrange(12)
        run.touched.add(name)
        if name in names:
            volume.workspace.unlink(ROOT_INO, name)
        names.add(name)
        volume.create(name, rng.randbytes(rng.choice([0, 100, 5_000, 20_000, 40_000])))

    def overwrite() -> None:
        if names:
            name = rng.choice(sorted(names))
            run.touched.add(name)
            volume.workspace.write(
                volume.find(name).ino, rng.randrange(20_000), rng.randbytes(rng.randrange(1, 20_000))
            )

    def rename() -> None:
        if names:
            name, new = rng.choice(sorted(names)), b"n%d" % rng.randrange(12)
            run.touched.update((name, new))
            volume.workspace.rename(ROOT_INO, name, ROOT_INO, new)
            names.remove(name)
            names.add(new)

    def unlink() -> None:
        if names:
            name = rng.choice(sorted(names))
            run.touched.add(name)
            volume.workspace.unlink(ROOT_INO, name)
            names.remove(name)

    def copy() -> None:
        """Staged bytes get a second name: they must outlive both."""
        if names:
            source, target = rng.choice(sorted(names)), rng.choice(sorted(names))
            if source != target:
                run.touched.add(target)
                size = rng.randrange(1, 20_000)
                volume.workspace.copy_range(volume.find(source).ino, 0, volume.find(target).ino, 100, size)

    def commit() -> None:
        volume.commit("message")
        run.promise(volume)

    steps: list[Callable[[], Any]] = [
        *[create] * 6,
        *[overwrite] * 3,
        copy,
        rename,
        unlink,
        *[lambda: run.fsync(volume)] * 4,
    ]
    steps += [volume.seal, lambda: volume.seal(everything=False), lambda: volume.workspace.housekeep()]
    steps += [commit, lambda: volume.reopen(), lambda: volume.session.cache.trim(0)]
    for _ in range(60):
        rng.choice(steps)()
    run.fsync(volume)
    volume.close(keep=True)


@contextmanager
def recorded(tmp_path: Path, act: Callable[[Run], None]) -> Generator[Run, None, None]:
    with recording(tmp_path) as disk:
        run = Run(disk)
        act(run)
        run.history = disk.entries()
        yield run


# --- the moments ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Moment:
    """The history up to ``end``; the store and the promises as they were then."""

    end: int
    shelf: int
    promised: dict[str, int]
    what: str


def moments(run: Run) -> list[Moment]:
    """Before and after every fsync and every call of the store."""
    found: list[Moment] = []
    shelf, promised = -1, dict[str, int]()
    for i, entry in enumerate(run.history):
        if entry[0] == "fsync":
            found.append(Moment(i, shelf, promised, f"before fsync, entry {i}"))
            found.append(Moment(i + 1, shelf, promised, f"after fsync, entry {i}"))
        elif entry[0] == "mark" and entry[1].startswith("store"):
            shelf = int(entry[1].split()[1])
            found.append(Moment(i + 1, shelf, promised, f"at the store's mark {shelf}"))
        elif entry[0] == "mark":
            number = int(entry[1].split()[1])
            promised = {**promised, run.promises[number][0]: number}
            found.append(Moment(i + 1, shelf, promised, f"promise {number}"))
    return found


@pytest.mark.timeout(900 if ALL else 120)
def test_whatever_stops_it_nothing_promised_is_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with recorded(tmp_path, scenario) as run:
        said = check_run(run, tmp_path, TODAY)
    with capsys.disabled():
        print(f" {said}")


@pytest.mark.timeout(120 + 600 * SEEDS if ALL else 120)
def test_nor_in_a_scenario_by_chance(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = 0 if ALL else random.Random(TODAY).randrange(1 << 30)
    for seed in range(first, first + SEEDS):
        directory = tmp_path / str(seed)
        directory.mkdir()
        with recorded(directory, lambda run, seed=seed: by_chance(run, seed)) as run:
            said = check_run(run, directory, f"seed {seed}")
        with capsys.disabled():
            print(f" seed {seed}: {said}")
        shutil.rmtree(directory)


def check_run(run: Run, tmp_path: Path, seed: str) -> str:
    """Try the places of a run, all or a sample; what was tried, in words."""
    every = [(moment, loss) for moment in moments(run) for loss in LOSSES]
    assert len(every) > 200
    places = every if ALL else random.Random(seed).sample(every, SAMPLE)
    checked: set[int] = set()
    for moment, loss in places:
        try:
            _check_store(run, moment, tmp_path, checked)
            _check_disk(run, moment, loss, tmp_path)
        except Exception as error:
            told = f"{seed}: {moment.what}, lost: {loss}: {type(error).__name__}: {str(error)[:500]}"
            raise AssertionError(told) from error
    return f"{len(places)} of {len(every)} states: at {len(every) // len(LOSSES)} moments, {len(LOSSES)} each"


def _check_store(run: Run, moment: Moment, tmp_path: Path, checked: set[int]) -> None:
    """Every version reads whole with nothing but the store, and every ref names one of them."""
    if moment.shelf in checked:
        return
    checked.add(moment.shelf)
    store = _store_at(run, moment)
    records = [info.key for info in store.list("volumes/") if "/versions/" in info.key]
    for key in records:
        volume = _read_only(run, store, f"{store.url}/{key}", tmp_path / uuid4().hex)
        volume.tree()
        volume.check(load_record(store, parse_locator(f"{store.url}/{key}")))
        volume.close()
    for name in (MAIN, FORK):
        ref = read_ref(store, ref_key("test", name))
        assert ref is None or f"volumes/test-{name}/versions/{ref.version}" in records


def _check_disk(run: Run, moment: Moment, loss: str, tmp_path: Path) -> None:
    """Each workspace is resumed, shows what was promised, and its commit succeeds."""
    for name, number in moment.promised.items():
        directory = tmp_path / uuid4().hex
        materialise(disk_after(run.history[: moment.end], loss, seed=moment.end), directory)
        store = _store_at(run, moment)
        expected = run.promises[number][1]
        ref = read_ref(store, ref_key("test", name))
        base = None if ref is None else f"{store.url}/volumes/test-{name}/versions/{ref.version}"
        volume = _open(run, store, directory, volume_id=name, base=base, meta_dir=str(directory / name))
        _same(volume.tree(), expected, *_later(run, name, number))
        record = volume.commit("second try")
        volume.check(record)
        read = _read_only(run, store, str(record.locator), directory / "elsewhere")
        assert read.tree() == volume.tree()
        read.close()
        volume.close()
        shutil.rmtree(directory)


def _same(found: Tree, promised: Tree, later: Tree, touched: set[bytes]) -> None:
    """What was promised and is not on its way to what is promised next is there."""
    for path in (promised.keys() | later.keys()) - touched:
        if promised.get(path) == later.get(path):
            assert found.get(path) == promised.get(path), f"{path!r} is not as it was promised"


def _later(run: Run, name: str, number: int) -> tuple[Tree, set[bytes]]:
    """The next promise of the same workspace, and what was touched on the way to it."""
    for (volume, tree), touched in zip(run.promises[number + 1 :], run.touched_before[number + 1 :], strict=True):
        if volume == name:
            return tree, touched
    return run.promises[number][1], run.touched


def _store_at(run: Run, moment: Moment) -> MemoryStore:
    """A store of its own with the objects of that moment; locators name it by its URL, so it has the same."""
    store = MemoryStore(run.url)
    for info in list(store.list("")):
        store.delete(info.key)
    for key, data in (run.store.shelves[moment.shelf] if moment.shelf >= 0 else {}).items():
        store.create(key, data)
    return store


def _open(run: Run, store: ObjectStore, directory: Path, **spec: Any) -> Driven:
    spec = {"cache_dir": str(directory / "cache"), "meta_dir": str(directory / "meta"), **spec}
    return Driven.new(directory, store, window=16 << 10, **spec)


def _read_only(run: Run, store: ObjectStore, locator: str, directory: Path) -> Driven:
    return _open(run, store, directory, base=locator, read_only=True)
