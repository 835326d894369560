"""A store as far away as you like: latency on every call, and a bandwidth, for tests and for measuring."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar, cast

from .base import ObjectStore, Tagged
from .wrapper import Wrapper

T = TypeVar("T")


class Delayed(Wrapper):
    """Each call takes ``latency`` seconds longer, and its bytes pass at ``bandwidth`` bytes a second."""

    def __init__(
        self,
        inner: ObjectStore,
        *,
        latency: float,
        bandwidth: float = float("inf"),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(inner)
        self._latency = latency
        self._bandwidth = bandwidth
        self._sleep = sleep

    def around(self, verb: str, key: str, call: Callable[[], T], sent: int = 0) -> T:
        answer = call()
        self._sleep(self._latency + (sent + _size(answer)) / self._bandwidth)
        return answer


def _size(answer: object) -> int:
    if isinstance(answer, Tagged):
        answer = answer.data
    return len(cast("bytes", answer)) if isinstance(answer, (bytes, memoryview)) else 0
