"""The bytes of files: read, write, truncate, and the owner's side of sealing."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

from flyteplugins_vol.index.blocks import BlockRow
from flyteplugins_vol.index.extents import STAGED, Extent, covered, cut, put, within
from flyteplugins_vol.index.index import Index
from flyteplugins_vol.index.windows import Window
from flyteplugins_vol.model import BLOCK_SIZE, Inode
from flyteplugins_vol.store.base import Data
from flyteplugins_vol.store.cache import BlockCache, BlockRef
from flyteplugins_vol.store.container import Entry
from flyteplugins_vol.store.fetch import WHOLE, Line, Miss
from flyteplugins_vol.workspace.piped import Bytes, Piped
from flyteplugins_vol.workspace.sealing import (
    PACK_BLOCKS,
    PACK_TARGET,
    Piece,
    SealedPack,
    SealJob,
    assign,
    pieces_of,
)
from flyteplugins_vol.workspace.staging import Staging

MAX_SIZE = (1 << 63) - 1
_LINE = 1 << 20  # bytes of a pack that come in together
_LINE_BLOCKS = 4096  # most blocks of one line
_AHEAD = 16  # windows that a sequential reader is kept ahead at most
_FIRST_AHEAD = 2  # and at first; doubled with each window that it enters
_STREAMS = 1024  # sequential readers that are followed
_SMALL = 32  # blocks of a pack of small files, half a MiB each
_RECENT = 32  # packs that were missed last
_ON_ITS_WAY = 16  # misses in a pack after all of it was asked for, for which it is not looked up again
_RIPE = 3.0  # seconds without a write
_FULL_RIPE = 0.5  # the same for a full window, which nobody is likely to write to again
_PRESSURE = 512 << 20  # unsealed bytes from which on a full window is ripe at once: a burst is not slowed by sealing


class FileData:
    """Extents, Staging and cache together. One owner thread."""

    def __init__(self, index: Index, staging: Staging | None, cache: BlockCache, *, ripe: float | None = None) -> None:
        self._windows = index.windows
        self._blocks = index.blocks
        self._index = index
        self._staging = staging
        self._cache = cache
        self._ripe = _RIPE if ripe is None else ripe
        self._dirty: dict[Window, None] = {}  # windows to seal, the longest dirty first
        self._in_jobs = 0  # staged bytes that seal jobs are at work on
        self._sequential: dict[tuple[int, int], int] = {}  # file and next window of a reader → windows it came through
        self._missed: dict[str, int] = {}  # pack → line, or negative: misses to come while all of it is on its way
        self._scan_enters = ""  # the pack that a scan over small files comes to next
        self.prefetch: Callable[[Miss], None] | None = None
        self.held: set[int] = set()  # inodes whose staged bytes may still change in place: not to be sealed
        self._sealing: dict[Window, bool] = {}  # what seal jobs are at work on, and whether it is still to be entered
        if staging is not None:
            for window in index.windows.staged_windows():
                self._dirty[window] = None

    # -- reading ---------------------------------------------------------------------------------------------------

    def read(self, inode: Inode, offset: int, size: int) -> Data | Miss:
        """Bytes of a file, short only at its end; or what has to be fetched first."""
        size = min(size, inode.size - offset)
        if size <= 0:
            return b""
        number, skip = divmod(offset, BLOCK_SIZE)
        if not skip:
            self._look_ahead(inode, number)
        if skip + size <= BLOCK_SIZE:
            return self._read_window(inode.ino, number, offset, offset + size)
        parts: list[Data] = []
        lines: list[Line] = []
        end = offset + size
        while offset < end:
            stop = min(end, (offset // BLOCK_SIZE + 1) * BLOCK_SIZE)
            part = self._read_window(inode.ino, offset // BLOCK_SIZE, offset, stop)
            if isinstance(part, Miss):
                lines.extend(part.lines)
            else:
                parts.append(part)
            offset = stop
        return Miss(tuple(lines)) if lines else b"".join(parts)

    def _read_window(self, ino: int, number: int, start: int, end: int) -> Data | Miss:
        found = within(self._windows.get(ino, number).extents, start, end)
        if len(found) == 1 and found[0][0] == start and found[0][1] == end:
            data = self._read_extent(found[0])
            return Miss((self._line(data),)) if isinstance(data, BlockRow) else data
        parts: list[Data] = []
        lines: dict[tuple[str, int], Line] = {}
        at = start
        for extent in found:
            parts.append(bytes(extent[0] - at))
            data = self._read_extent(extent)
            if not isinstance(data, BlockRow):
                parts.append(data)
            elif (data.pack, data.offset // _LINE) not in lines and (data.pack, WHOLE) not in lines:
                line = self._line(data)
                lines[line.key] = line
            at = extent[1]
        parts.append(bytes(end - at))
        return Miss(tuple(lines.values())) if lines else b"".join(parts)

    def _read_extent(self, extent: Extent) -> Data | BlockRow:
        start, end, block, source = extent
        if block == STAGED:
            assert self._staging is not None
            return self._staging.read(source, end - start)
        row = self._blocks.get(block)
        data = self._cache.read(row.pack, row.at, row.size, source, end - start)
        if data is None:
            self._cache.misses += 1
            return row
        self._cache.hits += 1
        return data

    def _line(self, row: BlockRow) -> Line:
        """The block and its neighbours in the pack. When two of its lines are wanted, the others are too.

        The rest of a pack of small files comes in with one request. A reader who goes on to the next pack gets that at
        once, and the one after it is on its way.
        """
        number = row.offset // _LINE
        if len(self._missed) > _RECENT:
            del self._missed[next(iter(self._missed))]
        before = self._missed.pop(row.pack, number)
        mark = number if before >= 0 else before + 1
        if (before >= 0 and before != number) or row.pack == self._scan_enters:
            whole = self._whole(row)
            if len(whole.blocks) >= _SMALL:
                self._missed[row.pack] = -_ON_ITS_WAY
                return whole
            if self.prefetch is not None:
                absent = (ref for ref in whole.blocks if not self._cache.expect(ref.pack, ref.at, ref.entry.size))
                others = {ref.entry.offset // _LINE for ref in absent} - {number}
                self.prefetch(Miss(tuple(self._line_at(row, other) for other in sorted(others))))
        self._missed[row.pack] = mark
        return self._line_at(row, number)

    def _whole(self, row: BlockRow) -> Line:
        line, following = self._pack_of(row)
        if len(line.blocks) < _SMALL:
            return line
        if following is not None and row.pack == self._scan_enters and self.prefetch is not None:
            ahead, following = self._pack_of(following)
            if len(ahead.blocks) >= _SMALL:
                self.prefetch(Miss((ahead,)))
        self._scan_enters = following.pack if following is not None else ""
        return line

    def _pack_of(self, row: BlockRow) -> tuple[Line, BlockRow | None]:
        """All of a pack, and a block of the next one."""
        rows = self._blocks.near(row, 0, MAX_SIZE, _LINE_BLOCKS)
        line = Line((row.pack, WHOLE), tuple(_ref(near) for near in rows))
        return line, self._blocks.after(rows[-1].id)

    def _line_at(self, row: BlockRow, number: int, *, passing: bool = False) -> Line:
        rows = self._blocks.near(row, number * _LINE, (number + 1) * _LINE, _LINE_BLOCKS)
        return Line((row.pack, number), tuple(_ref(near) for near in rows), passing)

    def _look_ahead(self, inode: Inode, number: int) -> None:
        """A reader that enters one window after the other finds the next ones on their way."""
        if self._windows.crowded:  # a read-only workspace has no other moment to bound its memory
            self._windows.trim()
        if self.prefetch is None or inode.size <= BLOCK_SIZE:
            return
        if len(self._sequential) > _STREAMS:
            self._sequential.clear()
        run = self._sequential.pop((inode.ino, number), -1 if number else 0)
        self._sequential[inode.ino, number + 1] = run + 1
        if run < 0:
            return
        last = (inode.size - 1) // BLOCK_SIZE
        asked = number - 1 + _reach(run - 1) if run else number
        for window in range(asked + 1, min(last, number + _reach(run)) + 1):
            found = self._read_absent(inode.ino, window, soon=True)
            if found:
                self.prefetch(Miss(tuple(found)))

    def absent(self, inode: Inode, number: int, count: int) -> tuple[int | None, Miss | None]:
        """What of the first ``count`` windows from ``number`` on with extents is to be fetched; and where to go on."""
        if self._windows.crowded:
            self._windows.trim()
        last = (inode.size - 1) // BLOCK_SIZE
        windows = [window for window in self._windows.first_filled(inode.ino, number, count) if window <= last]
        lines = {line.key: line for window in windows for line in self._read_absent(inode.ino, window)}
        going_on = windows[-1] + 1 if len(windows) == count else None
        return going_on, Miss(tuple(lines.values())) if lines else None

    def _read_absent(self, ino: int, number: int, *, soon: bool = False) -> list[Line]:
        """What of a window is not in the cache; what is there is read from the disk by the time that it is wanted."""
        lines: dict[tuple[str, int], Line] = {}
        for extent in self._windows.get(ino, number).extents:
            if extent[2] == STAGED:
                continue
            row = self._blocks.get(extent[2])
            key = (row.pack, row.offset // _LINE)
            if key not in lines and not self._cache.expect(row.pack, row.at, row.size, soon=soon):
                lines[key] = self._line_at(row, key[1], passing=soon)
        return list(lines.values())

    # -- writing ---------------------------------------------------------------------------------------------------

    def write(self, inode: Inode, offset: int, data: Bytes) -> int:
        """Append to Staging and point the extents at it; returns the bytes taken, fewer if the disk is full by then.

        On an OSError nothing has changed.
        """
        assert self._staging is not None
        size = len(data)
        if not size:
            return 0
        end = offset + size
        if end > MAX_SIZE:
            raise OSError(errno.EFBIG, "file too large")
        now = time.monotonic()
        if offset // BLOCK_SIZE == (end - 1) // BLOCK_SIZE:
            self._stage(inode, offset, data, now)
        else:
            end = self._stage_parts(inode, offset, memoryview(data) if isinstance(data, bytes) else data, now)
        if end > inode.size:
            self.resize(inode, end)
        return end - offset

    def _stage_parts(self, inode: Inode, offset: int, data: memoryview | Piped, now: float) -> int:
        """Stage what lies in several windows, one after the other; returns where it had to stop."""
        at, end = offset, offset + len(data)
        try:
            while at < end:
                stop = min(end, (at // BLOCK_SIZE + 1) * BLOCK_SIZE)
                self._stage(inode, at, data[at - offset : stop - offset], now)
                at = stop
        except OSError:
            if at == offset:
                raise
        return at

    def _stage(self, inode: Inode, start: int, data: Bytes, now: float) -> None:
        assert self._staging is not None
        size = len(data)
        pos = self._staging.append(data)
        window = self._windows.get(inode.ino, start // BLOCK_SIZE)
        replaced = put(window.extents, (start, start + size, STAGED, pos))
        inode.allocated += size - self._release(replaced) if replaced else size
        window.written = now
        self._windows.changed(window)
        self._dirty[window] = None

    def lay(self, inode: Inode, number: int, extents: list[Extent]) -> bool:
        """Let a window name these staged bytes and nothing else; whether it did not before."""
        assert self._staging is not None
        window = self._windows.get(inode.ino, number)
        if window.extents == extents:
            return False
        for start, end, _, pos in extents:  # first, lest Staging give up what stays
            self._staging.share(pos, end - start)
        inode.allocated += covered(extents) - self._release(window.extents)
        window.extents[:] = extents
        window.written = time.monotonic()
        self._windows.changed(window)
        self._dirty[window] = None
        return True

    def resize(self, inode: Inode, size: int) -> None:
        """Set the size; growth is a hole. Names of the file count its bytes."""
        if inode.nlink:
            self._index.bytes += size - inode.size
        inode.size = size

    def truncate(self, inode: Inode, size: int) -> None:
        if size > MAX_SIZE:
            raise OSError(errno.EFBIG, "file too large")
        if size < inode.size:
            self.punch(inode, size, None)
        self.resize(inode, size)

    def punch(self, inode: Inode, start: int, end: int | None) -> None:
        """Free the bytes of [start, end), or to the end of the file: they read as zeros."""
        if end is None:
            first = -(-start // BLOCK_SIZE)
            if first:
                inode.allocated -= self._drop(inode.ino, first, inode.allocated)
            else:
                self._drop(inode.ino, 0, inode.allocated)
                inode.allocated = 0
            end = first * BLOCK_SIZE
        # only where something is: a hole of exabytes has a trillion windows
        for number in self._windows.filled(inode.ino, start // BLOCK_SIZE, (end - 1) // BLOCK_SIZE):
            window = self._windows.get(inode.ino, number)
            removed = cut(window.extents, start, end)
            if removed:
                inode.allocated -= self._release(removed)
                self._windows.changed(window)
                if not window.staged():
                    self._dirty.pop(window, None)

    def next_data(self, inode: Inode, offset: int) -> int | None:
        """The first offset from here on that lies in an extent; None if only holes follow."""
        last = (inode.size - 1) // BLOCK_SIZE
        for number in self._windows.filled(inode.ino, offset // BLOCK_SIZE, last):
            for start, end, _, _ in self._windows.get(inode.ino, number).extents:
                if end > offset:
                    return max(start, offset)
        return None

    def next_hole(self, inode: Inode, offset: int) -> int:
        """The first offset from here on that no extent covers; the end of the file counts."""
        while offset < inode.size:
            window = self._windows.get(inode.ino, offset // BLOCK_SIZE)
            for start, end, _, _ in within(window.extents, offset, window.start + BLOCK_SIZE):
                if start > offset:
                    return offset
                offset = end
            if offset < window.start + BLOCK_SIZE:
                return min(offset, inode.size)
        return inode.size

    def copy(self, source: Inode, offset: int, target: Inode, at: int, size: int) -> None:
        """Let a range of ``target`` name the same bytes as one of ``source``, which ends before the file does.

        No byte moves: blocks have one more extent that names them, staged bytes are freed once more.
        """
        self.punch(target, at, at + size)
        shift = at - offset
        last = (offset + size - 1) // BLOCK_SIZE
        now = time.monotonic()
        for number in self._windows.filled(source.ino, offset // BLOCK_SIZE, last):
            for extent in within(self._windows.get(source.ino, number).extents, offset, offset + size):
                self._name(target, extent, shift, now)
        if at + size > target.size:
            self.resize(target, at + size)

    def _name(self, inode: Inode, extent: Extent, shift: int, now: float) -> None:
        """Lay an extent over a hole of a file, moved by so many bytes, and cut where windows end."""
        start, end, block, source = extent
        while start < end:
            number = (start + shift) // BLOCK_SIZE
            stop = min(end, (number + 1) * BLOCK_SIZE - shift)
            window = self._windows.get(inode.ino, number)
            put(window.extents, (start + shift, stop + shift, block, source))
            inode.allocated += stop - start
            self._windows.changed(window)
            if block == STAGED:
                assert self._staging is not None
                self._staging.share(source, stop - start)
                window.written = now
                self._dirty[window] = None
            source += stop - start
            start = stop

    def purge(self, inode: Inode) -> None:
        """Forget all extents of a file that is gone."""
        self._drop(inode.ino, 0, 0)

    def _drop(self, ino: int, first: int, allocated: int) -> int:
        """Forget windows from a number on; returns the bytes that they covered (of ``allocated`` in all)."""
        kept = self._windows.covered_below(ino, first) if first and allocated else 0
        for window in self._windows.drop(ino, first):
            self._dirty.pop(window, None)
            self._release(window.staged())
            window.extents.clear()
        return allocated - kept

    def _release(self, extents: list[Extent]) -> int:
        """Give staged bytes back to Staging; returns the bytes that the extents covered."""
        assert self._staging is not None
        freed = 0
        for start, end, block, pos in extents:
            freed += end - start
            if block == STAGED:
                self._staging.free(pos, end - start)
        return freed

    def hold(self, inos: Iterable[int]) -> None:
        """From now on the staged bytes of these inodes, and of no others, may change in place.

        What a seal has read of them is older than what is there by its end, be that after they are held no more.
        """
        self.held = set(inos)
        for window in self._sealing:
            if window.ino in self.held:
                self._sealing[window] = False

    # -- sealing: the owner's side ---------------------------------------------------------------------------------

    @property
    def unsealed_bytes(self) -> int:
        return self._staging.live - self._in_jobs if self._staging is not None else 0

    @property
    def unsealed_windows(self) -> int:
        return len(self._dirty)

    def next_seal(self, everything: bool) -> SealJob | None:
        """Work for one pack: ripe windows that fill it, or with ``everything`` whatever is dirty. None: not now."""
        assert self._staging is not None
        picked: list[Window] = []
        pieces: list[Piece] = []
        size = 0
        now = time.monotonic()
        ripe_before = now - self._ripe
        full_ripe_before = now if self.unsealed_bytes >= _PRESSURE else now - min(_FULL_RIPE, self._ripe)
        for window in self._dirty:
            if window.sealing or (not everything and window.written > full_ripe_before):
                continue
            if window.ino in self.held:
                continue
            found = pieces_of(window)
            total = sum(piece.size for piece in found)
            if not everything and window.written > ripe_before and total < BLOCK_SIZE:
                continue
            if pieces and size + total > PACK_TARGET:
                break
            picked.append(window)
            pieces.extend(found)
            size += total
            if size >= PACK_TARGET or len(pieces) >= PACK_BLOCKS:
                break
        else:
            if not everything and len(pieces) < PACK_BLOCKS and size < PACK_TARGET:
                return None
        if not picked:
            return None
        reader = self._staging.reader(
            run[0] for piece in pieces for run in piece.runs
        )  # may fail: nothing is begun yet
        for window in picked:
            window.sealing = True
            self._sealing[window] = True
            del self._dirty[window]
        self._in_jobs += size
        return SealJob(pieces, reader, size, picked)

    def settle_known(self, job: SealJob, hashes: Sequence[bytes]) -> list[int]:
        """Point pieces at blocks that the index has already; returns the numbers of those that it has not."""
        fresh: list[int] = []
        placed: list[tuple[Piece, int]] = []
        for i, digest in enumerate(hashes):
            found = self._blocks.find(digest)
            if found is None:
                fresh.append(i)
            else:
                placed.append((job.pieces[i], found[0]))
        self._assign(placed)
        return fresh

    def settle_pack(self, job: SealJob, sealed: SealedPack | None) -> None:
        """Enter a durable pack and point the job's pieces at its blocks, where nobody wrote meanwhile."""
        if sealed is not None:
            at = 0
            rows: list[tuple[bytes, int, int, int, int, int]] = []
            for entry in sealed.entries:
                rows.append((entry.hash, entry.offset, entry.stored, at, entry.size, entry.codec))
                at += entry.size
            numbers = self._blocks.add_pack(sealed.name, sealed.size, rows)
            self._assign([(job.pieces[i], numbers[entry]) for i, entry in sealed.numbers.items()])
        self._finish(job)

    def abandon_seal(self, job: SealJob) -> None:
        """The job failed: its bytes are still staged, and their turn comes again."""
        self._finish(job)

    def _finish(self, job: SealJob) -> None:
        self._in_jobs -= job.size
        for window in job.windows:
            window.sealing = False
            del self._sealing[window]
            if window.staged():
                self._dirty[window] = None

    def _assign(self, placed: Iterable[tuple[Piece, int]]) -> None:
        """Let blocks take the place of pieces; those of one window follow one another."""
        for window, pieces in groupby(placed, key=lambda item: item[0].window):
            if not self._sealing[window]:  # it was read in a commit that gave up, and what is there may be newer
                continue
            taken = assign(window, list(pieces))
            if taken:  # nothing is left of a window whose file was deleted
                self._release(taken)
                self._windows.changed(window)


def _reach(run: int) -> int:
    """How many windows ahead of a reader that came through so many."""
    return min(_AHEAD, _FIRST_AHEAD << min(run, 10))


def _ref(row: BlockRow) -> BlockRef:
    return BlockRef(row.pack, row.at, Entry(row.hash, row.offset, row.stored, row.size, row.codec))
