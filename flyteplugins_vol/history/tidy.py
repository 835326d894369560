"""What processes that were killed left on local disk: gone after some days, if it holds nothing that is in no version.

| below a cache root     | goes by itself                                                                   |
|------------------------|----------------------------------------------------------------------------------|
| ``workspaces/NAME``    | 7 days after its last use, if nothing was written since its version              |
| ``workspaces/NAME~1``  | the same (what was set aside mostly holds something)                             |
| ``unmounted/NAME``     | the same, of a process that wrote without a mount                                |
| ``mounts/NAME``        | 7 days after its last use, once its daemon is gone: a read-only mount's log      |
| ``cache/index/new-…``  | after a day: an index that was not checked out to its end                        |

A directory that does not have such a name, or holds anything else, is somebody else's: it is left alone.
Everything else stays until somebody takes it up or discards it (`flytevol recover`), and `flytevol status` shows it.
Whoever has a workspace open holds its lock; that is taken before anything goes.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress

from flyteplugins_vol.errors import LocalDirectoryError
from flyteplugins_vol.history.local import LOCK_NAME, WorkspaceDirectory, WorkspaceState
from flyteplugins_vol.history.segments import hash_file, summary
from flyteplugins_vol.portable import OPEN_FLAGS, fcntl, is_at, make_private, private_opener

log = logging.getLogger(__name__)

WORKSPACES, UNMOUNTED, _MOUNTS = "workspaces", "unmounted", "mounts"

_DAY = 86_400.0
_AGE = 7 * _DAY
_STAMP = os.path.join("cache", "tidied")  # a file that is touched when it was done
_SOCKETS = "control"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}-[0-9a-f]{16}(?:-[0-9a-f]{8})?(?:~[0-9]+)?|new-[a-z0-9_]{8}")
_HELD = {
    LOCK_NAME, _SOCKETS, "daemon.log", "state.json", "state.json.new", "staging",
    *("index.db" + suffix for suffix in ("", "-wal", "-shm", ".hashes")),
}  # fmt: skip


def tidy_daily(root: str) -> None:
    """`tidy`, unless it was done below this cache root within a day. Raises nothing: it can be done another time."""
    stamp = os.path.join(root, _STAMP)
    with suppress(OSError):
        make_private(os.path.dirname(stamp))
        with suppress(FileNotFoundError):
            if time.time() - os.stat(stamp).st_mtime < _DAY:
                return
        with open(stamp, "w", opener=private_opener):
            os.utime(stamp)
        tidy(root)


def tidy_around(workspace: str) -> None:
    """`tidy_daily` for the cache root that a mount's own directory is below, if it is where mounts put them."""
    above = os.path.dirname(workspace)
    if os.path.basename(above) in (WORKSPACES, UNMOUNTED, _MOUNTS):
        tidy_daily(os.path.dirname(above))


def tidy(root: str, now: float | None = None) -> list[str]:
    """Remove what holds nothing and is old; returns from where. Blocks for as long as disks take."""
    now = time.time() if now is None else now
    gone: list[str] = []
    for directory, age, remove in (
        (WORKSPACES, _AGE, _remove_workspace),
        (UNMOUNTED, _AGE, _remove_workspace),
        (_MOUNTS, _AGE, _remove_mount),
        (os.path.join("cache", "index"), _DAY, _remove_unfinished),
    ):
        for path in _older(os.path.join(root, directory), now - age):
            with suppress(OSError, LocalDirectoryError):
                if remove(path):
                    gone.append(path)
                    log.info("removed from %s what a process had left: all of it is in a version", path)
    return gone


def _older(directory: str, than: float) -> Iterator[str]:
    """Directories in this one that a process of ours has made, and in which nothing has changed since then."""
    with suppress(OSError):
        if os.lstat(directory).st_uid not in (getattr(os, "geteuid", int)(), 0):
            return  # also a link, which could lead to a directory of ours that is for something else
        with os.scandir(directory) as found:
            paths = sorted(e.path for e in found if e.is_dir(follow_symlinks=False) and _NAME.fullmatch(e.name))
        for path in paths:
            with suppress(OSError):
                if not _HELD.issuperset(os.listdir(path)):
                    continue
                times = [os.lstat(os.path.join(path, name)).st_mtime for name in os.listdir(path)]
                if max([os.lstat(path).st_mtime, *times]) < than:
                    yield path


def holds_nothing(path: str, state: WorkspaceState | None) -> bool:
    """Whether all that a workspace holds is in a version, for sure. Whoever asks keeps others from opening it."""
    if state is None:  # with the file of one, its index may still be on its way from where it was set aside
        return not os.path.lexists(os.path.join(path, "state.json"))
    return state.clean or _is_as_published(path, state)


def _is_as_published(path: str, state: WorkspaceState) -> bool:
    """Whether the index is still that of the version that it builds on, byte for byte: nothing was committed to it."""
    directory = WorkspaceDirectory(path)
    with suppress(OSError, ValueError):
        if state.base is None or _size(directory.index + "-wal"):
            return False
        return state.index == summary(hash_file(directory.index))
    return False


def _remove_workspace(path: str) -> bool:
    """Its own name may be a mount's again at any moment: of such a one the log and the lock stay."""
    flags = os.O_RDWR | os.O_CREAT | OPEN_FLAGS | getattr(os, "O_NOFOLLOW", 0)
    lock = os.path.join(path, LOCK_NAME)
    fd = os.open(lock, flags, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: somebody has it open
        if not is_at(fd, lock):
            return False  # its last user removed it just now, and another may have made it anew
        directory = WorkspaceDirectory(path)
        if not holds_nothing(path, directory.state()):
            return False
        is_there = os.path.exists(directory.index)
        if directory.is_aside or os.path.basename(os.path.dirname(path)) == UNMOUNTED:
            directory.remove()
            return True
        directory.clear()
        return is_there
    finally:
        os.close(fd)


def _remove_mount(path: str) -> bool:
    """A daemon's socket has its process number for a name."""
    sockets = os.path.join(path, _SOCKETS)
    if os.path.isdir(sockets) and any(_lives(name.partition(".")[0]) for name in os.listdir(sockets)):
        return False
    shutil.rmtree(path)
    return True


def _remove_unfinished(path: str) -> bool:
    if not os.path.basename(path).startswith("new-"):
        return False
    shutil.rmtree(path)
    return True


def _lives(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except FileNotFoundError:
        return 0
