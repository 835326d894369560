"""A store whose clock a test moves, and that lets other things happen before or after any of its calls."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import TypeVar

from flyteplugins_vol.store.base import Data, ObjectInfo
from flyteplugins_vol.store.faulty import StoppedError
from flyteplugins_vol.store.memory import MemoryStore
from flyteplugins_vol.store.wrapper import Wrapper

T = TypeVar("T")


class Aging(Wrapper):
    """``now`` is the store's clock. ``interrupt``: run something around the n-th call from now."""

    def __init__(self, url: str) -> None:
        super().__init__(MemoryStore(url))
        self.now = datetime(2030, 1, 1, tzinfo=timezone.utc)
        self.times: dict[str, datetime] = {}
        self.calls = 0
        self._before: dict[int, Callable[[], None]] = {}
        self._after: dict[int, Callable[[], None]] = {}
        self._stopped = False
        self._lock = threading.Lock()

    def pass_time(self, **span: float) -> None:
        self.now += timedelta(**span)

    def interrupt(self, call: int, what: Callable[[], None], *, after: bool = False) -> None:
        """Run ``what`` before (or after) the ``call``-th call from now; 1 is the next."""
        (self._after if after else self._before)[self.calls + call] = what

    def stop(self, call: int, *, after: bool = False) -> None:
        """Whoever calls is killed at the ``call``-th call, and at all later ones, until `restart`."""

        def die() -> None:
            self._stopped = True
            raise StoppedError(f"stopped {'after' if after else 'before'} call {call}")

        self.interrupt(call, die, after=after)

    def restart(self) -> None:
        self._before.clear()
        self._after.clear()
        self._stopped = False

    def around(self, verb: str, key: str, call: Callable[[], T], sent: int = 0) -> T:
        with self._lock:
            self.calls += 1
            before, after = self._before.pop(self.calls, None), self._after.pop(self.calls, None)
            if self._stopped:
                raise StoppedError("stopped already")
        if before is not None:
            before()
        found = call()
        if after is not None:
            after()
        return found

    def create(self, key: str, data: Data) -> bool:
        def call() -> bool:
            done = self.inner.create(key, data)
            if done:
                self.times.setdefault(key, self.now)
            return done

        return self.around("create", key, call, len(data))

    def replace(self, key: str, data: Data, tag: str | None) -> str | None:
        def call() -> str | None:
            new = self.inner.replace(key, data, tag)
            if new is not None and new != tag:
                self.times[key] = self.now
            return new

        return self.around("replace", key, call, len(data))

    def delete(self, key: str) -> None:
        def call() -> None:
            self.inner.delete(key)
            self.times.pop(key, None)

        self.around("delete", key, call)

    def list(self, prefix: str, after: str = "") -> Iterator[ObjectInfo]:
        for info in super().list(prefix, after):
            yield info._replace(modified=self.times.get(info.key, self.now))

    def contents(self) -> tuple[dict[str, bytes], dict[str, datetime]]:
        """All that is there, to `put_back`."""
        return {info.key: self.inner.get(info.key) or b"" for info in self.inner.list("")}, dict(self.times)

    def put_back(self, contents: tuple[dict[str, bytes], dict[str, datetime]]) -> None:
        for info in list(self.inner.list("")):
            self.inner.delete(info.key)
        for key, data in contents[0].items():
            self.inner.create(key, data)
        self.times = dict(contents[1])
