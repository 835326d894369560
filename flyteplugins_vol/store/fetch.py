"""Bring blocks into the local cache: one ranged GET for neighbours, one GET for many readers, every hash checked.

Many readers are those of one mount, who wait for one future, and those of other mounts that share the cache: see
`BlockCache.claim`.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass

from flyteplugins_vol.errors import DamageError, ObjectMissingError, PackDamagedError, StoreError
from flyteplugins_vol.store.base import Data, ObjectStore
from flyteplugins_vol.store.cache import BlockCache, BlockRef
from flyteplugins_vol.store.container import PACK, decode, object_key
from flyteplugins_vol.store.daemonpool import DaemonPool
from flyteplugins_vol.store.direct import LEAST

_GAP = 3 << 19  # bytes fetched in vain rather than making a second request: 15 ms at 100 MB/s
_SPAN = 17 << 20  # most bytes of one GET: a pack of the usual size
_UNDER_WAY = 64 << 20  # bytes of all GETs under way: 2 GB/s at 30 ms
_RUN = 16 << 20  # bytes of plain blocks in memory from which on they are written to the cache: an ordinary pack's
_TRIES = 3  # a hash that is wrong in transit is right at the next GET; one that is wrong in the store stays wrong
_AHEAD = 12  # prefetches under way at once: the other workers are for readers who wait
_LATER = 64  # prefetches that wait for their turn; the oldest is dropped, its reader will ask for it

WHOLE = -1
"""In the key of a line that is a whole pack."""


@dataclass(frozen=True, slots=True)
class Line:
    """Blocks that were written next to one another and come in together; ``key`` names the line in its pack.

    ``passing``: somebody who reads one after the other is about to come through.
    """

    key: tuple[str, int]
    blocks: tuple[BlockRef, ...]
    passing: bool = False


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
        self._ahead: set[tuple[str, int]] = set()  # those of them that nobody has asked for, when they began
        self._later: dict[tuple[str, int], Line] = {}
        self._lock = threading.RLock()  # a future that is done already calls back at once
        self._room = threading.Condition()
        self._left = _UNDER_WAY
        self._closed = False
        self.fetched_bytes = 0
        self.requests = 0

    def fetch(self, miss: Miss) -> Future[None]:
        """A future that is done when every block of the miss is in the cache, or that carries a `VolumeError`."""
        futures = [self._line(line) for line in miss.lines]
        return futures[0] if len(futures) == 1 else _all_of(futures)

    def prefetch(self, miss: Miss) -> None:
        """As `fetch`, for a reader who may come: its errors are dropped, the reader will meet them."""
        with self._lock:
            for line in miss.lines:
                if self._coming(line.key) is None:
                    self._later[line.key] = line
            while len(self._later) > _LATER:
                del self._later[next(iter(self._later))]
            self._go_on()

    def close(self) -> None:
        with self._lock:
            self._closed = True
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._under_way.clear()

    def _line(self, line: Line) -> Future[None]:
        with self._lock:
            self._later.pop(line.key, None)
            return self._coming(line.key) or self._begin(line)

    def _coming(self, key: tuple[str, int]) -> Future[None] | None:
        for name in (key, (key[0], WHOLE)):
            future = self._under_way.get(name)
            if future is not None and not future.done():  # who was woken by its end may be back before `_ended`
                return future
        return None

    def _begin(self, line: Line) -> Future[None]:
        parts = [future for key, future in self._under_way.items() if key[0] == line.key[0]]
        future = self._under_way[line.key] = self._pool.submit(self._bring, line, parts)
        future.add_done_callback(lambda _: self._ended(line.key, future))
        return future

    def _ended(self, key: tuple[str, int], future: Future[None]) -> None:
        if self._closed:  # perhaps inside of the pool's lock, which whoever has ours may wait for
            return
        with self._lock:
            if self._under_way.get(key) is future:
                del self._under_way[key]
            self._ahead.discard(key)
            self._go_on()

    def _go_on(self) -> None:
        """Begin prefetches whose turn it is."""
        while self._later and len(self._ahead) < _AHEAD and not self._closed:
            line = self._later.pop(next(iter(self._later)))
            self._ahead.add(line.key)
            self._begin(line)

    def _bring(self, line: Line, parts: Sequence[Future[None]]) -> None:
        if line.key[1] == WHOLE:
            wait(parts)  # they began before, and wait for nobody
        missing = self._cache.absent(line.blocks)
        if not missing:
            return
        start, end = min(ref.at for ref in missing), max(ref.at + ref.entry.size for ref in missing)
        with self._cache.claim(missing[0].pack, start, end):
            self._bring_spans(self._cache.absent(missing), line.passing)

    def _bring_spans(self, missing: Sequence[BlockRef], passing: bool) -> None:
        damage: PackDamagedError | None = None
        for span in _spans(missing):
            try:
                with self._room_for(span):
                    self._bring_span(span, passing)
            except PackDamagedError as error:  # whoever waits for a block of another span gets it
                damage = error
        if damage is not None:
            raise damage

    def _bring_span(self, span: Sequence[BlockRef], passing: bool) -> None:
        """Fetch and check blocks; what is whole is kept also where its neighbours are damaged."""
        damage = ""
        for _ in range(_TRIES):
            start, data = self._get(span)
            damaged = self._keep(span, memoryview(data), start, passing)
            if not damaged:
                return
            span = [ref for ref, _ in damaged]
            damage = damaged[0][1]
        raise self._damaged(span[0].pack, damage)

    @contextmanager
    def _room_for(self, span: Sequence[BlockRef]) -> Generator[None]:
        """Wait until the bytes of the GET have room beside those of others."""
        size = min(_UNDER_WAY, _size(span))
        with self._room:
            self._room.wait_for(lambda: self._left >= size)
            self._left -= size
        try:
            yield
        finally:
            with self._room:
                self._left += size
                self._room.notify_all()

    def _get(self, span: Sequence[BlockRef]) -> tuple[int, Data]:
        pack = span[0].pack
        start = span[0].entry.offset
        size = _size(span)
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

    def _keep(
        self, span: Sequence[BlockRef], data: memoryview, start: int, passing: bool
    ) -> list[tuple[BlockRef, str]]:
        """Put what is whole into the cache; returns the rest, and what is wrong with it."""
        damaged: list[tuple[BlockRef, str]] = []
        run: list[Data] = []
        begin = end = span[0].at
        passed = False  # whether the run is in memory for who reads it
        for ref in span:
            at = ref.entry.offset - start
            try:
                plain = decode(ref.entry, data[at : at + ref.entry.stored])
            except DamageError as error:
                damaged.append((ref, error.message))
                continue
            past_cache = passing and len(plain) >= LEAST and self._cache.pass_on(ref.pack, ref.at, plain)
            if run and (ref.at != end or end - begin >= _RUN or past_cache != passed):
                self._cache.put(ref.pack, begin, run, past_cache=passed)
                run = []
            if not run:
                begin, passed = ref.at, past_cache
            run.append(plain)
            end = ref.at + len(plain)
        if run:
            self._cache.put(span[0].pack, begin, run, past_cache=passed)
        return damaged

    def _damaged(self, pack: str, why: str) -> PackDamagedError:
        return PackDamagedError(
            f"pack {pack} in {self._store.url} is damaged: {why}",
            hint="restore the object from a copy of the store, or use another version",
        )


def _size(span: Sequence[BlockRef]) -> int:
    return span[-1].entry.offset + span[-1].entry.stored - span[0].entry.offset


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
