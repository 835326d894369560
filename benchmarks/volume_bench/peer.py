"""JuiceFS beside a volume, driven by its own program: write-back, caches of 60 s, its data where a volume's are."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from volume_bench.case import Case, Samples, Scale
from volume_bench.measure import Ledger, Traffic, peak_of_daemons
from volume_bench.servers import Meter
from volume_bench.targets import Target, copy_tree

PEER = "JuiceFS"
METADATA = ("sqlite3", "badger")
OPTIONS = (
    "--writeback", "--max-uploads", "50", "--attr-cache", "60", "--entry-cache", "60", "--dir-entry-cache", "60",
    "--no-usage-report", "--backup-meta", "0", "--hide-internal",
)  # fmt: skip


@dataclass(frozen=True)
class _Tree:
    """One JuiceFS: a name, and metadata that only it uses. All keep their data in one bucket."""

    name: str
    metadata: str


class JuiceFSTarget(Target):
    """A new file system for every tree. A state is one whose data has all reached the store; its metadata is local."""

    def __init__(self, scratch: Path, program: Path, metadata: str, meter: Meter | None = None) -> None:
        """``metadata``: its engine. Data goes to a directory below ``scratch``, or to the bucket of ``meter``."""
        super().__init__(scratch)
        self.name = f"{PEER}, {metadata.removesuffix('3')}"
        self._program = str(program)
        self._engine = metadata
        self._meter = meter
        self._directory = scratch / "store"
        self._directory.mkdir()
        self._ledger = Ledger(self._directory.as_uri()) if meter is None else None
        self._cache = self._fresh("cache")
        self._trees: dict[str, _Tree] = {}
        self._open: _Tree | None = None
        self._keeping = False
        self.only: frozenset[str] = frozenset()  # names of cases; empty: all
        self.most_runs: int | None = None

    def samples(self, case: Case, scale: Scale) -> Samples | None:
        return case.run(self, scale) if case.peer and (not self.only or case.name in self.only) else None

    def runs(self, case: Case, wanted: int) -> int:
        """Fewer, since it takes so much longer: what is not run often anyway is run once."""
        return min(super().runs(case, wanted), self.most_runs or wanted, 1 if case.most_runs else wanted)

    @contextmanager
    def empty(self) -> Generator[Path, None, None]:
        tree = self._formatted()
        with self._mounted(tree) as path:
            yield path
        if not self._keeping:
            self._remove(tree)

    @contextmanager
    def opened(self, state: str, *, writable: bool = False) -> Generator[Path, None, None]:
        if not writable:
            with self._mounted(self._trees[state]) as path:
                yield path
            return
        copy = self._copied(self._trees[state])
        self.forget()
        with self._mounted(copy) as path:
            yield path
        self._remove(copy)

    def save(self) -> str:
        assert self._open is not None
        self._wait_for_uploads()
        return self._open.name

    def forget_held(self) -> None:
        shutil.rmtree(self._cache, ignore_errors=True)
        self._cache = self._fresh("cache")

    def traffic(self) -> Traffic | None:
        if self._meter is not None:
            return self._meter.traffic()
        return self._ledger.look() if self._ledger is not None else None

    def prepared(self, key: str, fill: Callable[[Path], None]) -> str:
        self._keeping = True
        try:
            return super().prepared(key, fill)
        finally:
            self._keeping = False

    def _copied(self, tree: _Tree) -> _Tree:
        """The same files in a file system of their own: JuiceFS has no forks."""
        copy = self._formatted()
        with self._mounted(tree) as source, self._mounted(copy) as path:
            copy_tree(source, path)
            self._wait_for_uploads()
        return copy

    def _formatted(self) -> _Tree:
        name = f"j{uuid4().hex[:8]}"
        tree = self._trees[name] = _Tree(name, f"{self._engine}://{self.scratch / name}.db")
        self._run("format", tree.metadata, name, "--trash-days", "0", *self._storage())
        return tree

    def _storage(self) -> list[str]:
        if self._meter is None:
            return ["--storage", "file", "--bucket", f"{self._directory}/"]
        bucket = self._meter.bucket.removeprefix("s3://")
        keys = [os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]]
        return [
            "--storage", "s3", "--bucket", f"{self._meter.endpoint}/{bucket}",
            "--access-key", keys[0], "--secret-key", keys[1],
        ]  # fmt: skip

    @contextmanager
    def _mounted(self, tree: _Tree) -> Generator[Path, None, None]:
        path = self._fresh("mount")
        path.mkdir()
        log = ["--log", str(self.scratch / "juicefs.log")]
        self._run("mount", tree.metadata, str(path), "-d", "--cache-dir", str(self._cache), *log, *OPTIONS)
        self._open = tree
        try:
            yield path
        finally:
            self.daemon_peak = max(self.daemon_peak, peak_of_daemons())
            self._wait_for_uploads()
            self._run("umount", str(path))
            self._open = None
            path.rmdir()

    def _wait_for_uploads(self) -> None:
        while any(file.is_file() for file in self._cache.glob("*/rawstaging/**/*")):
            time.sleep(0.005)

    def _remove(self, tree: _Tree) -> None:
        """What it has on this disk; a bucket is thrown away as a whole."""
        shutil.rmtree(self._directory / tree.name, ignore_errors=True)

    def _run(self, *arguments: str) -> None:
        done = subprocess.run([self._program, *arguments], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"juicefs {arguments[0]} failed: {(done.stderr or done.stdout)[-1000:]}")
