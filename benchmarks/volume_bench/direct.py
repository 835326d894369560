"""The yardstick for bytes: obstore moving the same objects, with as many requests at once as a volume makes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import obstore
from obstore.store import LocalStore

from flyteplugins_vol.config import store_options_from_environment
from flyteplugins_vol.model import BLOCK_SIZE
from flyteplugins_vol.store.obstoreclient import new_client
from flyteplugins_vol.store.url import parse_store_url
from flyteplugins_vol.workspace.sealing import PACK_TARGET
from volume_bench.case import Case, Samples, Scale
from volume_bench.cpu import CpuClock
from volume_bench.targets import Subject, VolumeTarget

PUTS_AT_ONCE = 6  # packs that a commit has in the making
GETS_AT_ONCE = 16  # threads of a volume's fetcher


class DirectTarget(Subject):
    """Puts and gets from and to memory: no file system, no hashes, no index."""

    name = "obstore"

    def __init__(self, volume: VolumeTarget) -> None:
        self.volume = volume
        where = parse_store_url(volume.store)
        self._root = Path(where.path) if where.scheme == "file" else None
        if self._root is not None:
            self._root.mkdir(parents=True, exist_ok=True)
        self._client: Any = (
            LocalStore(self._root) if self._root else new_client(where, store_options_from_environment(where.text))
        )
        self._prefix = "" if self._root or not where.path else f"{where.path}/"

    def samples(self, case: Case, scale: Scale) -> Samples | None:
        return case.direct(self, scale) if case.direct is not None else None

    def putting(self, size: int) -> CpuClock:
        """The time until so many bytes are in objects as large as packs, durable if they are on a disk."""
        data = os.urandom(PACK_TARGET)
        name = uuid4().hex
        keys = [f"{self._prefix}direct/{name}/{start}" for start in range(0, size, PACK_TARGET)]
        clock = self._timed(PUTS_AT_ONCE, lambda key: self._put(key, data), keys)
        for key in keys:
            obstore.delete(self._client, key)
        return clock

    def getting(self, state: str) -> CpuClock:
        """The time until all packs of a version are in memory, in ranges of a block."""
        ranges = [
            (self._prefix + key, at, min(BLOCK_SIZE, size - at))
            for key, size in self.volume.packs_of(state)
            for at in range(0, size, BLOCK_SIZE)
        ]
        self.volume.forget()
        return self._timed(
            GETS_AT_ONCE, lambda r: obstore.get_range(self._client, r[0], start=r[1], length=r[2]), ranges
        )

    def _put(self, key: str, data: bytes) -> None:
        obstore.put(self._client, key, data, use_multipart=False)
        if self._root is not None:  # obstore does not sync files, and a volume does
            descriptor = os.open(self._root / key, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)

    @staticmethod
    def _timed(at_once: int, work: Callable[[Any], object], items: Iterable[Any]) -> CpuClock:
        clock = CpuClock()
        with ThreadPoolExecutor(at_once) as pool, clock.running():
            for _ in pool.map(work, items):
                pass
        return clock
