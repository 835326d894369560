"""A store that misbehaves by chance, from a seed, in every way that a store, a proxy or a network can."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar, cast

from flyteplugins_vol.errors import StoreError, StoreUnavailableError
from flyteplugins_vol.store.base import Data, ObjectStore, Tagged
from flyteplugins_vol.store.wrapper import Wrapper

T = TypeVar("T")

READS = ("before", "after", "burst", "flip", "cut", "stale 404")
WRITES = ("before", "after", "after", "burst", "lie", "full")
HINT = "none: a test made it"


class Flaky(Wrapper):
    """``rate`` of all calls meet a fault; 0 is a store that works. ``met`` counts the faults by kind."""

    def __init__(self, inner: ObjectStore, seed: int, rate: float) -> None:
        super().__init__(inner)
        self._rng = random.Random(seed)
        self.rate = rate
        self.met: Counter[str] = Counter()
        self._slow_down = 0  # calls that are still refused
        self._full = 0  # writes that are still refused

    def around(self, verb: str, key: str, call: Callable[[], T], sent: int = 0) -> T:
        kind = self._draw(WRITES if verb in ("create", "replace", "delete") else READS)
        if kind == "burst":
            self._slow_down = self._rng.randrange(1, 7)
        if kind == "full":
            self._full = self._rng.randrange(1, 5)
        if self._slow_down and self.rate:
            self._slow_down -= 1
            raise StoreUnavailableError(f"503 SlowDown: {verb} {key}", hint=HINT)
        if self._full and self.rate and sent:
            self._full -= 1
            raise StoreError(f"507 the store is full: {verb} {key}", hint=HINT)
        if kind == "before":
            raise StoreUnavailableError(f"reset before {verb} {key}", hint=HINT)
        if kind == "lie" and verb in ("create", "replace"):
            return cast("T", True if verb == "create" else "a tag")
        answer = call()
        if kind == "after":
            raise StoreUnavailableError(f"reset after {verb} {key}", hint=HINT)
        return cast("T", self._spoilt(kind, verb, answer))

    def _draw(self, kinds: tuple[str, ...]) -> str:
        if self._rng.random() >= self.rate:
            return ""
        kind = self._rng.choice(kinds)
        self.met[kind] += 1
        return kind

    def _spoilt(self, kind: str, verb: str, answer: Any) -> Any:
        if answer is None or kind not in ("flip", "cut", "stale 404"):
            return answer
        if kind == "stale 404":
            return None if verb.startswith("get") else answer
        change = self._flipped if kind == "flip" else _cut
        if isinstance(answer, Tagged):
            return Tagged(change(answer.data), answer.tag)
        if not isinstance(answer, bytes) or not answer:
            return answer
        if kind == "cut" and verb == "get_range":  # a store notices that itself
            raise StoreUnavailableError("the answer was cut short", hint=HINT)
        return change(answer)

    def _flipped(self, data: Data) -> bytes:
        changed = bytearray(data)
        changed[self._rng.randrange(len(changed))] ^= 1 << self._rng.randrange(8)
        return bytes(changed)


def _cut(data: Data) -> bytes:
    return bytes(data[: len(data) // 2])
