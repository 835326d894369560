"""One writer per workspace directory on this host: an flock, held by the daemon for as long as it lives.

Who holds it may remove the directory, with the lock in it. So whoever gets a lock looks whether it is still the one
that is there, and begins anew where it is not.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from typing import Any

from flyteplugins_vol.errors import LocalDirectoryError, VolumeBusyError
from flyteplugins_vol.history.local import LOCK_NAME, WorkspaceDirectory
from flyteplugins_vol.human import shown
from flyteplugins_vol.model import MountSpec
from flyteplugins_vol.portable import OPEN_FLAGS, fcntl, is_at, make_workspace, pread, pwrite

_LOOK = 0.02  # seconds


def hold(spec: MountSpec, client_pid: int | None) -> int:
    """Take ``<meta_dir>/lock`` and return its descriptor; it is free again when that is closed, or the process ends.

    The directory is made if it is missing. Raises `VolumeBusyError`, which names the holder, when another has it.
    """
    while True:
        try:
            fd = _opened(spec.meta_dir)
        except FileNotFoundError:
            make_workspace(spec.meta_dir)
            continue
        try:
            held = _locks(fd, fcntl.LOCK_EX)
            looked_at = not held and _locks(fd, fcntl.LOCK_SH)
            if not _is_there(fd, spec.meta_dir):
                held = False  # whoever had it has removed the directory
            elif not held and not looked_at:
                raise _busy(fd, spec.volume_name)
        except BaseException:
            os.close(fd)
            raise
        if held:
            _write_holder(fd, spec, client_pid)
            return fd
        os.close(fd)
        if looked_at:
            time.sleep(_LOOK)  # somebody only looks at it


def forget(fd: int) -> None:
    """By its holder, who ends in order and leaves a workspace: from now on nobody `drop`s that as this mount's own."""
    os.ftruncate(fd, 0)


def drop(meta_dir: str, mount_id: str) -> bool:
    """Remove the directory of a mount whose daemon is gone, if nobody has had the workspace since; whether it was.

    Not where that daemon ended in order: it has removed what was to go, and what it kept is for who recovers it.
    """
    flags = os.O_RDWR | OPEN_FLAGS | getattr(os, "O_NOFOLLOW", 0)
    try:
        fd = os.open(os.path.join(meta_dir, LOCK_NAME), flags)
    except OSError:
        return False
    try:
        if not mount_id or not _locks(fd, fcntl.LOCK_EX) or not _is_there(fd, meta_dir):
            return False
        if _holder(fd).get("mount") != mount_id:
            return False
        with suppress(OSError, LocalDirectoryError):
            WorkspaceDirectory(meta_dir).remove()
        return True
    finally:
        os.close(fd)


@contextmanager
def looking_at(meta_dir: str) -> Generator[bool]:
    """For as long as nobody else opens the workspace for writing; False: somebody has it open.

    Raises OSError, FileNotFoundError where there is no such directory.
    """
    while True:
        fd = _opened(meta_dir)
        try:
            nobody_has_it = _locks(fd, fcntl.LOCK_SH)
            if _is_there(fd, meta_dir):
                yield nobody_has_it
                return
        finally:
            os.close(fd)


def _opened(meta_dir: str) -> int:
    flags = os.O_RDWR | os.O_CREAT | OPEN_FLAGS | getattr(os, "O_NOFOLLOW", 0)
    return os.open(os.path.join(meta_dir, LOCK_NAME), flags, 0o600)


def _is_there(fd: int, meta_dir: str) -> bool:
    return is_at(fd, os.path.join(meta_dir, LOCK_NAME))


def _locks(fd: int, how: int) -> bool:
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write_holder(fd: int, spec: MountSpec, client_pid: int | None) -> None:
    holder = {
        "pid": client_pid or os.getpid(),
        "daemon": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "mount_path": spec.mount_path,
        "mount": spec.mount_id,
    }
    os.ftruncate(fd, 0)
    pwrite(fd, json.dumps(holder).encode(), 0)


def _holder(fd: int) -> dict[str, Any]:
    """What the last holder has written; nothing if it cannot be read."""
    try:
        holder = json.loads(pread(fd, 4096, 0))
    except ValueError:
        return {}
    return holder if isinstance(holder, dict) else {}  # pyright: ignore[reportUnknownVariableType]


def _busy(fd: int, volume: str) -> VolumeBusyError:
    otherwise = "fork the volume, or mount it read-only"
    try:
        holder = _holder(fd)
        who = f"by process {holder['pid']} on {holder['host']} since {holder['since']}"
        path = str(holder["mount_path"])
    except KeyError:
        who, path = "by a process that is starting just now", ""
    if os.path.isabs(path):
        return VolumeBusyError(
            f"volume {volume} is mounted for writing already, at {path} {who}",
            hint=f"`flytevol umount {shlex.quote(shown(path))}` ends that mount; or {otherwise}",
        )
    return VolumeBusyError(f"volume {volume} is open for writing already, {who}", hint=f"wait for its end, {otherwise}")
