"""Counts of store calls and bytes, for tests that promise a number of requests, and for statistics."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import TypeVar, cast

from .base import ObjectStore, Tagged
from .wrapper import Wrapper

T = TypeVar("T")


class Counting(Wrapper):
    """Counts every call, also one that failed. Around `Retrying` it counts calls, inside it tries.

    ``calls`` maps verbs (names of `ObjectStore` methods) to numbers; ``sent`` and ``received`` are bytes of objects.
    """

    def __init__(self, inner: ObjectStore) -> None:
        super().__init__(inner)
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Begin at zero."""
        self.calls: Counter[str] = Counter()
        self.sent = 0
        self.received = 0

    @property
    def puts(self) -> int:
        """Writes of objects, the requests that are dear."""
        return self.calls["create"] + self.calls["replace"]

    @property
    def gets(self) -> int:
        """Reads of objects, whole or in part."""
        return sum(self.calls[verb] for verb in ("get", "get_range", "get_tail", "get_tagged"))

    def snapshot(self) -> dict[str, int]:
        """Calls by verb, with ``sent`` and ``received``, as plain numbers."""
        with self._lock:
            return {**self.calls, "sent": self.sent, "received": self.received}

    def around(self, verb: str, key: str, call: Callable[[], T], sent: int = 0) -> T:
        with self._lock:
            self.calls[verb] += 1
            self.sent += sent
        answer = call()
        with self._lock:
            self.received += _size(answer)
        return answer


def _size(answer: object) -> int:
    if isinstance(answer, Tagged):
        answer = answer.data
    return len(cast("bytes", answer)) if isinstance(answer, (bytes, memoryview)) else 0
