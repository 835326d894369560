"""One writer per workspace directory on this host: an flock, held by the daemon for as long as it lives."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from datetime import datetime, timezone
from typing import Any

from flyteplugins_vol.errors import VolumeBusyError
from flyteplugins_vol.model import MountSpec

LOCK_NAME = "lock"


def hold(spec: MountSpec, client_pid: int | None) -> int:
    """Take ``<meta_dir>/lock`` and return its descriptor; it is free again when that is closed, or the process ends.

    Raises `VolumeBusyError`, which names the holder, when another daemon has it.
    """
    fd = os.open(os.path.join(spec.meta_dir, LOCK_NAME), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = _holder(fd)
        os.close(fd)
        raise VolumeBusyError(
            f"volume {spec.volume_name} is mounted for writing already, {holder}",
            hint="finalize or abandon it there, fork the volume, or mount it read-only",
        ) from None
    _write_holder(fd, spec, client_pid)
    return fd


def _write_holder(fd: int, spec: MountSpec, client_pid: int | None) -> None:
    holder = {
        "pid": client_pid or os.getpid(),
        "daemon": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "mount_path": spec.mount_path,
    }
    os.ftruncate(fd, 0)
    os.pwrite(fd, json.dumps(holder).encode(), 0)


def _holder(fd: int) -> str:
    try:
        holder: dict[str, Any] = json.loads(os.pread(fd, 4096, 0))
        return f"at {holder['mount_path']} by process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (ValueError, KeyError, TypeError):
        return "by a process that is starting just now"
