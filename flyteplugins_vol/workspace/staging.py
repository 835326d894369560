"""Staging: the local append-only log of bytes written and not yet in a pack.

Positions only grow and are never used twice, so "this extent still has that position" means "nobody wrote there
since". Bytes are freed by position. A log file whose bytes are all free is *dead*: it is deleted by `bury`, but not
before the rows that named its bytes are durably gone from the index, since a crash would bring them back. The owner
thread appends and frees; any thread may read what a `Reader` pins.

A log can also be a part of a file that the kernel writes to by itself (`attach`, see `passthrough`): its bytes stand
still once nobody has that file open.

Small appends are gathered in memory, and a system call writes many of them (a random write of 4 KB costs a fifth less).
A kill loses no more by it: `write_out` comes before every COMMIT, and bytes without their rows would be lost as well.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from typing import NamedTuple
from weakref import WeakSet

from flyteplugins_vol.portable import OPEN_FLAGS, fdatasync, pread, private_directory, pwrite, sync_directory
from flyteplugins_vol.workspace.piped import Bytes, Piped

SEGMENT = 64 << 20
"""Bytes of one log file; position // SEGMENT is its number."""

OPEN_SUFFIX = ".open"
_PART = "+"

_SMALL = 32 << 10  # appends of fewer bytes are gathered
_GATHERED = 256 << 10  # most bytes gathered


class OpenFile:
    """A file and its descriptor, which is closed when nobody refers to this any more."""

    def __init__(self, path: str, flags: int) -> None:
        self.fd = os.open(path, flags | OPEN_FLAGS, 0o600)

    def __del__(self) -> None:
        fd = self.__dict__.get("fd")
        if fd is not None:
            os.close(fd)


class Staging:
    def __init__(self, directory: str) -> None:
        self.directory = directory
        private_directory(directory)
        self._logs: dict[int, _Log] = {}
        self._unsynced: dict[int, _Log] = {}
        self._names_unsynced = True  # the directory's own, too: nobody knows who made it
        self._dead: list[_Log] = []
        self._attached: WeakSet[OpenFile] = WeakSet()
        self._end = 0
        self._last = -1  # the highest number that a log file ever had
        self._gathered = bytearray()  # the last bytes before `_end`, which the log file there has not got yet
        self.live = 0  # bytes appended and not freed

    @classmethod
    def resume(cls, directory: str, live: Iterable[tuple[int, int]]) -> Staging:
        """The staging of an earlier process, given the ``(position, size)`` ranges that its index still needs.

        That index must be durable. Raises FileNotFoundError if a log file that it needs is gone.
        """
        staging = cls(directory)
        opened: dict[int, OpenFile] = {}  # a file of many parts needs one descriptor
        for name in sorted(os.listdir(directory)):
            if name.endswith(OPEN_SUFFIX):  # what is wanted of it has a log's name as well
                os.unlink(os.path.join(directory, name))
            elif name.endswith(".log"):
                number, _, part = name[: -len(".log")].partition(_PART)
                path = os.path.join(directory, name)
                file = opened.get(inode := os.stat(path).st_ino) or OpenFile(path, os.O_RDWR)
                opened[inode] = file
                staging._logs[int(number)] = _Log(path, file, int(part or 0) * SEGMENT)
        numbers = sorted(staging._logs)
        staging._last = numbers[-1] if numbers else -1
        staging._end = (staging._last + 1) * SEGMENT
        for pos, size in live:
            log = staging._logs.get(pos // SEGMENT)
            if log is None:
                raise FileNotFoundError(errno.ENOENT, "staged bytes are gone", staging._path(pos // SEGMENT))
            log.live += size
            log.needed = max(log.needed, pos % SEGMENT + size)
            staging.live += size
        for log in staging._logs.values():
            log.fill()
        # Whoever wrote them was perhaps killed before anyone synced, and the next fsync must cover them as well.
        staging._unsynced.update(staging._logs)
        for number in numbers:
            staging._retire_if_dead(number)
        staging.bury(staging.dead())
        return staging

    def append(self, data: Bytes) -> int:
        """Write bytes (fewer than `SEGMENT`) and return their position. On an OSError nothing was appended."""
        size = len(data)
        number, at = divmod(self._end, SEGMENT)
        log = self._logs.get(number)
        if log is None or at + size >= SEGMENT:  # the gap keeps extents from continuing into another log
            number, at, log = self._next_log()
        if isinstance(data, Piped):
            self.write_out()
            data.move_to(log.fd, at)
        elif size < _SMALL:
            if len(self._gathered) + size > _GATHERED:
                self.write_out()
            self._gathered += data
        else:
            self.write_out()
            log.write(data, at)
        log.live += size
        self.live += size
        self._unsynced[number] = log
        pos = number * SEGMENT + at
        self._end = pos + size
        return pos

    def write_out(self) -> None:
        """Bring what is gathered into the log file: before its rows are committed, and before others read it.

        On an OSError it stays gathered, for another try.
        """
        if self._gathered:
            number, end = divmod(self._end, SEGMENT)
            self._logs[number].write(self._gathered, end - len(self._gathered))
            self._gathered.clear()

    def read(self, pos: int, size: int) -> bytes:
        """Bytes that are live. Owner thread."""
        if pos + size > self._end - len(self._gathered):
            self.write_out()
        number, at = divmod(pos, SEGMENT)
        return self._logs[number].read(at, size)

    def reader(self, positions: Iterable[int]) -> Reader:
        """A reader for other threads, of the log files with these positions, even when they are freed meanwhile."""
        self.write_out()
        return Reader({n: self._logs[n] for n in {pos // SEGMENT for pos in positions}})

    def attach(self, path: str, file: OpenFile, part: int) -> int:
        """Let part ``part`` of a file beside the logs, `SEGMENT` bytes each, be a log; returns its first position.

        The file has one more name then, so it lives as long as anything of it is needed. Nothing of it is live yet.
        All of its parts share the descriptor. On an OSError nothing has changed.
        """
        number = max(self._last, self._end // SEGMENT) + 1  # where appends go on is not for this
        name = os.path.join(self.directory, f"{number:08d}{_PART}{part}.log")
        os.link(path, name)
        self._last = number
        self._logs[number] = _Log(name, file, part * SEGMENT)
        self._attached.add(file)
        self._names_unsynced = True
        return number * SEGMENT

    @property
    def attached(self) -> int:
        """Files of which parts are logs: a descriptor each, as long as anything of them is needed."""
        return len(self._attached)

    def has(self, pos: int) -> bool:
        """Whether the log with this position is still there: it goes once nothing of it is live any more."""
        return pos // SEGMENT in self._logs

    def written(self, pos: int) -> None:
        """The attached log with this position may have bytes that nobody synced."""
        number = pos // SEGMENT
        if number in self._logs:
            self._unsynced[number] = self._logs[number]

    def open_path(self, number: int) -> str:
        """Where a file may be that is to be attached in parts. Its own name does not outlive this process."""
        return os.path.join(self.directory, f"{number}{OPEN_SUFFIX}")

    def share(self, pos: int, size: int) -> None:
        """Bytes that are live are needed once more, and are to be freed once more."""
        self._logs[pos // SEGMENT].live += size
        self.live += size

    def free(self, pos: int, size: int) -> None:
        number = pos // SEGMENT
        self._logs[number].live -= size
        self.live -= size
        self._retire_if_dead(number)

    def retire(self, least: int = 1) -> None:
        """Begin another log file with the next append if nothing of the present one is needed.

        Not while it is shorter than ``least`` bytes.
        """
        number, size = divmod(self._end, SEGMENT)
        log = self._logs.get(number)
        if log is not None and not log.live and size >= least:
            self._gathered.clear()
            self._end = (self._last + 1) * SEGMENT
            self._retire_if_dead(number)

    def dead(self) -> tuple[DeadLog, ...]:
        """Log files that nothing in memory needs any more."""
        return tuple(self._dead)

    def bury(self, logs: tuple[DeadLog, ...]) -> None:
        """Delete dead log files. Only when an index that does not name their bytes is durable."""
        for log in logs:
            if log in self._dead:
                self._dead.remove(log)
                os.unlink(log.path)

    def unsynced(self) -> list[int]:
        """Descriptors of the log files with bytes appended since the last call: whoever asks must fdatasync them.

        After `write_out`.
        """
        fds = {log.fd: None for log in self._unsynced.values()}
        self._unsynced.clear()
        return list(fds)

    def sync_names(self) -> None:
        """Make the names of the log files durable: before an index that needs them is. Raises OSError.

        An fsync of a new file brings its name along on many file systems; POSIX promises it of the directory's only.
        """
        if self._names_unsynced:
            sync_directory(self.directory)
            sync_directory(os.path.dirname(self.directory))
            self._names_unsynced = False

    def close(self) -> None:
        self._logs.clear()
        self._unsynced.clear()
        self._gathered.clear()

    def _next_log(self) -> tuple[int, int, _Log]:
        self.write_out()
        previous = self._end // SEGMENT
        number = self._last + 1
        path = self._path(number)
        log = self._logs[number] = _Log(path, OpenFile(path, os.O_RDWR | os.O_CREAT | os.O_EXCL))
        self._last = number
        self._names_unsynced = True
        self._end = number * SEGMENT
        if previous in self._logs:
            self._retire_if_dead(previous)
        return number, 0, log

    def _retire_if_dead(self, number: int) -> None:
        # The log that is being appended to stays, dead or not.
        log = self._logs[number]
        if log.live == 0 and number != self._end // SEGMENT:
            del self._logs[number]
            self._unsynced.pop(number, None)
            self._dead.append(log)

    def _path(self, number: int) -> str:
        return os.path.join(self.directory, f"{number:08d}.log")


class Burial(NamedTuple):
    """Dead log files, and the descriptor that `sync` makes durable and closes before they may be deleted."""

    logs: tuple[DeadLog, ...]
    fd: int | None

    def sync(self) -> None:
        """Any thread, once. Raises OSError, and then no later sync may succeed: the kernel tells of a loss once."""
        if self.fd is not None:
            try:
                fdatasync(self.fd)
            finally:
                os.close(self.fd)


class Reader:
    """Reads staged bytes from any thread. Its log files stay open as long as it lives."""

    def __init__(self, logs: dict[int, _Log]) -> None:
        self._logs = logs

    def read(self, pos: int, size: int) -> bytes:
        number, at = divmod(pos, SEGMENT)
        data = self._logs[number].read(at, size)
        if len(data) != size:
            raise OSError(f"staging {self._logs[number].path} ends before position {pos + size}")
        return data


class _Log:
    """One log file. Its descriptor is open as long as anybody refers to it, see `Reader`."""

    def __init__(self, path: str, file: OpenFile, base: int = 0) -> None:
        self.path = path
        self._file = file
        self.fd = file.fd
        self._base = base  # where in its file it begins
        self.live = 0
        self.needed = 0  # bytes that the index of an earlier process knows of

    def read(self, at: int, size: int) -> bytes:
        return pread(self.fd, size, self._base + at)

    def write(self, data: bytes | bytearray | memoryview, at: int) -> None:
        written = pwrite(self.fd, data, at)
        while written < len(data):  # a signal, or a disk that is nearly full: the next try tells
            with memoryview(data) as whole, whole[written:] as rest:  # an error that somebody keeps must not keep these
                written += pwrite(self.fd, rest, at + written)

    def fill(self) -> None:
        """Make up for bytes that a power cut took before anyone synced them: they are zeros, as on any file system."""
        if os.fstat(self.fd).st_size < self._base + self.needed:
            os.ftruncate(self.fd, self._base + self.needed)


DeadLog = _Log
"""A log file that waits to be buried."""
