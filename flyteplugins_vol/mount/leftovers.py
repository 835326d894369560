"""Workspaces that a process left behind: found by their directories, told from live ones by their locks."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from urllib.parse import quote

from flyteplugins_vol.errors import LocalDirectoryError
from flyteplugins_vol.history.local import WorkspaceDirectory, WorkspaceState
from flyteplugins_vol.history.tidy import UNMOUNTED, WORKSPACES, holds_nothing
from flyteplugins_vol.mount.workspace_lock import looking_at

_KINDS = (WORKSPACES, UNMOUNTED)  # directories below a cache root that hold one for each writer


@dataclass(frozen=True)
class Leftover:
    """A workspace that no process has open, with something in it that may be in no version. Sizes are bytes."""

    path: str
    volume_name: str
    volume_id: str
    store_url: str
    base: str | None  # locator of the version that it builds on; None: of none
    changed: str  # when something was written to it last: RFC 3339, UTC
    files: int  # files and directories of the volume, root included
    bytes: int  # of its files
    staged: int  # bytes that are on local disk only
    aside: bool  # the next mount of the volume does not take it up by itself
    attempt: str | None  # of the task that left it: JSON


def leftovers(roots: Iterable[str]) -> list[Leftover]:
    """What was left behind below these cache roots, the latest last."""
    places = [os.path.join(root, kind) for root in dict.fromkeys(map(os.path.abspath, roots)) for kind in _KINDS]
    found = [left for place in places for left in _below(place)]
    return sorted(found, key=lambda left: left.changed)


def leftover_at(path: str) -> Leftover | None:
    """What was left behind in a directory; None: nothing, or somebody has it open."""
    if not os.path.isdir(path):
        return None
    try:
        with looking_at(path) as nobody_has_it:
            state = WorkspaceDirectory(path).state() if nobody_has_it else None
            return None if state is None or holds_nothing(path, state) else _looked_at(path, state)
    except (LocalDirectoryError, OSError):
        return None


def _below(directory: str) -> Iterator[Leftover]:
    with suppress(OSError):
        for name in sorted(os.listdir(directory)):
            found = leftover_at(os.path.join(directory, name))
            if found is not None:
                yield found


def _looked_at(path: str, state: WorkspaceState) -> Leftover | None:
    directory = WorkspaceDirectory(path)
    files, size, staged = _counts(directory.index)
    if state.base is None and files <= 1 and not staged:
        return None  # a new volume to which nothing was written
    return Leftover(
        path=path,
        volume_name=state.volume_name or os.path.basename(path)[:-17],
        volume_id=state.volume_id,
        store_url=state.store_url,
        base=state.base,
        changed=_changed(directory),
        files=files,
        bytes=size,
        staged=staged,
        aside=directory.is_aside or os.path.basename(os.path.dirname(path)) == UNMOUNTED,
        attempt=state.attempt,
    )


def _counts(index: str) -> tuple[int, int, int]:
    """Files, bytes, and staged bytes; of an index that cannot be read, zeros: whoever resumes it is told why."""
    try:
        uri = f"file:{quote(index)}?mode=ro"  # not immutable, to see what only the WAL has; not writable: we only look
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as sql:
            meta = dict(sql.execute("SELECT key, value FROM meta WHERE key IN ('files', 'bytes')").fetchall())
            (staged,) = sql.execute("SELECT coalesce(sum(length), 0) FROM staged").fetchone()
            return int(meta["files"]), int(meta["bytes"]), int(staged)
    except (sqlite3.Error, KeyError):
        return 0, 0, 1


def _changed(directory: WorkspaceDirectory) -> str:
    paths = (directory.index, directory.index + "-wal", directory.staging)
    newest = max(os.path.getmtime(path) for path in paths if os.path.exists(path))
    return datetime.fromtimestamp(newest, timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
