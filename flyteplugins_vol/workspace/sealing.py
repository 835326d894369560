"""Sealing: staged bytes become blocks in a pack, the pack becomes durable in the Store, then extents name the blocks.

The owner thread picks the work and applies the result; all between (reading, hashing, compressing, uploading) runs in
a worker thread, on positions of Staging that nobody can overwrite. A stop anywhere leaves the extents staged, so the
work is simply done again; at worst a pack stays in the Store that nobody refers to.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from flyteplugins_vol.index.extents import STAGED, Extent
from flyteplugins_vol.index.windows import Window
from flyteplugins_vol.store.base import Data, ObjectStore
from flyteplugins_vol.store.cache import BlockCache
from flyteplugins_vol.store.container import PACK, Container, Entry, block_hash, build, encode, upload
from flyteplugins_vol.workspace.crew import LEAST, Crew, Pace, most_packs
from flyteplugins_vol.workspace.staging import SEGMENT, Burial, Reader

PACK_TARGET = 16 << 20
"""Plain bytes that one pack holds when there is enough to seal."""

PACK_BLOCKS = 4096
"""Most blocks of one pack. Entering them holds the owner thread for 40 ms, and ten thousand small files are 3 PUTs."""

_ROUND_PACKS = 1536
_CPUS = os.cpu_count() or 2
_MAKING = min(3, _CPUS)  # packs in the making at once: with the bytes that go in, 32 MiB of memory each

Run = tuple[int, int, int]
"""Staged bytes of a piece: position, size, offset in the piece."""

T = TypeVar("T")


class Call(Protocol):
    """Runs a function in the thread that owns the workspace, between two verbs, and returns its result."""

    def __call__(self, fn: Callable[..., T], *args: Any) -> T: ...


@dataclass(slots=True)
class Piece:
    """Contiguous staged bytes of one window: one block to be. ``start`` is their place in the file."""

    window: Window
    start: int
    runs: list[Run]
    size: int


@dataclass(slots=True)
class SealJob:
    """Pieces that go into one pack, and a reader that keeps their bytes readable."""

    pieces: list[Piece]
    reader: Reader
    size: int
    windows: list[Window] = field(default_factory=lambda: [])


@dataclass(frozen=True, slots=True)
class SealedPack:
    """A pack that is durable in the Store; ``numbers[i]`` is the entry that holds piece ``i``."""

    name: str
    size: int
    entries: tuple[Entry, ...]
    numbers: dict[int, int]


class SealingWorkspace(Protocol):
    """What the sealer asks of a workspace, in its owner thread."""

    def next_seal(self, everything: bool) -> SealJob | None: ...
    def settle_known(self, job: SealJob, hashes: Sequence[bytes]) -> list[int]: ...
    def settle_pack(self, job: SealJob, sealed: SealedPack | None) -> None: ...
    def abandon_seal(self, job: SealJob) -> None: ...
    def begin_burial(self) -> Burial: ...
    def bury(self, burial: Burial) -> None: ...
    def sync_failed(self, error: OSError) -> None: ...
    @property
    def staged_bytes(self) -> int: ...
    @property
    def unsealed_bytes(self) -> int: ...
    @property
    def unsealed_windows(self) -> int: ...


class Sealer:
    """Seals and uploads packs. `run_once` blocks and belongs in worker threads; several at once are fine."""

    def __init__(
        self, workspace: SealingWorkspace, call: Call, store: ObjectStore, cache: BlockCache, *, most: int = LEAST
    ) -> None:  # fmt: skip
        """``most``: packs under way at once, where the store gets faster by it and memory allows it."""
        self._workspace = workspace
        self._call = call
        self._store = store
        self._cache = cache
        # Hashing and compressing take CPUs and twice the memory of an upload; uploads wait for nobody.
        self._making = threading.Semaphore(_MAKING)
        self._background = threading.Semaphore(max(1, min(_MAKING, _CPUS // 2)))
        # More at once send no more to a disk.
        self._crew = Crew(Pace(most_packs(most if store.disk is None else min(most, LEAST))))
        self._running = 0
        self._ended = threading.Condition()
        self.packs = 0
        self.plain_bytes = 0
        self.stored_bytes = 0
        self.known_bytes = 0

    def ready(self) -> bool:
        """Whether a full pack may be ripe. Any thread; `run_once` looks closer."""
        workspace = self._workspace
        return workspace.unsealed_bytes >= PACK_TARGET or workspace.unsealed_windows >= PACK_BLOCKS

    def run_once(self, everything: bool = False) -> int:
        """Seal and upload one pack; how many bytes are in it, 0 if there was nothing to do.

        Without ``everything`` only a full pack of ripe windows counts. Raises `StoreError`; the bytes stay staged.
        """
        with self._ended:
            self._running += 1
        try:
            job = self._call(self._workspace.next_seal, everything)
            if job is None:
                return 0
            try:
                self._seal(job, everything)
            except BaseException:
                self._call(self._workspace.abandon_seal, job)
                raise
            self._bury()
            return job.size
        finally:
            with self._ended:
                self._running -= 1
                self._ended.notify_all()

    def run_round(self, progress: Callable[[int], None] | None = None) -> bool:
        """Seal what is dirty, several packs at once, until there is nothing more; whether there was anything.

        ``progress`` hears how many bytes are still staged. Raises the first `StoreError`.
        """
        left = itertools.count(_ROUND_PACKS, -1)  # since beside a writer who never stops there is always something more

        def work() -> int:
            size = self.run_once(True) if next(left) > 0 else 0
            if size and progress is not None:
                progress(self._call(lambda: self._workspace.staged_bytes))
            return size

        return self._crew.run(work)

    def drain(self, progress: Callable[[int], None] | None = None) -> None:
        """Seal all that is dirty, also what other threads have under way. Writers must be held off."""
        while self._call(lambda: self._workspace.staged_bytes):
            if not self.run_round(progress):
                self._wait_for_others()

    def _wait_for_others(self) -> None:
        with self._ended:
            if self._running:
                self._ended.wait(1.0)

    def _seal(self, job: SealJob, everything: bool) -> None:
        sealed: SealedPack | None = None
        with self._making if everything else self._background:
            plains = read_pieces(job)
            hashes = [block_hash(plain) for plain in plains]
            fresh = self._call(self._workspace.settle_known, job, hashes)
            self.known_bytes += job.size - sum(len(plains[i]) for i in fresh)
            made = self._pack(plains, hashes, fresh) if fresh else None
            plains.clear()  # a pack in the making counts in memory, and now it only has to be sent
        if made is not None:
            sealed = self._put(*made)
        self._call(self._workspace.settle_pack, job, sealed)

    def _pack(self, plains: list[Data], hashes: list[bytes], fresh: list[int]) -> tuple[Container, dict[int, int]]:
        """A pack of the pieces that the index does not have, cached if it goes far; which entry holds which piece."""
        first: dict[bytes, int] = {}
        numbers = {i: first.setdefault(hashes[i], len(first)) for i in fresh}  # equal bytes are one block
        chosen = {hashes[i]: plains[i] for i in fresh}
        container = build(PACK, [(digest, len(plain), *encode(plain)) for digest, plain in chosen.items()])
        if (disk := self._store.disk) is None or disk != self._cache.disk:  # else one copy on a disk will do
            # If the upload fails, the mirror is of a pack that nobody names, and goes as others go.
            self._cache.put(container.name, 0, list(chosen.values()), past_cache=True)
        self.plain_bytes += sum(map(len, chosen.values()))
        return container, numbers

    def _put(self, container: Container, numbers: dict[int, int]) -> SealedPack:
        upload(self._store, PACK, container)
        self.packs += 1
        self.stored_bytes += len(container.data)
        return SealedPack(container.name, len(container.data), container.entries, numbers)

    def _bury(self) -> None:
        burial = self._call(self._workspace.begin_burial)
        if burial.logs:
            try:
                burial.sync()
            except OSError as error:
                self._call(self._workspace.sync_failed, error)
                raise
            self._call(self._workspace.bury, burial)


def pieces_of(window: Window) -> list[Piece]:
    """The staged bytes of a window, as pieces that are contiguous in the file."""
    pieces: list[Piece] = []
    last_end = -1
    for start, end, block, pos in window.extents:
        if block != STAGED:
            continue
        if start != last_end:
            pieces.append(Piece(window, start, [], 0))
        piece = pieces[-1]
        piece.runs.append((pos, end - start, piece.size))
        piece.size += end - start
        last_end = end
    return pieces


def read_pieces(job: SealJob) -> list[Data]:
    """The bytes of each piece. Small files written one after the other come in with one read, and are not copied."""
    parts: list[list[bytes | memoryview]] = [[b""] * len(piece.runs) for piece in job.pieces]
    wanted = sorted((run[0], run[1], i, j) for i, piece in enumerate(job.pieces) for j, run in enumerate(piece.runs))
    for group in _contiguous(wanted):
        start = group[0][0]
        data = memoryview(job.reader.read(start, group[-1][0] + group[-1][1] - start))
        for pos, size, i, j in group:
            parts[i][j] = data[pos - start : pos - start + size]
    return [part[0] if len(part) == 1 else b"".join(part) for part in parts]


def _contiguous(wanted: list[tuple[int, int, int, int]]) -> list[list[tuple[int, int, int, int]]]:
    groups: list[list[tuple[int, int, int, int]]] = []
    end = -1
    size = 0
    for item in wanted:
        same_log = groups and item[0] // SEGMENT == groups[-1][0][0] // SEGMENT
        if item[0] == end and same_log and size + item[1] <= PACK_TARGET:
            groups[-1].append(item)
            size += item[1]
        else:
            groups.append([item])
            size = item[1]
        end = item[0] + item[1]
    return groups


def assign(window: Window, placed: Sequence[tuple[Piece, int]]) -> list[Extent]:
    """Let blocks take the place of pieces, in the order of the file, where their bytes are still the staged ones.

    Returns the extents replaced. One walk over both, since a window can be in thousands of pieces. A position of
    Staging is one place of one file for ever: so bytes that are at a run's place and position are the run's.
    """
    runs = [(piece.start + skip, size, pos, block, skip) for piece, block in placed for pos, size, skip in piece.runs]
    taken: list[Extent] = []
    result: list[Extent] = []
    i = 0
    for extent in window.extents:
        start, end, block, pos = extent
        if block != STAGED:
            _append(result, extent)
            continue
        while start < end:
            while i < len(runs) and runs[i][0] + runs[i][1] <= start:
                i += 1
            place, size, at, number, skip = runs[i] if i < len(runs) else (end, 0, 0, 0, 0)
            stop = min(end, place if place > start else place + size)
            if place <= start and pos == at + start - place:
                taken.append((start, stop, STAGED, pos))
                _append(result, (start, stop, number, skip + start - place))
            else:
                _append(result, (start, stop, STAGED, pos))
            pos += stop - start
            start = stop
    window.extents[:] = result
    return taken


def _append(extents: list[Extent], new: Extent) -> None:
    if extents:
        a, b, block, source = extents[-1]
        if b == new[0] and block == new[2] and source + b - a == new[3]:
            extents[-1] = (a, new[1], block, source)
            return
    extents.append(new)
