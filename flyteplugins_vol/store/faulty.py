"""A store that fails where a test tells it to: before a call reaches the store, or after, when the answer is lost.

    store = Faulty(MemoryStore("memory://x"))
    store.fail("create", "packs/*", after=True, times=2)      # applied, yet reported as unavailable
    store.alter("get_range", "packs/*", lambda data: flip(data))
    store.stop_at(7)                                           # the 7th call from now and all later ones are cut off

Verbs are the names of `ObjectStore` methods; verbs and keys are patterns as in a shell.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, TypeVar, cast

from ..errors import StoreUnavailableError
from .base import ObjectStore
from .wrapper import Wrapper

T = TypeVar("T")


class StoppedError(BaseException):
    """The process "died" here: no `except Exception` gets in its way."""


@dataclass
class Fault:
    """Which calls, how many of them pass (``skip``), how many are hit (``times``; None: all), and what happens then."""

    verb: str = "*"
    key: str = "*"
    times: int | None = 1
    skip: int = 0
    error: BaseException | None = None
    after: bool = False
    change: Callable[[Any], Any] | None = None
    hits: int = 0

    def strikes(self, verb: str, key: str) -> bool:
        """Whether this call is hit; it is counted."""
        if not (fnmatchcase(verb, self.verb) and fnmatchcase(key, self.key)) or self.times == 0:
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.hits += 1
        if self.times is not None:
            self.times -= 1
        return True


class Faulty(Wrapper):
    """Does what ``inner`` does, but for the faults. ``log`` lists all calls, as (verb, key)."""

    def __init__(self, inner: ObjectStore) -> None:
        super().__init__(inner)
        self._lock = threading.Lock()
        self.log: list[tuple[str, str]] = []
        self.faults: list[Fault] = []
        self._left: int | None = None  # calls until the store stops; None: never

    def fail(
        self,
        verb: str = "*",
        key: str = "*",
        *,
        error: BaseException | None = None,
        after: bool = False,
        times: int | None = 1,
        skip: int = 0,
    ) -> Fault:
        """Raise ``error`` (an unavailable store, unless told) instead of calling, or with ``after``, once called."""
        error = error or StoreUnavailableError("injected fault", hint="none: a test made it")
        return self._add(Fault(verb, key, times, skip, error, after))

    def alter(
        self, verb: str, key: str, change: Callable[[Any], Any], *, times: int | None = 1, skip: int = 0
    ) -> Fault:
        """Change the answer: flip a bit, cut it, make it absent."""
        return self._add(Fault(verb, key, times, skip, change=change))

    def stop_at(self, call: int | None) -> None:
        """Raise `StoppedError` instead of the ``call``-th call from now (1 is the next) and of all later ones."""
        with self._lock:
            self._left = None if call is None else call - 1

    def clear(self) -> None:
        """Take away all faults and the stop; the log stays."""
        with self._lock:
            self.faults.clear()
            self._left = None

    def around(self, verb: str, key: str, call: Callable[[], T], sent: int = 0) -> T:
        struck = self._enter(verb, key)
        for fault in struck:
            if fault.error is not None and not fault.after:
                raise fault.error
        answer = call()
        for fault in struck:
            if fault.error is not None:
                raise fault.error
            if fault.change is not None:
                answer = cast("T", fault.change(answer))
        return answer

    def _add(self, fault: Fault) -> Fault:
        with self._lock:
            self.faults.append(fault)
        return fault

    def _enter(self, verb: str, key: str) -> list[Fault]:
        with self._lock:
            self.log.append((verb, key))
            if self._left is not None:
                if self._left <= 0:
                    raise StoppedError(f"stopped before {verb} {key}")
                self._left -= 1
            return [fault for fault in self.faults if fault.strikes(verb, key)]
