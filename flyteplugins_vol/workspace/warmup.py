"""Bring files into the local cache before anybody asks for them."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future

from flyteplugins_vol.errors import VolumeError
from flyteplugins_vol.model import Inode
from flyteplugins_vol.store.fetch import Fetcher
from flyteplugins_vol.workspace.sealing import Call
from flyteplugins_vol.workspace.subtree import find
from flyteplugins_vol.workspace.workspace import Workspace

log = logging.getLogger(__name__)

_PAGE = 1000  # entries listed at a time, so that the owner is never held for long
_WINDOWS = 4  # windows with content looked at in one go: 16 MiB of a file; what is a hole costs nothing
_UNDER_WAY = 4  # of those at once, so that no request waits for the last of others


def warm_in_background(workspace: Workspace, call: Call, fetcher: Fetcher, paths: Sequence[str]) -> threading.Thread:
    """Start to fetch the files at these paths, directories with all below. Errors are logged: reads meet them again."""

    def work() -> None:
        try:
            for path in paths:
                warm(workspace, call, fetcher, path)
        # RuntimeError, CancelledError: the mount ended meanwhile; SQLite's: it shows another version by now, which is
        # warmed by itself
        except (VolumeError, OSError, RuntimeError, CancelledError, sqlite3.ProgrammingError) as error:
            log.info("warm-up ended early: %s", error)

    thread = threading.Thread(target=work, name="warmup", daemon=True)
    thread.start()
    return thread


def warm(workspace: Workspace, call: Call, fetcher: Fetcher, path: str) -> None:
    """Fetch all that is at a path. Blocks; not in the owner thread. A path that is not there is logged."""
    start = call(find, workspace, path)
    if start is None:
        log.warning("warm-up: there is no %s in this version", path)
        return
    under_way: deque[Future[None]] = deque()
    for inode in _files(workspace, call, start):
        number = 0
        while number is not None:
            number, miss = call(workspace.absent, inode.ino, number, _WINDOWS)
            if miss is not None:
                under_way.append(fetcher.fetch(miss))
            if len(under_way) > _UNDER_WAY:
                under_way.popleft().result()
    for future in under_way:
        future.result()


def _files(workspace: Workspace, call: Call, start: Inode) -> Iterator[Inode]:
    todo = [start]
    while todo:
        inode = todo.pop()
        if inode.is_file:
            yield inode
        elif inode.is_dir:
            after: bytes | None = None
            while page := call(workspace.readdir, inode.ino, after, _PAGE):
                todo.extend(child for _, child in page)
                after = page[-1][0]
