"""Bring blocks into the local cache: one ranged GET for neighbours, one GET for many readers, every hash checked."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from flyteplugins_vol.errors import DamageError, ObjectMissingError, PackDamagedError, StoreError
from flyteplugins_vol.store.base import ObjectStore
from flyteplugins_vol.store.cache import BlockCache, BlockRef
from flyteplugins_vol.store.container import PACK, decode, object_key
from flyteplugins_vol.store.daemonpool import DaemonPool

_GAP = 256 << 10  # bytes fetched in vain rather than making a second request
_SPAN = 8 << 20  # most bytes of one GET
_TRIES = 3  # a hash that is wrong in transit is right at the next GET; one that is wrong in the store stays wrong


@dataclass(frozen=True, slots=True)
class Line:
    """Blocks that were written next to one another and come in together; ``key`` names the line in its pack."""

    key: tuple[str, int]
    blocks: tuple[BlockRef, ...]


@dataclass(frozen=True, slots=True)
class Miss:
    """A read cannot be answered before these lines are in the local cache."""

    lines: tuple[Line, ...]


class Fetcher:
    """Fetches lines in worker threads. Thread-safe; a line that is under way is not asked for twice."""

    def __init__(self, store: ObjectStore, cache: BlockCache, workers: int = 16) -> None:
        self._store = store
        self._cache = cache
        self._pool = DaemonPool(workers, "fetch")
        self._under_way: dict[tuple[str, int], Future[None]] = {}
        self._lock = threading.Lock()
        self.fetched_bytes = 0
        self.requests = 0

    def fetch(self, miss: Miss) -> Future[None]:
        """A future that is done when every block of the miss is in the cache, or that carries a `VolumeError`."""
        futures = [self._line(line) for line in miss.lines]
        return futures[0] if len(futures) == 1 else _all_of(futures)

    def prefetch(self, miss: Miss) -> None:
        """As `fetch`, for a reader who may come: its errors are dropped, the reader will meet them."""
        for line in miss.lines:
            self._line(line)

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _line(self, line: Line) -> Future[None]:
        with self._lock:
            future = self._under_way.get(line.key)
            if future is None:
                future = self._under_way[line.key] = self._pool.submit(self._bring, line)
                future.add_done_callback(lambda _: self._under_way.pop(line.key, None))
            return future

    def _bring(self, line: Line) -> None:
        missing = [ref for ref in line.blocks if not self._cache.admit(ref)]
        for span in _spans(missing):
            self._bring_span(span)

    def _bring_span(self, span: Sequence[BlockRef]) -> None:
        """Fetch and check blocks; what is whole is kept also where its neighbours are damaged."""
        damage = ""
        for _ in range(_TRIES):
            start, data = self._get(span)
            damaged = self._keep(span, memoryview(data), start)
            if not damaged:
                return
            span = [ref for ref, _ in damaged]
            damage = damaged[0][1]
        raise self._damaged(span[0].pack, damage)

    def _get(self, span: Sequence[BlockRef]) -> tuple[int, bytes]:
        pack = span[0].pack
        start = span[0].entry.offset
        size = span[-1].entry.offset + span[-1].entry.stored - start
        self.requests += 1
        try:
            data = self._store.get_range(object_key(PACK, pack), start, size)
        except StoreError as error:
            if type(error) is not StoreError:
                raise
            raise self._damaged(pack, error.message) from error  # it ends early
        if data is None:
            raise ObjectMissingError(
                f"pack {pack} is missing from {self._store.url}",
                hint="restore it from a copy of the store, or go back to a version that does not need it",
            )
        self.fetched_bytes += len(data)
        return start, data

    def _keep(self, span: Sequence[BlockRef], data: memoryview, start: int) -> list[tuple[BlockRef, str]]:
        """Put what is whole into the cache; returns the rest, and what is wrong with it."""
        damaged: list[tuple[BlockRef, str]] = []
        run: list[bytes] = []
        begin = end = span[0].at
        for ref in span:
            at = ref.entry.offset - start
            try:
                plain = decode(ref.entry, data[at : at + ref.entry.stored])
            except DamageError as error:
                damaged.append((ref, error.message))
                continue
            if run and ref.at != end:
                self._cache.put(ref.pack, begin, run)
                run = []
            if not run:
                begin = ref.at
            run.append(plain)
            end = ref.at + len(plain)
        if run:
            self._cache.put(span[0].pack, begin, run)
        return damaged

    def _damaged(self, pack: str, why: str) -> PackDamagedError:
        return PackDamagedError(
            f"pack {pack} in {self._store.url} is damaged: {why}",
            hint="restore the object from a copy of the store, or use another version",
        )


def _spans(refs: Sequence[BlockRef]) -> Iterator[list[BlockRef]]:
    """Runs of blocks that are worth one GET, in the order of the pack."""
    span: list[BlockRef] = []
    for ref in sorted(refs, key=lambda ref: ref.entry.offset):
        if span:
            end = span[-1].entry.offset + span[-1].entry.stored
            size = ref.entry.offset + ref.entry.stored - span[0].entry.offset
            if ref.entry.offset - end > _GAP or size > _SPAN:
                yield span
                span = []
        span.append(ref)
    if span:
        yield span


def _all_of(futures: Sequence[Future[None]]) -> Future[None]:
    """A future that is done when all are, with the first error if there is one."""
    whole: Future[None] = Future()
    left = len(futures)
    lock = threading.Lock()

    def one_done(future: Future[None]) -> None:
        nonlocal left
        with lock:
            left -= 1
            error = future.exception()
            if whole.done():
                return
            if error is not None:
                whole.set_exception(error)
            elif left == 0:
                whole.set_result(None)

    if not futures:
        whole.set_result(None)
    for future in futures:
        future.add_done_callback(one_done)
    return whole
