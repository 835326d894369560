"""One writer per workspace directory on this host: an flock, held by the daemon for as long as it lives."""

from __future__ import annotations

import json
import os
import shlex
import socket
import time
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

from flyteplugins_vol.errors import VolumeBusyError
from flyteplugins_vol.human import shown
from flyteplugins_vol.model import MountSpec
from flyteplugins_vol.portable import OPEN_FLAGS, fcntl, pread, pwrite

LOCK_NAME = "lock"

_LOOK = 0.02  # seconds


def hold(spec: MountSpec, client_pid: int | None) -> int:
    """Take ``<meta_dir>/lock`` and return its descriptor; it is free again when that is closed, or the process ends.

    Raises `VolumeBusyError`, which names the holder, when another daemon has it.
    """
    fd = _opened(spec.meta_dir)
    while not _locks(fd, fcntl.LOCK_EX):
        if not _locks(fd, fcntl.LOCK_SH):
            busy = _busy(fd, spec.volume_name)
            os.close(fd)
            raise busy
        fcntl.flock(fd, fcntl.LOCK_UN)
        time.sleep(_LOOK)  # somebody only looks at it
    _write_holder(fd, spec, client_pid)
    return fd


@contextmanager
def looking_at(meta_dir: str) -> Generator[bool]:
    """For as long as nobody else opens the workspace for writing; False: somebody has it open."""
    fd = _opened(meta_dir)
    try:
        yield _locks(fd, fcntl.LOCK_SH)
    finally:
        os.close(fd)


def _opened(meta_dir: str) -> int:
    flags = os.O_RDWR | os.O_CREAT | OPEN_FLAGS | getattr(os, "O_NOFOLLOW", 0)
    return os.open(os.path.join(meta_dir, LOCK_NAME), flags, 0o600)


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
    }
    os.ftruncate(fd, 0)
    pwrite(fd, json.dumps(holder).encode(), 0)


def _busy(fd: int, volume: str) -> VolumeBusyError:
    otherwise = "fork the volume, or mount it read-only"
    try:
        holder: dict[str, Any] = json.loads(pread(fd, 4096, 0))
        who = f"by process {holder['pid']} on {holder['host']} since {holder['since']}"
        path = str(holder["mount_path"])
    except (ValueError, KeyError, TypeError):
        who, path = "by a process that is starting just now", ""
    if os.path.isabs(path):
        return VolumeBusyError(
            f"volume {volume} is mounted for writing already, at {path} {who}",
            hint=f"`flytevol umount {shlex.quote(shown(path))}` ends that mount; or {otherwise}",
        )
    return VolumeBusyError(f"volume {volume} is open for writing already, {who}", hint=f"wait for its end, {otherwise}")
