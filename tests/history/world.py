"""A store with volumes for tests of its upkeep: versions made at chosen moments, and what must hold of them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from flyteplugins_vol.history import commit as commit_module
from flyteplugins_vol.history import writing as writing_module
from flyteplugins_vol.history.collect import Collection, collect
from flyteplugins_vol.history.prune import Pruning, Retention, plan_pruning, prune
from flyteplugins_vol.history.record import Locator, VersionRecord
from flyteplugins_vol.history.sources import sources
from flyteplugins_vol.history.verify import Verification, verify
from flyteplugins_vol.history.volumes import VolumeEntry, list_refs, list_versions, list_volumes
from flyteplugins_vol.index.index import Index
from tests.driven import Driven
from tests.reliability.aging import Aging

_SEEDS = itertools.count()


class World:
    """``store`` has its own clock; so has, as far as commits go, this machine: ``lag`` seconds behind the store's."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.store = Aging(f"memory://{uuid4().hex}")
        self.lag = 0.0
        self.volumes: list[Driven] = []
        clock = SimpleNamespace(time=lambda: self.store.now.timestamp() - self.lag)
        for module in (commit_module, writing_module):
            monkeypatch.setattr(module, "time", clock)

        class Clock(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> datetime:
                return self.store.now

        monkeypatch.setattr(commit_module, "datetime", Clock)

    def open(self, **spec: Any) -> Driven:
        directory = self.root / uuid4().hex[:8]
        directory.mkdir()
        volume = Driven.new(directory, self.store, **{"cache_dir": str(self.root / "cache"), **spec})
        self.volumes.append(volume)
        return volume

    def fork(self, record: VersionRecord, **spec: Any) -> Driven:
        return self.open(base=str(record.locator), **spec)

    def write(self, volume: Driven, name: bytes, size: int = 5000) -> bytes:
        """A new file with bytes of its own, instead of one of this name."""
        data = random.Random(next(_SEEDS)).randbytes(size)
        if volume.workspace.lookup(1, name) is not None:
            volume.workspace.unlink(1, name)
        volume.create(name, data)
        return data

    @staticmethod
    def take(volume: Driven, at: Locator, name: bytes | None = None, *, new: bytes = b"taken") -> None:
        """Let a name in the root lead to what another version has in its root: by default its first file."""
        with sources(volume.session, volume.spec.cache_dir, [at]) as (source,):
            index = Index.open(source.path, read_only=True)
            try:
                found = {name: inode.ino for name, inode in index.inodes.in_order(1, b"", 100)}
                if name is not None or found:
                    volume.workspace.graft(index, found[name or min(found)], 1, new, replace=True)
            finally:
                index.close()

    def entry(self, volume: Driven) -> VolumeEntry:
        return VolumeEntry(self.store.url, volume.spec.volume_name, volume.spec.volume_id)

    def collect(self, **options: Any) -> Collection:
        options = {"abandoned": timedelta(days=7), **options}  # the least: tests of this and that need not sleep longer
        return collect(
            self.store, scratch=str(self.root), clock=self.store.now.timestamp, now=self.store.now, **options
        )

    def prune(self, volume: Driven, *, dry_run: bool = False, **policy: Any) -> Pruning:
        entry = self.entry(volume)
        plan = plan_pruning(self.store, entry, Retention(**policy), now=self.store.now)
        if not dry_run:
            prune(self.store, entry, plan)
        return plan

    def verify(self, locator: Locator, **options: Any) -> Verification:
        return verify(self.store, locator, scratch=str(self.root), **options)

    def collect_all(self) -> None:
        """Time passes, and collections run, until nothing is left to collect."""
        for _ in range(4):
            self.store.pass_time(days=8)
            self.collect()

    def versions(self) -> list[Locator]:
        return [at for volume in list_volumes(self.store) for at in list_versions(self.store, volume)]

    def objects(self, prefix: str) -> set[str]:
        return {info.key for info in self.store.inner.list(prefix)}

    def check(self, *, all_versions: bool = True) -> None:
        """Every version in the store is whole, or (not ``all_versions``) every one that a ref leads to."""
        files = {at.file for at in self.versions()}
        self.check_refs(files)
        named = {ref.version for volume in list_volumes(self.store) for ref in list_refs(self.store, volume).values()}
        for locator in self.versions():
            if all_versions or locator.file in named:
                found = self.verify(locator, deep=True)
                assert found.ok, (locator.file, found.problems, found.files)

    def check_refs(self, files: set[str] | None = None) -> None:
        """Every ref names a version that is there."""
        files = {at.file for at in self.versions()} if files is None else files
        for volume in list_volumes(self.store):
            for name, ref in list_refs(self.store, volume).items():
                assert ref.version in files, f"{volume}: {name} names {ref.version}, which is not there"

    def check_tree(self, record: VersionRecord, tree: Mapping[bytes, Any]) -> None:
        """It reads as it was, by a machine that has nothing of it."""
        volume = self.open(base=str(record.locator), read_only=True, cache_dir=str(self.root / uuid4().hex))
        assert volume.tree() == tree
        volume.close()

    def close(self) -> None:
        self.store.restart()
        for volume in self.volumes:
            volume.close()
