"""What every request goes through: it is counted, waits where it must, and ends in a value or the driver's own error.

Three kinds, by when they wait:
- answering: never, so that a request runs to its reply in one go;
- changing: while a commit has frozen the tree, which is short;
- waiting: for more than that, and says itself for what.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from flyteplugins_vol.mount.scheduler import Scheduler, Task


class Guarded(Protocol):
    """Whose verbs these are."""

    counts: Counter[str]
    changes: int
    scheduler: Scheduler
    frozen: bool
    until_thaw: list[Task]

    def failed(self, error: Exception, verb: str, args: tuple[object, ...], /) -> Exception: ...


G = TypeVar("G", bound=Guarded)
P = ParamSpec("P")
R = TypeVar("R")
Verb = Callable[Concatenate[G, P], R]
Request = Callable[Concatenate[G, P], Coroutine[Any, Any, R]]

_WITHOUT_A_TRACE = frozenset(("forget", "release"))  # in a version


def answering(verb: Verb[G, P, R]) -> Request[G, P, R]:
    """Runs to its end at once."""
    name = verb.__name__

    @functools.wraps(verb)
    async def guarded(self: G, /, *args: P.args, **kwargs: P.kwargs) -> R:
        self.counts[name] += 1
        try:
            return verb(self, *args, **kwargs)
        except Exception as error:
            raise self.failed(error, name, args) from None

    return guarded


def changing(verb: Verb[G, P, R]) -> Request[G, P, R]:
    """Begins when nothing is frozen, and then runs to its end at once."""
    name = verb.__name__
    is_change = name not in _WITHOUT_A_TRACE

    @functools.wraps(verb)
    async def guarded(self: G, /, *args: P.args, **kwargs: P.kwargs) -> R:
        self.counts[name] += 1
        try:
            while self.frozen:
                await self.scheduler.park(self.until_thaw)
            self.changes += is_change
            return verb(self, *args, **kwargs)
        except Exception as error:
            raise self.failed(error, name, args) from None

    return guarded


def waiting(verb: Verb[G, P, Coroutine[Any, Any, R]]) -> Request[G, P, R]:
    """Waits by itself."""
    name = verb.__name__

    @functools.wraps(verb)
    async def guarded(self: G, /, *args: P.args, **kwargs: P.kwargs) -> R:
        self.counts[name] += 1
        try:
            return await verb(self, *args, **kwargs)
        except Exception as error:
            raise self.failed(error, name, args) from None

    return guarded
