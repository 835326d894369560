"""Extended attributes of inodes: only ``user.*``, with the errnos of ext4."""

from __future__ import annotations

import errno
from collections.abc import Callable

from flyteplugins_vol.index.index import Index

_PREFIX = b"user."
_PREFIXES = (_PREFIX, b"trusted.", b"security.")
_CREATE, _REPLACE = 1, 2
_VALUE_MAX = 65_536


class ExtendedAttributes:
    """Verbs of the `Workspace` on them; it says when something may be written. Owner thread."""

    def __init__(
        self,
        index: Index,
        may_write: Callable[[], None],
        may_grow: Callable[..., None],
        status_changed: Callable[[int], None],
    ) -> None:
        self._table = index.xattrs
        self._may_write = may_write
        self._may_grow = may_grow
        self._status_changed = status_changed

    def get(self, ino: int, name: bytes) -> bytes:
        value = self._table.get(ino, name)
        if value is None:
            raise _no_attribute(name)
        return value

    def names(self, ino: int) -> list[bytes]:
        return self._table.names(ino)

    def set(self, ino: int, name: bytes, value: bytes, flags: int = 0) -> None:
        self._may_grow()
        if not name.startswith(_PREFIX):
            raise OSError(errno.EOPNOTSUPP, "only user.* attributes")
        if name == _PREFIX:
            raise _no_attribute(name)
        if len(name) > 255 or len(value) > _VALUE_MAX:
            raise OSError(errno.ERANGE if len(name) > 255 else errno.E2BIG, "attribute too large")
        there = self._table.get(ino, name) is not None
        if there and flags & _CREATE:
            raise OSError(errno.EEXIST, "attribute exists")
        if not there and flags & _REPLACE:
            raise _no_attribute(name)
        self._status_changed(ino)  # first, since it looks whether the inode is there
        self._table.put(ino, name, value)

    def remove(self, ino: int, name: bytes) -> None:
        self._may_write()
        if not self._table.remove(ino, name):
            raise _no_attribute(name)
        self._status_changed(ino)


def _no_attribute(name: bytes) -> OSError:
    """As kernel file systems say it: a prefix alone is no name, and what begins with none is not offered."""
    if not name.startswith(_PREFIXES):
        return OSError(errno.EOPNOTSUPP, "only user.* attributes")
    return OSError(errno.EINVAL if name in _PREFIXES else errno.ENODATA, "no such attribute")
