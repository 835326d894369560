"""What is measured: the local disk, a volume, and any other file system that can do these few things."""

from __future__ import annotations

import os
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from flyteplugins_vol.config import HIGH_THROUGHPUT_VARIABLE
from flyteplugins_vol.io import ROVolume, RWVolume, Volume
from volume_bench.bulk import bulk_store, copy_objects
from volume_bench.columns import FAST, LOCAL, PASSED, VOLUME
from volume_bench.measure import Ledger, Traffic, drop_page_cache, peak_of_daemons

if TYPE_CHECKING:
    from volume_bench.case import Case, Samples, Scale
    from volume_bench.servers import Meter


class Subject(ABC):
    """What cases are run on."""

    name: str
    daemon_peak = 0
    """Most memory, in bytes, of the processes behind the trees that were open since somebody set it to 0."""

    @abstractmethod
    def samples(self, case: Case, scale: Scale) -> Samples | None:
        """One run of a case; None for one that is not for this subject."""

    def runs(self, case: Case, wanted: int) -> int:
        """How often a case is run here."""
        return min(wanted, case.most_runs or wanted)


class Target(Subject):
    """A file system under test. One tree is open at a time; `save` makes a state that `opened` brings back.

    A peer (another networked file system, say) is one more subclass: its store takes the place of ours, its mount
    command that of `Volume.mount`, and `save` waits until everything has reached the store.
    """

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.scratch.mkdir(parents=True)
        self._prepared: dict[str, str] = {}

    @abstractmethod
    def empty(self) -> AbstractContextManager[Path]:
        """A new and empty tree to write to."""

    @abstractmethod
    def opened(self, state: str, *, writable: bool = False) -> AbstractContextManager[Path]:
        """A saved tree; after `forget`, one of which nothing is held locally."""

    @abstractmethod
    def save(self) -> str:
        """Make the open tree durable, where other machines would find it: a state for `opened`."""

    def forget(self) -> None:
        """Drop every local cache; whatever is opened afterwards is cold."""
        self.forget_held()
        self.forget_pages()

    @abstractmethod
    def forget_held(self) -> None:
        """Drop the target's own caches only."""

    def forget_pages(self) -> None:
        """Drop the kernel's caches only; those of the target's own stay."""
        drop_page_cache()

    def traffic(self) -> Traffic | None:
        """What went to and came from the store since the last call; None where there is none."""
        return None

    def packs(self, state: str) -> int | None:
        """How many packs hold the contents of a state; None where there are none."""
        return None

    def prepared_bulk(self, files: int) -> str:
        """A state of so many files, by whatever way is the fastest."""
        raise NotImplementedError

    def fork(self, state: str) -> Callable[[], object]:
        """Make a second tree that begins as a copy of ``state``; what is returned gives it a version of its own."""
        raise NotImplementedError

    def prepared(self, key: str, fill: Callable[[Path], None]) -> str:
        """The state that ``fill`` makes of an empty tree, made once for each key."""
        if key not in self._prepared:
            with self.empty() as path:
                fill(path)
                self._prepared[key] = self.save()
        return self._prepared[key]

    def _fresh(self, name: str) -> Path:
        return self.scratch / f"{name}-{uuid4().hex[:8]}"


class LocalTarget(Target):
    """The local disk. To save is to copy and sync: what a commit to a directory would cost if it did nothing else."""

    name = LOCAL

    def __init__(self, scratch: Path) -> None:
        super().__init__(scratch)
        self._open = scratch

    def samples(self, case: Case, scale: Scale) -> Samples | None:
        return case.run(self, scale) if case.local else None

    @contextmanager
    def empty(self) -> Generator[Path, None, None]:
        path = self._open = self._fresh("tree")
        path.mkdir()
        try:
            yield path
        finally:
            shutil.rmtree(path)

    @contextmanager
    def opened(self, state: str, *, writable: bool = False) -> Generator[Path, None, None]:
        if not writable:
            self._open = Path(state)
            yield self._open
            return
        with self.empty() as path:
            copy_tree(Path(state), path)
            yield path

    def save(self) -> str:
        copy = self._fresh("saved")
        copy.mkdir()
        copy_tree(self._open, copy)
        subprocess.run(["sync", "--file-system", str(copy)], check=True)
        return str(copy)

    def forget_held(self) -> None:
        """It has none."""

    def forget_pages(self) -> None:
        drop_page_cache(self.scratch)


class VolumeTarget(Target):
    """A volume, with caches and staging of its own for every tree that is opened after `forget`."""

    name = VOLUME

    def __init__(self, scratch: Path, store: str, bulk: Path, meter: Meter | None = None) -> None:
        """``bulk``: where states of very many files are kept from run to run. ``meter``: who counts requests."""
        super().__init__(scratch)
        self.store = store
        self._bulk = bulk
        self._ledger = Ledger(store)
        self._meter = meter
        self._cache = self._fresh("cache")
        self._volume: RWVolume | ROVolume | None = None
        self._packs: dict[str, list[tuple[str, int]]] = {}

    def samples(self, case: Case, scale: Scale) -> Samples | None:
        return case.run(self, scale)

    @contextmanager
    def empty(self) -> Generator[Path, None, None]:
        with self._mounted(Volume.new(f"bench-{uuid4().hex[:8]}", store=self.store)) as path:
            yield path

    @contextmanager
    def opened(self, state: str, *, writable: bool = False) -> Generator[Path, None, None]:
        version = Volume.from_locator.sync(state)
        volume = version.fork.sync(f"bench-{uuid4().hex[:8]}") if writable else version
        with self._mounted(volume) as path:
            yield path

    def save(self) -> str:
        assert isinstance(self._volume, RWVolume)
        locator = self._volume.commit.sync("benchmark").locator
        assert locator is not None
        return locator

    def forget_held(self) -> None:
        shutil.rmtree(self._cache, ignore_errors=True)
        self._cache = self._fresh("cache")

    def traffic(self) -> Traffic:
        return self._meter.traffic() if self._meter is not None else self._ledger.look()

    def prepared(self, key: str, fill: Callable[[Path], None]) -> str:
        if key not in self._prepared:
            self._ledger.look()
            before = self._ledger.sizes()
            state = super().prepared(key, fill)
            self._ledger.look()
            new = self._ledger.sizes().items() - before.items()
            self._packs[state] = sorted(item for item in new if item[0].startswith("packs/"))
        return self._prepared[key]

    def prepared_bulk(self, files: int) -> str:
        key = f"bulk {files}"
        if key not in self._prepared:
            source, locator = bulk_store(self._bulk, files)
            copy_objects(source, self.store)
            self._prepared[key] = self.store + locator.removeprefix(source)
        return self._prepared[key]

    def packs(self, state: str) -> int:
        return len(self._packs[state])

    def packs_of(self, state: str) -> list[tuple[str, int]]:
        """Keys and sizes of the objects that a prepared state put its contents into."""
        return self._packs[state]

    def fork(self, state: str) -> Callable[[], object]:
        return Volume.from_locator.sync(state).fork.sync(f"bench-{uuid4().hex[:8]}").finalize.sync

    @contextmanager
    def _mounted(self, volume: RWVolume | ROVolume) -> Generator[Path, None, None]:
        path, meta = self._fresh("mount"), self._fresh("meta")
        path.mkdir()
        self._volume = volume
        try:
            yield self._mount(volume, path, meta)
        finally:
            self._volume = None
            self.daemon_peak = max(self.daemon_peak, peak_of_daemons())
            volume.abandon.sync()
            shutil.rmtree(meta, ignore_errors=True)
            path.rmdir()

    def _mount(self, volume: RWVolume | ROVolume, path: Path, meta: Path) -> Path:
        return volume.mount.sync(path, meta_dir=meta, cache_dir=self._cache)


class ModeTarget(VolumeTarget):
    """The same volumes, mounted in another way: with what has a goal there."""

    def __init__(self, scratch: Path, default: VolumeTarget) -> None:
        super().__init__(scratch, default.store, default._bulk, default._meter)  # noqa: SLF001
        self._prepared, self._packs = default._prepared, default._packs  # noqa: SLF001

    def samples(self, case: Case, scale: Scale) -> Samples | None:
        wanted = [name for name, metric in case.metrics.items() if metric.goal_in(self.name) is not None]
        if not wanted:
            return None
        found = case.run(self, scale)
        return {name: found[name] for name in wanted if name in found}


class FastVolumeTarget(ModeTarget):
    """For very many files."""

    name = FAST

    def _mount(self, volume: RWVolume | ROVolume, path: Path, meta: Path) -> Path:
        os.environ[HIGH_THROUGHPUT_VARIABLE] = "1"
        try:
            return super()._mount(volume, path, meta)
        finally:
            del os.environ[HIGH_THROUGHPUT_VARIABLE]


class PassedVolumeTarget(ModeTarget):
    """For large files: the kernel writes new ones by itself."""

    name = PASSED

    def _mount(self, volume: RWVolume | ROVolume, path: Path, meta: Path) -> Path:
        if not isinstance(volume, RWVolume):
            return super()._mount(volume, path, meta)
        return volume.mount.sync(path, meta_dir=meta, cache_dir=self._cache, passthrough=True)


def copy_tree(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", f"{source}/.", str(target)], check=True)


@contextmanager
def scratch_directory(parent: Path) -> Generator[Path, None, None]:
    """A directory for one benchmark, with nothing of it left afterwards."""
    path = parent.resolve() / f"run-{uuid4().hex[:8]}"
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
