"""Methods that are awaited, and their blocking twins: ``await vol.mount()`` and ``vol.mount.sync()``.

The body is one blocking function. Awaited, it runs in a thread of our own pool, so it depends on no event loop and
user code cannot starve it. A cancelled await lets the body end first: a mount or a commit is never left half done.
If the await is cancelled again it is over at once; the body, and what undoes it, go on to their end without it.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from flyteplugins_vol.errors import VolumeError

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger(__name__)

_THREADS = 64  # made on demand; a task that gathers more mounts than this waits its turn

_caller: ContextVar[threading.Thread | None] = ContextVar("flytevol_caller", default=None)


def calling_thread() -> threading.Thread:
    """The thread that called: of a body that is awaited, not the one of our pool."""
    return _caller.get() or threading.current_thread()


class Dual(Generic[P, R]):
    """A bound method: call it for a coroutine, call its ``sync`` to block."""

    def __init__(
        self, fn: Callable[P, R], undo: Callable[[R], None] | None = None, before: Callable[P, object] | None = None
    ) -> None:
        self._fn = fn
        self._undo = undo
        self._before = before
        functools.update_wrapper(self, fn)

    def sync(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The same, blocking."""
        if self._before is not None:
            self._before(*args, **kwargs)
        return self._fn(*args, **kwargs)

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if self._before is not None:
            self._before(*args, **kwargs)
        context = contextvars.copy_context()
        context.run(_caller.set, threading.current_thread())
        undoing = context.copy()
        job = _pool().submit(context.run, functools.partial(self._fn, *args, **kwargs))
        try:
            await _end_of(job)
        except asyncio.CancelledError:
            # In a thread of the pool too: the loop goes on, and whoever cancels this wait does not cancel that.
            await _end_of(_pool().submit(undoing.run, self._undone, job))
            raise
        return job.result()

    def _undone(self, job: Future[R]) -> None:
        """Wait for the body, and undo what it did. The pool began with the body, so this waits for no free thread."""
        if job.exception() is None and self._undo is not None:
            try:
                self._undo(job.result())
            except (VolumeError, OSError) as error:
                log.warning("what a cancelled call did could not be undone: %s", error)


def _end_of(job: Future[Any]) -> asyncio.Future[None]:
    """Comes when the job has ended, in whatever way. Cancelling it does nothing to the job."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def settle() -> None:
        if not ended.done():
            ended.set_result(None)

    def tell(_: object) -> None:
        with suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits
            loop.call_soon_threadsafe(settle)

    job.add_done_callback(tell)
    return ended


class dual(Generic[P, R]):  # noqa: N801
    """Make a blocking method a `Dual`."""

    def __init__(
        self, fn: Callable[Concatenate[Any, P], R], undo: Callable[[Any, R], None] | None = None,
        before: Callable[Concatenate[Any, P], object] | None = None,
    ) -> None:  # fmt: skip
        """``undo``: what to do with the result when the await was cancelled. ``before``: run in the caller's thread."""
        self._fn = fn
        self._undo = undo
        self._before = before
        self.__doc__ = fn.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> dual[P, R]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> Dual[P, R]: ...
    def __get__(self, instance: object | None, owner: type) -> Dual[P, R] | dual[P, R]:
        if instance is None:
            return self
        undo = functools.partial(self._undo, instance) if self._undo is not None else None
        before = functools.partial(self._before, instance) if self._before is not None else None
        return Dual(functools.partial(self._fn, instance), undo, before)

    def undone_by(self, undo: Callable[[Any, R], None]) -> dual[P, R]:
        """What to do with the result when the await was cancelled."""
        return dual(self._fn, undo)


class dual_class(Generic[P, R]):  # noqa: N801
    """Make a blocking class method a `Dual`."""

    def __init__(self, fn: Callable[Concatenate[Any, P], R]) -> None:
        self._fn = fn
        self.__doc__ = fn.__doc__

    def __get__(self, instance: object | None, owner: type) -> Dual[P, R]:
        return Dual(functools.partial(self._fn, owner))


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="flytevol")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # its threads are the parent's
