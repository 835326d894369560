"""Somebody who aborts the mount's connection if the daemon is killed while it tells the kernel of names.

A thread that does so waits in the kernel for a directory's lock, where no signal reaches it, and whoever holds that
lock waits for an answer of the daemon. If that is killed, the thread keeps the connection open all the same: both
would wait for ever. So a shell looks on meanwhile, and has the connection aborted if nothing but such a thread is left
of the daemon.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from flyteplugins_vol.mount.wire_protocol import Notify

_LOOK_ON = """
pid=$1 python=$2 path=$3 claim=$4 dead=0
while read -r line < "/proc/$pid/stat"; do
    case "${line##*) }" in Z*) dead=$((dead + 1));; esac
    if [ $dead = 2 ]; then
        set -- /proc/"$pid"/task/*
        [ $# = 1 ] || exec "$python" -m flyteplugins_vol.mount.kernel_mounts "$path" $claim
        exit
    fi
    sleep 0.3
done 2> /dev/null
"""


class Guard:
    """Looks on from the first notice that may wait, to the end of the ``with`` block."""

    def __init__(self, mount_path: str, claim: int | None = None) -> None:
        """``claim``: see `kernel_mounts.is_in_place`."""
        self._mount_path = mount_path
        self._claim: tuple[int, ...] = () if claim is None else (claim,)
        self._process: subprocess.Popen[bytes] | None = None

    def before(self, kind: int) -> None:
        """A notice of this kind is about to be sent."""
        if self._process is None and kind == Notify.INVAL_ENTRY:
            self._process = subprocess.Popen(
                [
                    *("/bin/sh", "-c", _LOOK_ON, "sh", str(os.getpid()), sys.executable, self._mount_path),
                    *map(str, self._claim),
                ],
                pass_fds=self._claim,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=Path(__file__).parents[2],  # so that -m finds the package that runs here
                start_new_session=True,
            )

    def __enter__(self) -> Guard:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
