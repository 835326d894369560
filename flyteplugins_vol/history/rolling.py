"""One index file on local disk that becomes that of one version after the other: only what differs is brought."""

from __future__ import annotations

import errno
import os

from flyteplugins_vol.history.record import IndexMap
from flyteplugins_vol.history.segments import change_checkout
from flyteplugins_vol.portable import free_bytes
from flyteplugins_vol.store.base import ObjectStore


class RollingIndex:
    """``path`` is the index that was shown last. Neighbours in a line differ little: show them in order."""

    def __init__(self, store: ObjectStore, directory: str) -> None:
        self.path = os.path.join(directory, "index.db")
        self._store = store
        self._there: IndexMap | None = None

    def show(self, index: IndexMap, store: ObjectStore | None = None) -> bool:
        """Make the file that of a version. False: it is that already. Raises as `checkout_segments`, and OSError.

        ``store``: where that version is, if not where the others are: names of index objects mean the same in all.
        """
        if index == self._there:
            return False
        if index.size > free_bytes(os.path.dirname(self.path)):
            raise OSError(errno.ENOSPC, f"no room for an index of {index.size} bytes", self.path)
        before, self._there = self._there, None  # after an error it is neither
        change_checkout(store or self._store, before, index, self.path)
        self._there = index
        return True
