"""The kernel thread's scheduler: coroutines, one reader of the session's descriptor, and closures from elsewhere.

It exists because a trip through a general event loop costs more than the request itself (design.md section 2: 70 µs
of CPU per create under trio, 20 µs here). A request runs poll → read → handler → reply without a switch; only one
that must wait (for the store, for room, for a thaw) parks, and then another coroutine becomes the reader.

Rules: everything here runs in the owner's thread, but for `call` and `post`, which any thread may use.
There is no timer while nothing is dirty, so an idle mount costs no CPU.
"""

from __future__ import annotations

import errno
import os
import select
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from concurrent.futures import Future
from contextlib import suppress
from types import coroutine
from typing import Any, TypeVar

T = TypeVar("T")
Task = Coroutine[Any, Any, Any]

TICK_SECONDS = 1.0


class SchedulerClosedError(RuntimeError):
    """The owner's thread has ended; nothing more can be done with what it owned."""


class ReadingEnded(Exception):
    """`stop_reading` was called: the descriptor is not to be read any more."""


class Scheduler:
    """Runs coroutines in the thread that calls `run`, which thereby becomes the owner of what they touch."""

    def __init__(self) -> None:
        self.current: Task | None = None
        self._ready: deque[Task] = deque()
        self._readers: deque[Task] = deque()  # resumed one at a time, when nothing else can run: it will block in poll
        self._parked: set[Task] = set()
        self._abortable: set[Task] = set()  # those of the parked whose wait `abort_parked` ends
        self._interrupted: set[Task] = set()
        self._live = 0
        self._posted: deque[tuple[Callable[..., Any], tuple[Any, ...], Future[Any] | None]] = deque()
        self._signalled = False
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._wakeup, select.POLLIN)
        self._fd = -1
        self._thread: int | None = None
        self._reading = True
        self._aborting = False
        self._closed = False
        self._dirty: Callable[[], object] = bool
        self._tick: Callable[[], object] = bool
        self._after_posts: Callable[[], object] = bool
        self._tick_at = 0.0  # 0.0: no tick is due

    # ------------------------------------------------------------------------------------------- owner

    def tend(self, dirty: Callable[[], bool], tick: Callable[[], None], after_posts: Callable[[], None]) -> None:
        """Call ``tick`` about once a second while ``dirty()``; ``after_posts`` whenever closures of others have run."""
        self._dirty, self._tick, self._after_posts = dirty, tick, after_posts

    def adopt(self) -> None:
        """Make the calling thread the owner, before `run` as well."""
        self._thread = threading.get_ident()

    def run(self, main: Task) -> None:
        """Run ``main`` and all that was spawned until the last of them ends. An error of any of them ends the run."""
        self.adopt()
        self.spawn(main)
        try:
            while self._live:
                if self._ready:
                    self._resume(self._ready.popleft())
                elif self._readers:
                    self._resume(self._readers.popleft())
                else:
                    self._wait_for_wakeup()
        finally:
            self._close()

    def spawn(self, task: Task) -> None:
        self._live += 1
        self._ready.append(task)

    def adopt_parked(self) -> None:
        """Count ``current``, which somebody else began to run and which parked meanwhile, among the live ones."""
        self._live += 1

    @property
    def busy(self) -> bool:
        """Whether something else than reading is to be done: closures of other threads, or coroutines to go on."""
        return bool(self._signalled or self._ready)

    def readable(self, fd: int) -> Awaitable[None]:
        """Wait until ``fd`` can be read. One coroutine at a time; raises `ReadingEnded` after `stop_reading`.

        Under load this returns without suspending and without making a coroutine: the poll happens right here.
        """
        if fd != self._fd:
            self._fd = fd
            self._poll.register(fd, select.POLLIN)
        if self._poll_once() and not self._ready:
            return DONE
        return self._readable_later()

    def stop_reading(self) -> None:
        """End the wait of `readable`, now and from now on."""
        self._reading = False

    async def park_reader(self) -> None:
        """Wait until there is nothing else to run and nobody else reads."""
        assert self.current is not None
        self._readers.append(self.current)
        await suspend()

    async def wait_in(self, lot: list[Task]) -> None:
        """Wait in ``lot`` for `wake_all`, whatever happens to the mount."""
        assert self.current is not None
        lot.append(self.current)
        self._parked.add(self.current)
        await suspend()

    async def park(self, lot: list[Task]) -> None:
        """Wait in ``lot`` for `wake_all` or `wake_one`; `OSError` (ENOTCONN) when the mount ends meanwhile."""
        task = self.current
        assert task is not None
        self._refuse_when_aborting()
        lot.append(task)
        try:
            await self._park_abortable(task)
        finally:
            if task in lot:
                lot.remove(task)
        self._refuse_when_aborting()

    def wake_all(self, lot: list[Task]) -> None:
        tasks, lot[:] = list(lot), []
        for task in tasks:
            self._wake(task)

    async def result_of(self, future: Future[T]) -> T:
        """Park until the future is done; its result or its error."""
        if not future.done():
            task = self.current
            assert task is not None
            self._refuse_when_aborting()
            future.add_done_callback(lambda _: self.post(lambda: self._wake(task)))
            await self._park_abortable(task)
            self._refuse_when_aborting()
        return future.result()

    @property
    def aborting(self) -> bool:
        return self._aborting

    def interrupt(self, task: Task) -> None:
        """End the task's wait with `OSError` (EINTR), if it is one that `abort_parked` would end."""
        if task in self._abortable:
            self._interrupted.add(task)
            self._wake(task)

    def abort_parked(self) -> None:
        """End every wait, those to come included, with `OSError` (ENOTCONN): the mount is going away."""
        self._aborting = True
        for task in list(self._abortable):
            self._wake(task)

    # --------------------------------------------------------------------------------------- any thread

    def call(self, fn: Callable[..., T], *args: Any) -> T:
        """Run ``fn(*args)`` in the owner's thread between two requests; its result or its error.

        From the owner's thread itself it runs at once. Raises `SchedulerClosedError` when the owner has ended.
        """
        if threading.get_ident() == self._thread:
            return fn(*args)
        future: Future[T] = Future()
        self._posted.append((fn, args, future))
        self._signal()
        if self._closed:  # looked at after the append: so one of the two sides sees the other
            self._refuse_posted()
        return future.result()

    def post(self, closure: Callable[[], object]) -> None:
        """Have ``closure()`` run in the owner's thread some time soon. It must not raise."""
        self._posted.append((closure, (), None))
        self._signal()

    # ------------------------------------------------------------------------------------------- inside

    def _resume(self, task: Task) -> None:
        self.current = task
        try:
            task.send(None)
        except StopIteration:
            self._live -= 1
        finally:
            self.current = None

    async def _readable_later(self) -> None:
        while True:
            if self._ready:
                assert self.current is not None
                self._readers.appendleft(self.current)
                await suspend()
            if self._poll_once() and not self._ready:
                return

    def _poll_once(self) -> bool:
        """Block until there is a request to read (True), or a coroutine to run first (False, or True as well)."""
        while True:
            if not self._reading:
                raise ReadingEnded
            timeout = 0 if self._ready else self._until_tick()
            woken = readable = False
            for fd, _ in self._poll.poll(timeout):
                if fd == self._fd:
                    readable = True
                else:
                    woken = True
            if woken:
                self._run_posted()
            if readable and self._reading:
                return True
            if self._ready:
                return False

    def _wait_for_wakeup(self) -> None:
        """As `_poll_once` while every coroutine is parked: nothing is read, since nobody could handle it."""
        if self._fd >= 0:
            self._poll.unregister(self._fd)
        try:
            timeout = self._until_tick()
            if self._poll.poll(timeout):
                self._run_posted()
        finally:
            if self._fd >= 0:
                self._poll.register(self._fd, select.POLLIN)

    def _until_tick(self) -> float | None:
        """Milliseconds until the next tick; one that is due runs here. None while nothing is dirty."""
        if self._tick_at:
            left = self._tick_at - time.monotonic()
            if left > 0:
                return left * 1000 + 1
            self._tick_at = 0.0
            self._tick()
        if not self._dirty():
            return None
        self._tick_at = time.monotonic() + TICK_SECONDS
        return TICK_SECONDS * 1000

    def _run_posted(self) -> None:
        with suppress(BlockingIOError):
            os.eventfd_read(self._wakeup)
        self._signalled = False  # before the drain: what is appended from here on signals again
        while self._posted:
            function, args, future = self._posted.popleft()
            if future is None:
                function(*args)
            else:
                _settle(future, function, args)
        self._after_posts()

    def _refuse_posted(self) -> None:
        with suppress(IndexError):
            while True:
                future = self._posted.popleft()[2]
                if future is not None:
                    future.set_exception(SchedulerClosedError("the mount has ended"))

    def _signal(self) -> None:
        if not self._signalled:
            self._signalled = True
            os.eventfd_write(self._wakeup, 1)

    def _wake(self, task: Task) -> None:
        if task in self._parked:
            self._parked.discard(task)
            self._ready.append(task)

    async def _park_abortable(self, task: Task) -> None:
        self._parked.add(task)
        self._abortable.add(task)
        try:
            await suspend()
        finally:
            self._abortable.discard(task)
        if task in self._interrupted:
            self._interrupted.discard(task)
            raise InterruptedError(errno.EINTR, os.strerror(errno.EINTR))

    def _refuse_when_aborting(self) -> None:
        if self._aborting:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))

    def _close(self) -> None:
        self._closed = True
        self._thread = None
        for task in [*self._ready, *self._readers, *self._parked]:
            task.close()
        self._refuse_posted()

    def __del__(self) -> None:
        # Not in _close: another thread could still write to the descriptor, by then perhaps some file's.
        os.close(self._wakeup)


def _settle(future: Future[Any], function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    try:
        result = function(*args)
    except BaseException as error:  # belongs to the thread that waits
        future.set_exception(error)
    else:
        future.set_result(result)


@coroutine
def suspend() -> Generator[None, None, None]:
    """Give the thread back to the scheduler; whoever parked the coroutine resumes it."""
    yield


class _Done:
    """An awaitable that is done already: costs no coroutine."""

    __slots__ = ()

    def __await__(self) -> Any:
        return iter(())


DONE = _Done()
