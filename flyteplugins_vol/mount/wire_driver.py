"""The kernel through ``/dev/fuse``, in the protocol's own words (`wire_protocol`): nothing to compile, nothing between.

A request is read, answered and the next one read, all in the owner's thread; only one that must wait (for the store,
for room, for a thaw) is set aside, and the others are served meanwhile. What the kernel is told, and why (design.md
section 3 has the prices):
- Names, absent names too, attributes and listings stay valid for as long as the mount asks for: there is one writer.
- OPEN, CREATE and OPENDIR are refused with ENOSYS once: the kernel then opens by itself, keeps listings of directories,
  and does not tell when a file is closed. Nothing here needs to know: a file that is unlinked lives until the kernel
  forgets it, and `wire_barrier` finds what is dirty. FLUSH likewise (dirty pages are still written back when a file is
  closed), and extended attributes of a mount without them.
- ``default_permissions`` is left out where only root can come in: it makes every create read its directory again.
"""

from __future__ import annotations

import errno
import logging
import mmap
import os
import time
from collections.abc import Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from flyteplugins_vol.model import MountSpec
from flyteplugins_vol.mount import kernel_mounts, wire_mount, wire_passthrough
from flyteplugins_vol.mount import wire_protocol as wire
from flyteplugins_vol.mount.mount_options import kernel_options
from flyteplugins_vol.mount.operations import Operations
from flyteplugins_vol.mount.scheduler import ReadingEnded, Scheduler
from flyteplugins_vol.mount.wire_barrier import FIRST, Canaries, WireBarrier
from flyteplugins_vol.mount.wire_handlers import Answer, Handler, Handlers, RequestError
from flyteplugins_vol.mount.wire_pipe import LARGE, WritePipe
from flyteplugins_vol.mount.wire_protocol import Init, Op
from flyteplugins_vol.workspace.piped import Piped

log = logging.getLogger(__name__)

_BURST = 64  # requests after which others get a look in
_SPIN = 100e-6  # seconds to look for the next request before sleeping: a wake-up costs 40 us on two CPUs
_BACKGROUND = 64  # requests that the kernel may have under way by itself: read-ahead, write-back
_HEADER = wire.IN_HEADER.size
_WANTED = (
    Init.ASYNC_READ | Init.EXPORT_SUPPORT | Init.BIG_WRITES | Init.DO_READDIRPLUS | Init.READDIRPLUS_AUTO
    | Init.PARALLEL_DIROPS | Init.MAX_PAGES | Init.CACHE_SYMLINKS | Init.NO_OPENDIR_SUPPORT
    | Init.NO_OPEN_SUPPORT
)  # fmt: skip
_NAMES: dict[int, str] = {op: op.name.lower() for op in Op}


class WireDriver:
    """One mount. Owner thread only, but for `barrier`."""

    def __init__(self, operations: Operations, scheduler: Scheduler, spec: MountSpec) -> None:
        self._operations = operations
        self._scheduler = scheduler
        self._spec = spec
        self._canaries = Canaries()
        self._barrier = WireBarrier(
            spec.mount_path,
            self._canaries,
            self._write_back,
            operations,
        )
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="write-back")
        self._handlers = Handlers(operations, spec, self._canaries, self._written_back)
        self._table = self._handlers.table
        self._buffer = bytearray(wire.BUFFER_SIZE)
        self._view = memoryview(self._buffer)
        self._pipe = WritePipe.opened() if not spec.read_only else None
        self._most = min(wire.MAX_WRITE, self._pipe.pages * mmap.PAGESIZE) if self._pipe else wire.MAX_WRITE
        self._streaming = False  # whether the last request was a large write
        self._piped: Piped | None = None  # the data of the request at hand, if they are still in the pipe
        self.passes = False
        self._fd = -1
        self._notifying = False
        self._request = _Request(self)
        self._waiting: dict[int, _Request] = {}

    refreshes = True

    @staticmethod
    def error(number: int) -> Exception:
        return RequestError(number)

    def mount(self) -> None:
        options = kernel_options(self._spec, os.geteuid())
        self._fd = wire_mount.attach(self._spec.mount_path, options, read_only=self._spec.read_only)
        os.set_blocking(self._fd, False)
        kernel_mounts.set_read_ahead(self._spec.mount_path, self._most)

    async def serve(self) -> None:
        try:
            while True:
                await self._scheduler.readable(self._fd)
                task = self._scheduler.current
                try:
                    self._answer_many()
                finally:  # also when the connection has ended: this task has more to wait for
                    self._scheduler.current = task
        except (ReadingEnded, _UnmountedError):
            pass

    def stop(self) -> None:
        self._scheduler.stop_reading()

    def close(self) -> None:
        self._worker.shutdown(wait=False, cancel_futures=True)
        if self._pipe is not None:
            self._pipe.close()
        fd, self._fd = self._fd, -1
        if self._notifying:  # perhaps it waits for a request that nobody answers any more, and holds the connection
            kernel_mounts.unmount_by_force(self._spec.mount_path, self._spec.claim)
        with suppress(OSError):  # unmounted by somebody else
            kernel_mounts.unmount(self._spec.mount_path, lazy=True, claim=self._spec.claim)
        os.close(fd)

    def barrier(self) -> None:
        if not self._spec.read_only:
            self._barrier.flush()

    # ------------------------------------------------------------------------------------------ requests

    def _answer_many(self) -> None:
        """Answer what is there, and what comes within moments, unless somebody else needs the thread."""
        scheduler = self._scheduler
        left = _BURST
        until = 0.0
        while left:
            size = self._receive()
            if size:
                self._answer(size)
                left -= 1
                until = 0.0
            elif not until:
                until = time.monotonic() + _SPIN
            elif time.monotonic() > until:
                return
            if scheduler.busy:
                return

    def _receive(self) -> int:
        """Read one request into the buffer; 0 if there is none."""
        try:
            if self._streaming:
                return self._receive_piped()
            return os.readv(self._fd, [self._buffer])
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno == errno.ENODEV:
                raise _UnmountedError from None
            if error.errno in (errno.ENOENT, errno.EINTR):
                return 0  # the one who asked was killed in this moment
            raise

    def _receive_piped(self) -> int:
        assert self._pipe is not None
        size, piped = self._pipe.receive(self._fd, self._view)
        if piped is not None and not self._operations.takes_writes:  # it has to wait, and others need the pipe
            self._pipe.read(self._view, size - len(piped), size)
            piped = None
        self._streaming = piped is not None
        self._piped = piped
        return size

    def _answer(self, size: int) -> None:
        length, op, unique, ino, uid, gid, pid, extensions, _ = wire.IN_HEADER.unpack_from(self._buffer)
        if op == Op.WRITE and ino < FIRST:
            if size >= LARGE and self._pipe is not None:
                self._streaming = True
            if self._piped is not None:
                self._write_piped(unique, ino, self._piped)
                return
            if self._operations.takes_writes:
                self._write(unique, ino)
                return
        handler = self._table.get(op)
        if handler is None or ino >= FIRST:
            try:
                self._answer_other(op, unique, ino, size)
            except Exception as error:  # as in `_Request.step`
                self.crashed(unique, error)
            return
        handlers = self._handlers
        handlers.uid, handlers.gid, handlers.pid = uid, gid, pid
        request = self._request
        request.begin(unique, pid, handler, ino, self._view[_HEADER : length - 8 * extensions])
        self._scheduler.current = request
        if not request.step():
            self._scheduler.adopt_parked()
            self._waiting[unique] = request
            self._request = _Request(self)

    def _write_piped(self, unique: int, ino: int, data: Piped) -> None:
        assert self._pipe is not None
        self._piped = None
        size = len(data)
        if self._write(unique, ino, data) < size:  # the rest is of no use to anybody
            self._pipe = self._pipe.renewed()
            self._streaming = False

    def _write(self, unique: int, ino: int, piped: Piped | None = None) -> int:
        """A write that need not wait, without a task of its own; how many bytes were taken."""
        try:
            done = self._handlers.write_now(ino, self._view[_HEADER:], piped)
        except RequestError as error:
            self.fail(unique, error.errno)
        except Exception as error:  # as in `_Request.step`
            self.crashed(unique, error)
        else:
            self.reply(unique, wire.WRITE_OUT.pack(done, 0))
            return done
        return 0

    def _answer_other(self, op: int, unique: int, ino: int, size: int) -> None:
        if ino >= FIRST:
            answer = self._canaries.answer(op, ino, self._view[_HEADER:size])
            if isinstance(answer, int):
                self.fail(unique, answer)
            elif answer is not None:
                self.reply(unique, answer)
        elif op == Op.INIT:
            self._agree(unique, size)
        elif op == Op.INTERRUPT:
            self._interrupt(wire.U64.unpack_from(self._buffer, _HEADER)[0])
        elif op == Op.DESTROY:
            self.reply(unique, b"")
        elif op != Op.NOTIFY_REPLY:
            self._operations.counts[_NAMES.get(op, str(op))] += 1
            self.fail(unique, errno.ENOSYS)

    def _agree(self, unique: int, size: int) -> None:
        major, minor, read_ahead, offered = wire.INIT_IN.unpack_from(self._buffer, _HEADER)
        if offered & Init.INIT_EXT and size >= _HEADER + wire.INIT_IN.size + wire.INIT_MORE.size:
            offered |= wire.INIT_MORE.unpack_from(self._buffer, _HEADER + wire.INIT_IN.size)[0] << 32
        if major < wire.MAJOR or (major == wire.MAJOR and minor < wire.LEAST_MINOR):
            log.error("this kernel speaks FUSE %d.%d, and 7.%d (Linux 5.4) is needed", major, minor, wire.LEAST_MINOR)
            self.fail(unique, errno.EPROTO)
            return
        wanted = _WANTED
        passes = self._passes(offered)
        if passes:
            wanted = (wanted & ~Init.NO_OPEN_SUPPORT) | wire_passthrough.FLAGS
            self._handlers.hear_of_opens(wire_passthrough.WirePassthrough(self._operations.workspace, self._fd).opened)
        elif self._spec.writeback and not self._spec.read_only:
            wanted |= Init.WRITEBACK_CACHE
        agreed = offered & wanted
        self.reply(
            unique,
            wire.INIT_OUT.pack(
                wire.MAJOR, min(minor, wire.LAST_MINOR) if major == wire.MAJOR else wire.LAST_MINOR,
                max(read_ahead, self._most), agreed & 0xFFFFFFFF, _BACKGROUND, _BACKGROUND * 3 // 4, self._most, 1,
                self._most // mmap.PAGESIZE, 0, agreed >> 32, wire_passthrough.DEPTH if passes else 0, *[0] * 6,
            ),
        )  # fmt: skip
        log.info("FUSE %d.%d, agreed on %s", major, minor, Init(agreed))

    def _passes(self, offered: int) -> bool:
        """Whether the kernel is to read and write files by itself: if that was asked for, and can be."""
        if not self._spec.passthrough or self._spec.read_only:
            return False
        if offered & wire_passthrough.FLAGS != wire_passthrough.FLAGS:
            why = "this kernel does not offer it (Linux 6.9 is needed)"
        elif not wire_passthrough.may_pass_through():
            why = "it needs CAP_SYS_ADMIN, outside of user namespaces"
        elif lack := self._operations.workspace.passthrough.lacks():
            why = f"the file system of {self._spec.meta_dir} {lack}"
        else:
            self.passes = True
            return True
        log.warning("no passthrough: %s; the mount has the write-back cache instead", why)
        return False

    def _interrupt(self, unique: int) -> None:
        """A signal came for a request that waits. Only who is being killed is let go: others expect no EINTR here."""
        request = self._waiting.get(unique)
        if request is not None and _is_killed(request.pid):
            self._scheduler.interrupt(request)

    # ------------------------------------------------------------------------------------------- answers

    def reply(self, unique: int, answer: bytes) -> None:
        self._send((wire.OUT_HEADER.pack(16 + len(answer), 0, unique), answer))

    def fail(self, unique: int, number: int) -> None:
        self._send((wire.OUT_HEADER.pack(16, -number, unique),))

    def crashed(self, unique: int, error: Exception) -> None:
        log.error("a request failed; the mount lives on", exc_info=error)
        self.fail(unique, errno.EIO)

    def done(self, request: _Request) -> None:
        self._waiting.pop(request.unique, None)

    def _send(self, parts: tuple[bytes, ...]) -> None:
        try:
            os.writev(self._fd, parts)
        except OSError as error:
            # ENOENT: nobody waits any more. The others: the connection has ended, which the next read says.
            if error.errno not in (errno.ENOENT, errno.ENODEV, errno.EBADF, errno.ENOTCONN, errno.EPERM):
                log.error("the kernel does not take an answer: %s", error)

    async def _written_back(self, ino: int) -> None:
        """Wait until the kernel has no dirty pages of this inode."""
        if not self._spec.read_only:
            await self._scheduler.result_of(self._worker.submit(self._write_back, ino))

    def _write_back(self, ino: int) -> None:
        """Have the kernel write the inode's dirty pages. Any thread but the owner's, which has to take them."""
        with suppress(FileNotFoundError):  # the kernel does not know it
            self._tell(wire.Notify.INVAL_INODE, wire.INVAL_INODE_OUT.pack(ino, 0, -1))

    def notify(self, kind: int, body: bytes) -> None:
        """See `Driver.notify`."""
        self._notifying = True
        try:
            self._tell(kind, body)
        finally:
            self._notifying = False

    def _tell(self, kind: int, body: bytes) -> None:
        os.writev(self._fd, (wire.OUT_HEADER.pack(16 + len(body), kind, 0), body))

    def number_nodes(self, number: int) -> None:
        self._handlers.number = number


class _Request(Coroutine[Any, Any, None]):
    """A request under way, as the scheduler's task: whatever resumes it, its end is an answer to the kernel."""

    def __init__(self, driver: WireDriver) -> None:
        self._driver = driver
        self.unique = 0
        self.pid = 0
        self._running: Coroutine[Any, Any, Answer] | None = None

    def begin(self, unique: int, pid: int, handler: Handler, ino: int, body: memoryview) -> None:
        self.unique = unique
        self.pid = pid
        self._running = handler(ino, body)

    def step(self) -> bool:
        """Run until it ends (True) or waits."""
        assert self._running is not None
        try:
            self._running.send(None)
        except StopIteration as end:
            if end.value is not None:
                self._driver.reply(self.unique, end.value)
            return True
        except RequestError as error:
            self._driver.fail(self.unique, error.errno)
            return True
        except Exception as error:  # a bug, or a body that is not what the protocol says
            self._driver.crashed(self.unique, error)
            return True
        return False

    def send(self, value: Any, /) -> None:
        if self.step():
            self._driver.done(self)
            raise StopIteration

    def throw(self, *args: Any) -> None:
        raise NotImplementedError

    def close(self) -> None:
        if self._running is not None:
            self._running.close()

    def __await__(self) -> Generator[Any, Any, None]:
        raise NotImplementedError


class _UnmountedError(Exception):
    """The connection has ended."""


def _is_killed(pid: int) -> bool:
    """Whether a SIGKILL is pending for this thread; also if it cannot be told, since it is gone."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as lines:
            pending = [int(line.split()[1], 16) for line in lines if line.startswith(("SigPnd:", "ShdPnd:"))]
    except (OSError, ValueError):
        return True
    return any(signals & 1 << 8 for signals in pending)
