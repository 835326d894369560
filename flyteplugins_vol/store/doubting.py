"""Looks twice at the two answers that a store behind a faulty cache or proxy gives wrongly.

- *Written*, though it was not: what was written is looked for, by its last byte or its tag, and the write fails where
  it is not there. `Retrying`, around this, then writes again. So no version is published before its objects are seen.
- *Absent*, though it is there (an answer that was kept too long): what is read by name or range is asked for again,
  since nobody reads an object that was not written. Refs may well be absent: `get_tagged` believes it.

A GET of one byte for each write is the price. Stores on local disk and in memory need none of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from ..errors import StoreUnavailableError
from .base import Data, ObjectStore
from .daemonpool import DaemonPool
from .wrapper import Wrapper

_ASKED_AGAIN = 2
_WAIT = 0.1  # seconds before the first time, doubled for the second

T = TypeVar("T")


class Looks:
    """Looks that go on by themselves, see `looked_for_later`."""

    def __init__(self) -> None:
        self._begun: list[Future[None]] = []

    def begin(self, look: Callable[[], None]) -> None:
        pool = DaemonPool(1, "look")
        self._begun.append(pool.submit(look))
        pool.shutdown(wait=False)

    @property
    def any(self) -> bool:
        """Whether there are looks: not on local disk and in memory, which are believed."""
        return bool(self._begun)

    def have_found_all(self) -> bool:
        """Wait for their ends. False: something is not there, or the store did not say, and is to be written again."""
        for look in self._begun:
            try:
                look.result()
            except StoreUnavailableError:
                return False
        return True


_later: ContextVar[Looks | None] = ContextVar("later", default=None)


@contextmanager
def looked_for_later() -> Generator[Looks, None, None]:
    """What this thread creates inside is looked for while it does other things; the caller asks what was found."""
    looks = Looks()
    token = _later.set(looks)
    try:
        yield looks
    finally:
        _later.reset(token)


class Doubting(Wrapper):
    """Belongs inside `Retrying`."""

    def __init__(self, inner: ObjectStore, *, sleep: Callable[[float], None] = time.sleep) -> None:
        super().__init__(inner)
        self._sleep = sleep

    def create(self, key: str, data: Data) -> bool:
        if not self.inner.create(key, data):
            return False
        size, later = len(data), _later.get()
        if later is not None:
            later.begin(lambda: self._look_for(key, size))
        else:
            self._look_for(key, size)
        return True

    def replace(self, key: str, data: Data, tag: str | None) -> str | None:
        new = self.inner.replace(key, data, tag)
        if new is not None:
            there = self.inner.get_tagged(key)
            if (there.tag if there is not None else None) == tag:
                raise self._untrue(key)
        return new

    def get(self, key: str) -> bytes | None:
        return self._insist(lambda: self.inner.get(key))

    def get_range(self, key: str, offset: int, size: int) -> Data | None:
        return self._insist(lambda: self.inner.get_range(key, offset, size))

    def get_tail(self, key: str, size: int) -> bytes | None:
        return self._insist(lambda: self.inner.get_tail(key, size))

    def _look_for(self, key: str, size: int) -> None:
        there = self.inner.get_range(key, size - 1, 1) if size else self.inner.get(key)
        if there is None:
            raise self._untrue(key)

    def _insist(self, read: Callable[[], T | None]) -> T | None:
        for again in range(_ASKED_AGAIN):
            found = read()
            if found is not None:
                return found
            self._sleep(_WAIT * 2**again)
        return read()

    def _untrue(self, key: str) -> StoreUnavailableError:
        return StoreUnavailableError(
            f"{self.url} said that {key} was written, and does not have it",
            hint="look at the proxies, caches and gateways between this machine and the store",
        )
