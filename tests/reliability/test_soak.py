"""Hours of mixed work on real mounts: nothing grows that should not, and every byte of every version is right.

Four writers work in one mount that lives as long as the test, and whose daemon is measured after each commit. Beside it
a second volume is mounted again and again, often with uncommitted changes, and versions are forked, written to and
finalized. ``SOAK_SECONDS`` of load (600 is the long profile in CI, 3600 an hour), and as many again for reading
every version back; ``SOAK_FAULTS=1`` puts an S3 server behind a proxy that harms what passes.
"""

from __future__ import annotations

import faulthandler
import os
import random
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from statistics import median
from typing import TypeVar

import pytest
from blake3 import blake3

from flyteplugins_vol.config import StoreOptions
from flyteplugins_vol.errors import StoreUnavailableError
from flyteplugins_vol.io import ROVolume, RWVolume, Volume
from tests.io.conftest import World
from tests.reliability.fault_proxy import FaultProxy, fault_proxy
from tests.servers import moto_server

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

SECONDS = float(os.environ.get("SOAK_SECONDS", "10"))
FAULTS = os.environ.get("SOAK_FAULTS", "") not in ("", "0")
SEED = int(os.environ.get("SOAK_SEED", "0"))
FAULT_RATE = 0.05
WRITERS = 4
STEPS = 40  # of each writer, in a round
WARM_UP = 4  # rounds
TRIES = 20
CACHE = 48 << 20  # less than what is written, so that it is trimmed all the time
MIRRORS = 256  # files of the cache that a daemon keeps open at most
NAMES = [f"n{number}" for number in range(12)]
T = TypeVar("T")
Digests = dict[str, str]  # of each file of a version, by path


def digest(data: bytes) -> str:
    return blake3(data).hexdigest()


class Writer:
    """Works in a directory of its own and knows what must be in it. ``shadow``: a local directory for the model of a
    database, which gets the same statements."""

    def __init__(self, seed: int, name: str, shadow: Path) -> None:
        self.rng = random.Random(seed)
        self.name = name
        self.root = Path()
        self.shadow = shadow / f"{name}.db"
        self.model: dict[str, bytes] = {}
        self.done = 0

    def work(self, mount: Path, steps: int = STEPS) -> None:
        self.root = mount / self.name
        self.root.mkdir(exist_ok=True)
        actions = [self.write, self.write, self.append, self.append, self.overwrite, self.overwrite, self.truncate]
        actions += [self.rename, self.unlink, self.read, self.read, self.read]
        for _ in range(steps):
            self.rng.choice(actions)()
        self.rng.choice([self.large, self.database, self.read])()
        self.done += steps + 1

    def digests(self) -> Digests:
        return {f"/{self.name}/{name}": digest(data) for name, data in self.model.items()}

    def check(self, mount: Path) -> None:
        """What the mount shows is the model."""
        self.root = mount / self.name
        there = {path.name: digest(path.read_bytes()) for path in self.root.iterdir()}
        assert there == {name: digest(data) for name, data in self.model.items()}

    # -- steps -----------------------------------------------------------------------------------------------------

    def there(self) -> str | None:
        names = [name for name in self.model if name in NAMES]
        return self.rng.choice(names) if names else None

    def data(self) -> bytes:
        return self.rng.randbytes(self.rng.choice([10, 5_000, 70_000, 300_000]))

    def write(self) -> None:
        name, data = self.rng.choice(NAMES), self.data()
        with open(self.root / name, "wb") as file:
            file.write(data)
            if self.rng.random() < 0.1:
                file.flush()
                os.fsync(file.fileno())
        self.model[name] = data

    def append(self) -> None:
        name = self.there()
        if name is not None and len(self.model[name]) < 1 << 20:
            data = self.data()
            with open(self.root / name, "ab") as file:
                file.write(data)
            self.model[name] += data

    def overwrite(self) -> None:
        if name := self.there():
            data, before = self.data(), self.model[name]
            offset = self.rng.randrange(len(before) + 10_000)
            with open(self.root / name, "r+b") as file:
                file.seek(offset)
                file.write(data)
            self.model[name] = before[:offset].ljust(offset, b"\0") + data + before[offset + len(data) :]

    def truncate(self) -> None:
        if name := self.there():
            size = self.rng.randrange(200_000)
            os.truncate(self.root / name, size)
            self.model[name] = self.model[name][:size].ljust(size, b"\0")

    def rename(self) -> None:
        if name := self.there():
            new = self.rng.choice(NAMES)
            os.rename(self.root / name, self.root / new)
            self.model[new] = self.model.pop(name)

    def unlink(self) -> None:
        if name := self.there():
            os.unlink(self.root / name)
            del self.model[name]

    def read(self) -> None:
        if name := self.there():
            data = self.model[name]
            offset = self.rng.randrange(len(data) + 1)
            with open(self.root / name, "rb") as file:
                file.seek(offset)
                assert file.read(100_000) == data[offset : offset + 100_000], f"other bytes in {self.name}/{name}"

    def large(self) -> None:
        data = self.rng.randbytes(1 << 20) * self.rng.choice([4, 6, 10])
        with open(self.root / "large", "wb") as file:
            for start in range(0, len(data), 1 << 20):
                file.write(data[start : start + (1 << 20)])
        self.model["large"] = data

    def database(self) -> None:
        """SQLite makes the same file of the same statements, here and on the local disk."""
        rows = [(self.rng.randrange(500), self.rng.randbytes(200)) for _ in range(100)]
        for path in (self.root / "data.db", self.shadow):
            with closing(sqlite3.connect(path)) as connection, connection:
                connection.execute("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, v BLOB)")
                connection.executemany("INSERT OR REPLACE INTO t VALUES (?, ?)", rows)
                connection.execute("DELETE FROM t WHERE id % 7 = ?", (self.done % 7,))
        self.model["data.db"] = self.shadow.read_bytes()


@dataclass
class Sample:
    """What a daemon uses, after a commit. Bytes and counts."""

    rss: int
    fds: int  # but for open files of the cache, which are bounded
    mirrors: int
    unlinked: int  # bytes of open files without a name
    threads: int
    staged: int
    staging: int  # on disk
    cache: int
    local: int  # all else in the workspace

    @classmethod
    def of(cls, volume: RWVolume, cache: Path) -> Sample:
        status = volume.status()
        proc, where = Path(f"/proc/{status['pid']}"), Path(volume._mounting.client.spec.meta_dir)  # type: ignore[union-attr]
        told = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
        mirrors, unlinked, others = 0, 0, 0
        for fd in (proc / "fd").iterdir():
            try:
                target, stat = os.readlink(fd), fd.stat()
            except FileNotFoundError:
                continue
            mirrors += target.startswith(str(cache / "blocks"))
            others += not target.startswith(str(cache / "blocks"))
            unlinked += stat.st_blocks * 512 if target.endswith("(deleted)") else 0
        staging = _used(where / "staging")
        return cls(
            int(told["VmRSS"].split()[0]) << 10, others, mirrors, unlinked, int(told["Threads"]),
            status["staged_bytes"], staging, _used(cache), _used(where) - staging,
        )  # fmt: skip


def _used(directory: Path) -> int:
    total = 0
    for path in directory.rglob("*"):
        try:
            total += path.lstat().st_blocks * 512
        except FileNotFoundError:
            continue
    return total


@dataclass
class Soak:
    """The volumes, the models, what was published and what was measured."""

    world: World
    store: str
    options: StoreOptions
    rng: random.Random
    versions: dict[str, Digests] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.writers = [Writer(SEED * 100 + n, f"w{n}", self.world.root) for n in range(WRITERS)]
        self.other = Writer(SEED * 100 + 50, "other", self.world.root)
        self.forker = Writer(SEED * 100 + 60, "forked", self.world.root)
        self.steady, self.restless = self.volume("steady"), self.volume("restless")
        self.mount(self.steady, "steady")
        self.mount(self.restless, "restless")

    def volume(self, name: str) -> RWVolume:
        return self.world.keep(Volume.new(name, self.store, store_options=self.options))

    def mount(self, volume: RWVolume, name: str) -> Path:
        return self.tried(lambda: volume.mount.sync(self.world.path(name), cache_size=CACHE))

    def round(self, number: int) -> None:
        with ThreadPoolExecutor(WRITERS + 1) as pool:
            assert self.steady.mount_path is not None
            work = [pool.submit(writer.work, self.steady.mount_path) for writer in self.writers]
            work.append(pool.submit(self.disturb, number))
            if number % 3 == 0:
                self.tried(lambda: self.steady.commit.sync("under load"))
                self.count("commits under load")
            for done in work:
                done.result()
        self.committed(self.steady, self.writers)
        self.samples.append(Sample.of(self.steady, self.world.root / "cache" / "cache"))
        self.verify(self.rng.choice(sorted(self.versions)))

    def disturb(self, number: int) -> None:
        """On the other volume: work, then a commit, a mount that takes up what is not committed, or a fork."""
        assert self.restless.mount_path is not None
        self.other.work(self.restless.mount_path)
        if number % 3 == 0:
            self.committed(self.restless, [self.other])
        elif number % 3 == 1:
            assert self.restless._mounting is not None
            self.restless._mounting.end(keep=True)
            self.other.check(self.mount(self.restless, "restless"))
            self.count("remounts")
        elif self.versions:
            self.fork(self.rng.choice(sorted(self.versions)))

    def fork(self, locator: str) -> None:
        fork = self.world.keep(self.load(locator).fork.sync("fork"))
        self.forker.model.clear()
        self.forker.shadow.unlink(missing_ok=True)
        path = self.mount(fork, "fork")
        shutil.rmtree(path / self.forker.name, ignore_errors=True)
        self.forker.work(path, 10)
        final = self.tried(lambda: fork.finalize.sync())
        self.versions[str(final.locator)] = {
            **{name: data for name, data in self.versions[locator].items() if not name.startswith("/forked/")},
            **self.forker.digests(),
        }
        self.count("forks")

    def committed(self, volume: RWVolume, writers: list[Writer]) -> None:
        version = self.tried(lambda: volume.commit.sync("quiet"))
        self.versions[str(version.locator)] = {name: d for w in writers for name, d in w.digests().items()}
        self.count("commits")

    def verify(self, locator: str) -> None:
        """Every byte of the version, from the store or the cache, read without a mount."""
        version = self.load(locator)
        files = [info.path for info in version.ls.sync(recursive=True) if info.is_file]
        found = {path: digest(self.tried(lambda path=path: version.read_bytes.sync(path))) for path in files}
        version.close.sync()
        assert found == self.versions[locator], f"{locator} is not what was committed"
        self.count("verified")

    def load(self, locator: str) -> ROVolume:
        return self.tried(lambda: Volume.from_locator.sync(locator, store_options=self.options))

    def tried(self, action: Callable[[], T]) -> T:
        """A store that fails for longer than a call has patience is asked again; all other errors are failures."""
        for _ in range(TRIES):
            try:
                return action()
            except StoreUnavailableError:
                self.count("tries again")
        raise AssertionError("it never succeeded")

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    @property
    def operations(self) -> int:
        return sum(writer.done for writer in (*self.writers, self.other, self.forker))

    # -- the end ---------------------------------------------------------------------------------------------------

    def end(self) -> None:
        """All is published, nothing is left on local disk but the cache, and every version is what it was."""
        for volume, writers in ((self.steady, self.writers), (self.restless, [self.other])):
            final = self.tried(lambda volume=volume: volume.finalize.sync())
            self.versions[str(final.locator)] = {name: d for w in writers for name, d in w.digests().items()}
        assert RWVolume.recoverable() == []
        left = [path for kind in ("workspaces", "mounts") for path in (self.world.root / "cache" / kind).glob("*")]
        assert left == []
        for locator in self.versions:
            self.verify(locator)

    def quiet(self) -> None:
        """No daemon has met an error of its own, also none of those that have ended: they share a log."""
        logs = (self.world.root / "cache" / "workspaces").glob("*/daemon.log")
        lines = [line for log in logs for line in log.read_text().splitlines()]
        assert not [line for line in lines if " ERROR " in line or " CRITICAL " in line or "Error: " in line]

    def flat(self) -> None:
        """The last third of the samples is not above the first."""
        samples = self.samples[WARM_UP:]
        third = max(1, len(samples) // 3)
        first, last = samples[:third], samples[-third:]

        def grew(name: str, bound: Callable[[float], float]) -> bool:
            before, after = (median(getattr(sample, name) for sample in part) for part in (first, last))
            return after > bound(before)

        bounds: dict[str, Callable[[float], float]] = {
            "rss": lambda before: max(before * 1.5, before + (50 << 20)),
            "fds": lambda before: before + 6,
            "threads": lambda before: before + 6,
            "unlinked": lambda before: max(before * 1.5, before + CACHE),
            "local": lambda before: max(before * 1.5, before + (32 << 20)),
            "cache": lambda before: max(before * 1.5, 2 * CACHE),
        }
        grown = [name for name, bound in bounds.items() if grew(name, bound)]
        assert not grown, f"{grown} grew: {first[0]} … {last[-1]}"
        assert all(sample.staged == 0 for sample in self.samples)
        assert all(sample.mirrors <= MIRRORS for sample in self.samples)
        assert max(sample.staging for sample in last) <= 64 << 20  # the log file that is being written


@contextmanager
def stores(root: Path) -> Iterator[tuple[str, StoreOptions, FaultProxy | None]]:
    """A directory, or an S3 server behind a proxy that does harm."""
    if not FAULTS:
        yield f"file://{root}/store", StoreOptions(), None
        return
    with moto_server() as server, fault_proxy(server.endpoint) as proxy:
        proxy.harm(SEED, FAULT_RATE)
        options = replace(server.options(endpoint=proxy.endpoint), retries=8)
        yield server.new_bucket_url("soak"), options, proxy


@pytest.mark.logs_warnings
@pytest.mark.timeout(120 + 4 * SECONDS)
def test_nothing_grows_and_every_byte_is_right(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    faulthandler.cancel_dump_traceback_later()  # it is meant to take long
    with stores(world.root) as (store, options, proxy):
        soak = Soak(world, store, options, random.Random(SEED))
        deadline, number, threads = time.monotonic() + SECONDS, 0, threading.active_count()
        while time.monotonic() < deadline or number < WARM_UP + 3:
            soak.round(number)
            number += 1
        with capsys.disabled():
            print(f"\n {number} rounds, {soak.operations} operations, {soak.counts}", (proxy and dict(proxy.met)) or "")
            for sample in (soak.samples[WARM_UP], soak.samples[-1]):
                print("  " + ", ".join(f"{f.name} {getattr(sample, f.name):,}" for f in fields(sample)))
        soak.flat()
        if proxy is None:
            soak.quiet()
        else:
            proxy.harm(SEED, 0)  # versions were read under faults all the time; all of them again would take as long
        soak.end()
        if proxy is None:
            assert threading.active_count() <= threads + 6
        with capsys.disabled():
            print(f"  {len(soak.versions)} versions, each read back whole")
