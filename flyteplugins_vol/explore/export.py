"""Write one file of a version to local disk: whole or not at all, holes as holes. Blocks."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from contextlib import suppress

from flyteplugins_vol.errors import LocalDirectoryError, UsageError
from flyteplugins_vol.explore.contents import Contents
from flyteplugins_vol.explore.queries import Entry

_CHUNK = 4 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT)


class ExportStopped(Exception):
    """The person who asked for it has stopped it; nothing is left."""


def export(
    contents: Contents,
    entry: Entry,
    target: str,
    *,
    force: bool,
    progress: Callable[[int], None],
    stop: threading.Event,
) -> None:
    """Write a regular file to ``target``. Raises `UsageError`, `LocalDirectoryError`, `StoreError`, `ExportStopped`."""
    if not entry.is_file:
        raise UsageError("only files can be exported", hint="choose a file, or use flytevol get for a directory")
    if os.path.isdir(target):
        raise UsageError(f"{target} is a directory", hint="add a file name to it")
    if os.path.lexists(target) and not force:
        raise UsageError(f"{target} is there already", hint="give another name, or overwrite it")
    part = f"{target}.part-{os.getpid()}"
    try:
        _write(contents, entry, part, progress, stop)
        os.replace(part, target)
    except OSError as error:
        where = "give a path on another disk" if error.errno in _FULL else "give another path"
        raise LocalDirectoryError(f"{target}: {error.strerror}", hint=where) from error
    finally:
        with suppress(OSError):
            os.unlink(part)


def _write(contents: Contents, entry: Entry, path: str, progress: Callable[[int], None], stop: threading.Event) -> None:
    mode = entry.mode & 0o777
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode or 0o600), "wb", buffering=0) as file:
        done = 0
        while done < entry.size:
            if stop.is_set():
                raise ExportStopped
            data = contents.read(entry.ino, done, min(_CHUNK, entry.size - done))
            if not data:
                break
            if data.count(0) == len(data):
                file.seek(len(data), os.SEEK_CUR)
            else:
                file.write(data)
            done += len(data)
            progress(done)
        file.truncate(entry.size)
    os.utime(path, ns=(entry.mtime, entry.mtime))
