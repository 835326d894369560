"""What is measured: the local disk, a volume, and any other file system that can do these few things."""

from __future__ import annotations

import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from uuid import uuid4

from flyteplugins_vol.io import ROVolume, RWVolume, Volume
from volume_bench.measure import Ledger, Written, drop_page_cache, peak_of_daemons


class Target(ABC):
    """A file system under test. One tree is open at a time; `save` makes a state that `opened` brings back.

    A peer (another networked file system, say) is one more subclass: its store takes the place of ours, its mount
    command that of `Volume.mount`, and `save` waits until everything has reached the store.
    """

    name: str
    has_store = False
    daemon_peak = 0
    """Most memory, in bytes, of the processes behind the trees that were open since somebody set it to 0."""

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

    @abstractmethod
    def forget(self) -> None:
        """Drop every local cache; whatever is opened afterwards is cold."""

    def forget_pages(self) -> None:
        """Drop the kernel's caches only; those of the target's own stay."""
        drop_page_cache()

    def written(self) -> Written | None:
        """What went to the store since the last call; None where there is none."""
        return None

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

    name = "local disk"

    def __init__(self, scratch: Path) -> None:
        super().__init__(scratch)
        self._open = scratch

    @contextmanager
    def empty(self) -> Iterator[Path]:
        path = self._open = self._fresh("tree")
        path.mkdir()
        try:
            yield path
        finally:
            shutil.rmtree(path)

    @contextmanager
    def opened(self, state: str, *, writable: bool = False) -> Iterator[Path]:
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

    def forget(self) -> None:
        drop_page_cache(self.scratch)


class VolumeTarget(Target):
    """A volume, with caches and staging of its own for every tree that is opened after `forget`."""

    name = "volume"
    has_store = True

    def __init__(self, scratch: Path, store: str) -> None:
        super().__init__(scratch)
        self.store = store
        self._ledger = Ledger(store)
        self._cache = self._fresh("cache")
        self._volume: RWVolume | ROVolume | None = None

    @contextmanager
    def empty(self) -> Iterator[Path]:
        with self._mounted(Volume.new(f"bench-{uuid4().hex[:8]}", store=self.store)) as path:
            yield path

    @contextmanager
    def opened(self, state: str, *, writable: bool = False) -> Iterator[Path]:
        version = Volume.from_locator.sync(state)
        volume = version.fork.sync(f"bench-{uuid4().hex[:8]}") if writable else version
        with self._mounted(volume) as path:
            yield path

    def save(self) -> str:
        assert isinstance(self._volume, RWVolume)
        locator = self._volume.commit.sync("benchmark").locator
        assert locator is not None
        return locator

    def forget(self) -> None:
        shutil.rmtree(self._cache, ignore_errors=True)
        self._cache = self._fresh("cache")
        drop_page_cache()

    def written(self) -> Written:
        return self._ledger.look()

    def fork(self, state: str) -> Callable[[], object]:
        return Volume.from_locator.sync(state).fork.sync(f"bench-{uuid4().hex[:8]}").finalize.sync

    @contextmanager
    def _mounted(self, volume: RWVolume | ROVolume) -> Iterator[Path]:
        path, meta = self._fresh("mount"), self._fresh("meta")
        path.mkdir()
        self._volume = volume
        try:
            yield volume.mount.sync(path, meta_dir=meta, cache_dir=self._cache)
        finally:
            self._volume = None
            self.daemon_peak = max(self.daemon_peak, peak_of_daemons())
            volume.abandon.sync()
            shutil.rmtree(meta, ignore_errors=True)
            path.rmdir()


def copy_tree(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", f"{source}/.", str(target)], check=True)


@contextmanager
def scratch_directory(parent: Path) -> Iterator[Path]:
    """A directory for one benchmark, with nothing of it left afterwards."""
    path = parent.resolve() / f"run-{uuid4().hex[:8]}"
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
