"""Seeded runs of mixed work on a store that fails in every way: each version committed is what the model says.

Once in memory, where a run is quick, and once with a real S3 server behind a proxy that harms what passes, through
both S3 clients. ``FAULT_SEEDS=1000`` and ``FAULT_PROXY_SEEDS=25`` are the long profile; ``FAULT_FIRST_SEED`` begins
elsewhere.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from flyteplugins_vol.errors import ObjectMissingError, VolumeError
from flyteplugins_vol.model import AttrChange
from flyteplugins_vol.store.base import ObjectStore
from flyteplugins_vol.store.doubting import Doubting
from flyteplugins_vol.store.memory import MemoryStore
from flyteplugins_vol.store.open import open_store
from flyteplugins_vol.store.retrying import Retrying
from tests.driven import ME, Driven
from tests.reliability.fault_proxy import fault_proxy
from tests.reliability.flaky import Flaky
from tests.servers import S3Server
from tests.workspace.test_model import LIMITS

pytestmark = pytest.mark.slow

SEEDS = int(os.environ.get("FAULT_SEEDS", "8"))
PROXY_SEEDS = int(os.environ.get("FAULT_PROXY_SEEDS", "1"))
FIRST = int(os.environ.get("FAULT_FIRST_SEED", "0"))
STEPS = 40
TRIES = 200  # of one thing, each with its own faults
NAMES = [b"n%d" % i for i in range(12)]
Model = dict[bytes, bytes]


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in LIMITS:
        monkeypatch.setattr(module, name, value)


class Work:
    """One volume, its model, and what was committed of both. ``sound`` is its store behind all faults."""

    def __init__(self, seed: int, directory: Path, store: ObjectStore, sound: ObjectStore) -> None:
        self.rng = random.Random(seed)
        self.directory = directory
        self.sound = sound
        self.model: Model = {}
        self.committed: dict[str, Model] = {}
        self.lost: dict[str, bytes] = {}
        self.volume = self.tried(lambda: Driven.new(directory, store, window=16 << 10))

    def tried(self, action: Callable[[], Driven]) -> Driven:
        for _ in range(TRIES):
            try:
                return action()
            except VolumeError:
                continue
        raise AssertionError("it never succeeded")

    def run(self, count: int = STEPS) -> None:
        steps = [
            self.write,
            self.write,
            self.write,
            self.truncate,
            self.rename,
            self.copy,
            self.unlink,
            self.read,
            self.read,
        ]
        steps += [self.seal, self.commit, self.commit, self.reopen, self.kill, self.evict, self.lose, self.fork]
        for _ in range(count):
            self.rng.choice(steps)()

    # -- steps -----------------------------------------------------------------------------------------------------

    def name(self) -> bytes | None:
        return self.rng.choice(sorted(self.model)) if self.model else None

    def write(self) -> None:
        name = self.rng.choice(NAMES)
        data = self.rng.randbytes(self.rng.choice([10, 3_000, 20_000, 50_000]))
        offset = self.rng.choice([0, 0, 100, len(self.model.get(name, b""))])
        ino = self.volume.find(name).ino if name in self.model else self.volume.create(name)
        done = 0
        while done < len(data):
            done += self.volume.workspace.write(ino, offset + done, data[done:])
        before = self.model.get(name, b"").ljust(offset, b"\0")
        self.model[name] = before[:offset] + data + before[offset + len(data) :]

    def truncate(self) -> None:
        if name := self.name():
            size = self.rng.randrange(30_000)
            self.volume.workspace.setattr(self.volume.find(name).ino, AttrChange(size=size), ME)
            self.model[name] = self.model[name][:size].ljust(size, b"\0")

    def rename(self) -> None:
        if name := self.name():
            new = self.rng.choice(NAMES)
            self.volume.workspace.rename(1, name, 1, new)
            self.model[new] = self.model.pop(name)

    def copy(self) -> None:
        source, target = self.name(), self.name()
        if source and target and source != target and self.model[source]:
            size = min(len(self.model[source]), self.rng.randrange(1, 30_000))
            inos = self.volume.find(source).ino, self.volume.find(target).ino
            assert self.volume.workspace.copy_range(inos[0], 0, inos[1], 50, size) == size
            before = self.model[target].ljust(50, b"\0")
            self.model[target] = before[:50] + self.model[source][:size] + before[50 + size :]

    def unlink(self) -> None:
        if name := self.name():
            self.volume.workspace.unlink(1, name)
            del self.model[name]

    def read(self) -> None:
        """The right bytes, or an error; an error for ever only where something was lost."""
        if name := self.name():
            try:
                assert self.volume.content(name) == self.model[name]
            except VolumeError:
                return

    def seal(self) -> None:
        try:
            self.volume.seal(everything=self.rng.random() < 0.5)
        except VolumeError:
            return

    def commit(self) -> None:
        try:
            record = self.volume.commit("message")
        except VolumeError:
            return
        self.committed[str(record.locator)] = dict(self.model)

    def evict(self) -> None:
        self.volume.session.cache.trim(0)

    def reopen(self) -> None:
        self.volume.close(keep=True)
        self.tried(self.opened)

    def kill(self) -> None:
        """What is on disk after a sync, copied as a killed process leaves it."""
        self.volume.workspace.begin_sync()
        copy = self.directory / f"killed-{uuid4().hex[:8]}"
        shutil.copytree(self.volume.spec.meta_dir, copy)
        self.volume.close()
        shutil.rmtree(self.volume.spec.meta_dir, ignore_errors=True)
        self.tried(lambda: self.opened(meta_dir=str(copy)))

    def opened(self, **changes: str) -> Driven:
        self.volume.open(**changes)
        return self.volume

    def lose(self) -> None:
        """The store loses an object; `restore` brings it back."""
        keys = [info.key for info in self.sound.list("packs/")]
        if keys and not self.lost:
            key = self.rng.choice(keys)
            self.lost[key] = self.sound.get(key) or b""
            self.sound.delete(key)
            self.evict()
            self.read()
            self.restore()

    def restore(self) -> None:
        for key, data in self.lost.items():
            self.sound.create(key, data)
        self.lost.clear()

    def fork(self) -> None:
        """Go on from a version of the past, in a volume of its own."""
        if self.committed:
            locator = self.rng.choice(sorted(self.committed))
            self.volume.close()
            self.volume = self.tried(lambda: self.volume.fork(locator))
            self.model = dict(self.committed[locator])

    # -- the end ---------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Without faults: the workspace is the model, it commits, and each version ever committed is what it was."""
        assert self.contents(self.volume) == self.model
        self.commit()
        assert self.model in self.committed.values()
        self.volume.close()
        for locator, model in self.committed.items():
            version = self.volume.at(locator, cache_dir=str(self.directory / "nothing"))
            assert self.contents(version) == model
            version.close()

    @staticmethod
    def contents(volume: Driven) -> Model:
        return {name: volume.read(inode.ino) for name, inode in volume.workspace.readdir(1, None, 100)}


def in_memory(seed: int, directory: Path) -> tuple[Work, Flaky]:
    sound = MemoryStore(f"memory://{uuid4().hex}")
    flaky = Flaky(sound, seed, rate=random.Random(seed).choice([0.1, 0.25, 0.4]))
    store = Retrying(Doubting(flaky, sleep=_at_once), retries=3, sleep=_at_once)
    return Work(seed, directory, store, sound), flaky


def _at_once(seconds: float) -> None:
    return


@pytest.mark.logs_warnings
@pytest.mark.timeout(60 + 2 * SEEDS)
def test_every_committed_version_is_what_the_model_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    versions, faults = 0, 0
    for seed in range(FIRST, FIRST + SEEDS):
        work, flaky = in_memory(seed, tmp_path / str(seed))
        try:
            work.run()
            flaky.rate = 0
            work.check()
        except BaseException as error:
            raise AssertionError(f"seed {seed}: {type(error).__name__}: {str(error)[:500]}") from error
        versions += len(work.committed)
        faults += sum(flaky.met.values())
        shutil.rmtree(tmp_path / str(seed))
    assert versions > SEEDS
    assert faults > SEEDS
    with capsys.disabled():
        print(f" {SEEDS} runs, {versions} versions, {faults} faults")


@pytest.mark.s3
@pytest.mark.logs_warnings
@pytest.mark.timeout(60 + 60 * PROXY_SEEDS)
@pytest.mark.parametrize("backend", ["obstore", "fsspec"])
def test_a_real_server_behind_a_proxy_that_harms_what_passes(
    tmp_path: Path, s3_server: S3Server, backend: str, capsys: pytest.CaptureFixture[str]
) -> None:
    url, versions = s3_server.new_bucket_url(), 0
    with fault_proxy(s3_server.endpoint) as proxy, open_store(url, s3_server.options(backend)) as sound:
        options = replace(s3_server.options(backend, endpoint=proxy.endpoint), retries=8)
        for seed in range(FIRST, FIRST + PROXY_SEEDS):
            with open_store(url, options) as store:
                proxy.harm(seed, 0.3)
                work = Work(seed, tmp_path / str(seed), store, sound)
                try:
                    work.run(25)
                    proxy.harm(seed, 0.0)
                    work.check()
                except BaseException as error:
                    raise AssertionError(f"seed {seed}: {type(error).__name__}: {str(error)[:500]}") from error
                versions += len(work.committed)
            shutil.rmtree(tmp_path / str(seed))
    assert sum(proxy.met.values()) > PROXY_SEEDS
    with capsys.disabled():
        print(f" {backend}: {PROXY_SEEDS} runs, {versions} versions, {dict(proxy.met)}")


def test_a_lost_object_is_an_error_and_never_other_bytes(tmp_path: Path) -> None:
    work, flaky = in_memory(1, tmp_path)
    flaky.rate = 0
    work.write()
    work.commit()
    work.evict()
    for info in list(work.sound.list("packs/")):
        work.sound.delete(info.key)
    name = work.name()
    assert name is not None
    with pytest.raises(ObjectMissingError):
        work.volume.content(name)
    work.volume.close()
