"""Forks of this process: a child has its parent's memory, and of its threads only the one that forked.

A lock that another thread had is never released in the child. That goes for the locks within SQLite as well, which
nobody can renew: while a thread of the parent ran a statement, about one child in twenty hung in its first own one. So
a fork waits for those who are in SQLite, up to two seconds, and keeps others out meanwhile.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

_LONGEST = 2.0  # seconds for which a fork waits: what holds a lock for longer waits for a disk or a store

_renewed: weakref.WeakValueDictionary[int, Lock] = weakref.WeakValueDictionary()
_awaited: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
_here = threading.local()  # ``inside``: this thread is in `no_fork`; ``held``: the locks that its fork has taken


class Lock:
    """As `threading.RLock`, as a context manager; in a forked child it is free where another thread had it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _renewed[id(self)] = self

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def acquire(self, *, timeout: float) -> bool:
        return self._lock.acquire(timeout=timeout)

    def release(self) -> None:
        self._lock.release()

    def renew(self) -> None:
        if self._lock.acquire(blocking=False):  # free, or this thread's
            self._lock.release()
        else:
            self._lock = threading.RLock()


def wait_for(lock: Any) -> None:
    """Have forks wait for this RLock: whoever has it may be in SQLite."""
    _awaited[id(lock)] = lock


@contextmanager
def no_fork() -> Generator[None]:
    """Inside, SQLite may be used without a lock that forks wait for: they wait for the end of it. For short work."""
    if getattr(_here, "inside", False):
        yield
        return
    mine = threading.RLock()
    with _door:
        mine.acquire()
        wait_for(mine)
    _here.inside = True
    try:
        yield
    finally:
        _here.inside = False
        mine.release()


_door = Lock()  # whoever forks has it


def _before() -> None:
    deadline = time.monotonic() + _LONGEST
    held: list[Any] = []
    _here.held = held
    _take(_door, held, deadline)  # first: what is awaited from now on waits itself
    for lock in sorted((lock for ref in _awaited.valuerefs() if (lock := ref()) is not None), key=id):
        _take(lock, held, deadline)


def _take(lock: Any, held: list[Any], deadline: float) -> None:
    if lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
        held.append(lock)


def _after() -> None:
    held: list[Any] = getattr(_here, "held", [])
    while held:
        held.pop().release()


def _in_child() -> None:
    _after()
    for ref in _renewed.valuerefs():
        if (lock := ref()) is not None:
            lock.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_in_child)
