"""The one table from an exception to the errno that the kernel gets, and to what the log says about it.

| exception                                  | errno            | log                        |
|--------------------------------------------|------------------|----------------------------|
| `OSError` without a file name (a verb's)   | its own          | nothing: an answer         |
| `OSError` with a file name (a local disk's)| ENOSPC or EDQUOT | one line                   |
| the same, any other errno                  | EIO              | one line                   |
| `VolumeError` (a fetch, a damaged index)   | EIO              | one line with the reason   |
| SQLite's (an index that cannot be read)    | EIO              | one line with the reason   |
| anything else                              | EIO              | traceback: a bug           |

A verb refuses with ``OSError(errno.X, …)``, and Python's own file functions put the file's name in: so a cache file
that vanished (ENOENT from `os.open`) does not tell the program that *its* file does not exist.
"""

from __future__ import annotations

import errno
import logging
import sqlite3
from collections.abc import Callable

from flyteplugins_vol.errors import VolumeError

log = logging.getLogger(__name__)

_LOCAL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT})  # a program can do something about these two


def answer(error: Exception, describe: Callable[[], str]) -> int:
    """The errno for ``error``, after telling the log what a person must know; ``describe`` names verb and inode."""
    if isinstance(error, OSError):
        number = error.errno or 0
        if error.filename is None and 0 < number < 4096:
            return number
        log.error("%s: local disk: %s", describe(), error)
        return number if number in _LOCAL_DISK else errno.EIO
    if isinstance(error, VolumeError):
        log.error("%s: %s: %s", describe(), error.kind, error.message)
    elif isinstance(error, sqlite3.DatabaseError):
        log.error("%s: the index cannot be used: %s", describe(), error)
    else:
        log.error("%s failed; the mount lives on", describe(), exc_info=error)
    return errno.EIO
