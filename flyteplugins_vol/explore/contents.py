"""Bytes of files, when a preview or an export asks: blocks come through the local cache, nothing else is read."""

from __future__ import annotations

import errno
import os
import threading
from typing import Protocol

from flyteplugins_vol.config import cache_root
from flyteplugins_vol.errors import LocalDirectoryError, UsageError
from flyteplugins_vol.index.index import Index
from flyteplugins_vol.store.base import ObjectStore
from flyteplugins_vol.store.cache import BlockCache
from flyteplugins_vol.store.fetch import Fetcher, Miss
from flyteplugins_vol.workspace.workspace import Workspace


class Contents(Protocol):
    """What previews and exports need of a version. Blocks; thread-safe."""

    def read(self, ino: int, offset: int, size: int) -> bytes:
        """Bytes of a regular file; fewer only at its end. Raises `VolumeError`."""
        ...

    def close(self) -> None: ...


class StoreContents:
    """Over an index file on local disk and the store that holds its packs."""

    def __init__(self, index: str, store: ObjectStore) -> None:
        self._lock = threading.Lock()
        self._cache = _cache()
        self._fetcher = Fetcher(store, self._cache, workers=4)
        self._index = Index.open(index, read_only=True)
        self._workspace = Workspace(self._index, None, self._cache)

    def read(self, ino: int, offset: int, size: int) -> bytes:
        while True:
            with self._lock:
                self._check_stored(ino)
                try:
                    found = self._workspace.read(ino, offset, size)
                except OSError as error:
                    raise UsageError(f"this cannot be read: {error.strerror}") from error
                self._index.trim()
            if not isinstance(found, Miss):
                return bytes(found)
            self._fetcher.fetch(found).result()

    def close(self) -> None:
        self._fetcher.close()
        with self._lock:
            self._workspace.close()
        self._cache.close()

    def _check_stored(self, ino: int) -> None:
        if self._index.db.sql.execute("SELECT 1 FROM staged WHERE ino=? LIMIT 1", (ino,)).fetchone():
            raise UsageError(
                "parts of this file are not in the store yet",
                hint="commit the volume where it is mounted, or read the file there",
            )


def _cache() -> BlockCache:
    where = os.path.join(cache_root(), "cache")
    try:
        return BlockCache(where)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise LocalDirectoryError(
            f"{where}: {error.strerror}",
            hint="free some space there" if full else "set FLYTE_VOL_CACHE_DIR to a directory that you can write to",
        ) from error
