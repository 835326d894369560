"""The one place where a store call is tried again: `StoreUnavailableError` only, backed off, with a deadline.

The wait before try n is random between nothing and ``FIRST_WAIT * 2**n``, at most ``LONGEST_WAIT`` ("full jitter":
clients that failed together don't come back together). Every method of a store is idempotent, so nothing else is
needed: a lost answer to a create or replace is settled by the store when the next try finds the object there.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from ..errors import StoreUnavailableError
from .base import ObjectInfo, ObjectStore
from .wrapper import Wrapper

log = logging.getLogger(__name__)

FIRST_WAIT = 0.1  # seconds; the services' own clients begin here
LONGEST_WAIT = 10.0

T = TypeVar("T")


class Retrying(Wrapper):
    """Tries again up to ``retries`` times; no try begins later than ``timeout`` seconds after the first."""

    def __init__(
        self,
        inner: ObjectStore,
        *,
        retries: int = 10,
        timeout: float = 120.0,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        super().__init__(inner)
        self._retries = retries
        self._timeout = timeout
        self._sleep = sleep
        self._clock = clock
        self._jitter = jitter

    def around(self, verb: str, key: str, call: Callable[[], T], sent: int = 0) -> T:
        patience = _Patience(self._retries, self._clock() + self._timeout)
        while True:
            try:
                return call()
            except StoreUnavailableError as error:
                self._wait(patience, verb, key, error)

    def list(self, prefix: str, after: str = "") -> Iterator[ObjectInfo]:
        """Goes on behind the last item that came; every item that comes renews the patience."""
        patience = _Patience(self._retries, self._clock() + self._timeout)
        while True:
            try:
                for info in self.inner.list(prefix, after):
                    after = info.key
                    yield info
                    patience = _Patience(self._retries, self._clock() + self._timeout)
                return
            except StoreUnavailableError as error:
                self._wait(patience, "list", prefix, error)

    def _wait(self, patience: _Patience, verb: str, key: str, error: StoreUnavailableError) -> None:
        """Sleep before the next try; raise the error when there is to be none."""
        wait = self._jitter(0.0, min(LONGEST_WAIT, FIRST_WAIT * 2**patience.tried))
        patience.tried += 1
        if patience.tried > patience.retries or self._clock() + wait > patience.deadline:
            raise StoreUnavailableError(
                f"{error.message} (given up after {patience.tried} {'try' if patience.tried == 1 else 'tries'})",
                hint=error.hint or "look at the network and at the store's health, then try again",
            ) from error
        log.info("%s %s failed, trying again in %.2f s: %s", verb, key, wait, error.message)
        self._sleep(wait)


class _Patience:
    __slots__ = ("deadline", "retries", "tried")

    def __init__(self, retries: int, deadline: float) -> None:
        self.retries = retries
        self.deadline = deadline
        self.tried = 0
