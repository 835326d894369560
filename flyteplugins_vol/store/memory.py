"""``memory://name``: a store in this process's memory, for tests and examples; gone with the process."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from typing import NamedTuple

from ..forked import Lock
from .base import (
    Data,
    ObjectInfo,
    ObjectStore,
    Tagged,
    check_key,
    check_prefix,
    check_range,
    exactly,
)
from .limits import most_of, within


class MemoryStore(ObjectStore):
    """Every store of the same URL in one process is the same store."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._objects = _shelf(url)

    def get(self, key: str) -> bytes | None:
        found = self._find(key)
        return None if found is None else within(found.data, key, most_of(key))

    def get_range(self, key: str, offset: int, size: int) -> bytes | None:
        check_range(key, offset, size)
        found = self._find(key)
        return None if found is None else exactly(found.data[offset : offset + size], key, offset, size)

    def get_tail(self, key: str, size: int) -> bytes | None:
        check_range(key, 0, size)
        found = self._find(key)
        return None if found is None else found.data[-size:]

    def create(self, key: str, data: Data) -> bool:
        written = _Object.of(data)
        return self._objects.setdefault(check_key(key), written).data == written.data

    def get_tagged(self, key: str) -> Tagged | None:
        found = self._find(key)
        return None if found is None else Tagged(within(found.data, key, most_of(key)), found.tag)

    def replace(self, key: str, data: Data, tag: str | None) -> str | None:
        written = _Object.of(data)
        with _lock:
            there = self._find(key)
            if there is not None and there.data == written.data:
                return there.tag
            if (there.tag if there else None) != tag:
                return None
            self._objects[check_key(key)] = written
        return written.tag

    def delete(self, key: str) -> None:
        with _lock:  # a replace in between would bring it back
            self._objects.pop(check_key(key), None)

    def list(self, prefix: str, after: str = "") -> Iterator[ObjectInfo]:
        check_prefix(prefix)
        for key, found in sorted(self._objects.copy().items()):
            if key.startswith(prefix) and key > after:
                yield ObjectInfo(key, len(found.data), found.modified)

    def list_dirs(self, prefix: str) -> list[str]:
        check_prefix(prefix)
        below = (key[len(prefix) :] for key in self._objects.copy() if key.startswith(prefix))
        return sorted({rest.split("/", 1)[0] for rest in below if "/" in rest})

    def _find(self, key: str) -> _Object | None:
        return self._objects.get(check_key(key))


class _Object(NamedTuple):
    data: bytes
    tag: str
    modified: datetime

    @classmethod
    def of(cls, data: Data) -> _Object:
        return cls(bytes(data), _next_tag(), datetime.now(timezone.utc))


# Single dict operations are atomic in CPython; the lock is for those that look before they write.
_lock = Lock()
_shelves: dict[str, dict[str, _Object]] = {}
_tags = iter(range(1, 1 << 62))


def _shelf(url: str) -> dict[str, _Object]:
    return _shelves.setdefault(url, {})


def _next_tag() -> str:
    return str(next(_tags))
