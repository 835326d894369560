"""A store around a store: the place to add one behaviour to every verb.

A subclass overrides `around`, through which every call passes, and nothing else. `list` passes when it begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from .base import Data, ObjectInfo, ObjectStore, Tagged

T = TypeVar("T")


class Wrapper(ObjectStore):
    """Does what ``inner`` does. ``conditional`` is that of ``inner``."""

    def __init__(self, inner: ObjectStore) -> None:
        super().__init__(inner.url)
        self.inner = inner
        self.conditional = inner.conditional

    @property
    def disk(self) -> int | None:
        return self.inner.disk

    def around(self, verb: str, key: str, call: Callable[[], T], sent: int = 0) -> T:
        """Run one call of ``verb`` on ``key`` (for the listings, a prefix), which writes ``sent`` bytes."""
        return call()

    def get(self, key: str) -> bytes | None:
        return self.around("get", key, lambda: self.inner.get(key))

    def get_range(self, key: str, offset: int, size: int) -> Data | None:
        return self.around("get_range", key, lambda: self.inner.get_range(key, offset, size))

    def get_tail(self, key: str, size: int) -> bytes | None:
        return self.around("get_tail", key, lambda: self.inner.get_tail(key, size))

    def create(self, key: str, data: Data) -> bool:
        return self.around("create", key, lambda: self.inner.create(key, data), len(data))

    def get_tagged(self, key: str) -> Tagged | None:
        return self.around("get_tagged", key, lambda: self.inner.get_tagged(key))

    def replace(self, key: str, data: Data, tag: str | None) -> str | None:
        return self.around("replace", key, lambda: self.inner.replace(key, data, tag), len(data))

    def delete(self, key: str) -> None:
        return self.around("delete", key, lambda: self.inner.delete(key))

    def list(self, prefix: str, after: str = "") -> Iterator[ObjectInfo]:
        yield from self.around("list", prefix, lambda: self.inner.list(prefix, after))

    def list_dirs(self, prefix: str) -> list[str]:
        return self.around("list_dirs", prefix, lambda: self.inner.list_dirs(prefix))

    def close(self) -> None:
        self.inner.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.inner!r}>"
