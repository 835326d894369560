"""What is mounted where, as the kernel tells it, and how to unmount it."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

FSTYPE = "fuse.flytevol"

_FORCE, _DETACH, _NOFOLLOW = 1, 2, 8  # umount2(2)
_ESCAPE = re.compile(rb"\\([0-7]{3})")
_UNMOUNT_SECONDS = 30.0


@dataclass(frozen=True)
class KernelMount:
    """One line of ``/proc/self/mountinfo``; ``device`` is the minor number, which names a FUSE connection."""

    path: str
    fstype: str
    device: int

    @property
    def is_ours(self) -> bool:
        return self.fstype == FSTYPE


def mount_at(path: str) -> KernelMount | None:
    """The topmost mount whose mount point is exactly ``path`` (absolute, without symlinks)."""
    found: KernelMount | None = None
    for mount in _mounts():
        if mount.path == path:
            found = mount
    return found


def mounts_below(path: str) -> list[KernelMount]:
    """The mounts inside the directory ``path`` (absolute, without symlinks), each before those that are inside it."""
    inside = {mount.path: mount for mount in _mounts() if mount.path.startswith(path.rstrip("/") + "/")}
    return [inside[at] for at in sorted(inside)]


def _mounts() -> Iterator[KernelMount]:
    # As bytes: what else Python takes for the end of a line, or for a blank, the kernel writes as it is (proc(5)).
    with open("/proc/self/mountinfo", "rb") as lines:
        for line in lines:
            fields = line.rstrip(b"\n").split(b" ")
            fstype = os.fsdecode(fields[fields.index(b"-", 6) + 1])  # after six fields, and any number of optional ones
            yield KernelMount(os.fsdecode(_unescaped(fields[4])), fstype, int(fields[2].split(b":")[1]))


def set_read_ahead(path: str, size: int) -> None:
    """Have the kernel read so many bytes at once of what is read in order, where it does 128 KiB; only root can."""
    mount = mount_at(path)
    if mount is not None:
        with suppress(OSError), open(f"/sys/class/bdi/0:{mount.device}/read_ahead_kb", "w") as setting:
            setting.write(str(size >> 10))


def is_in_place(path: str, claim: int | None) -> bool:
    """Whether the directory that is open as ``claim``, which a mount has locked for itself, has this path still.

    If it is not, whatever is mounted there is somebody else's: ours was ended from outside, and its directory removed.
    The numbers of a mount do not tell: the kernel gives those that are free again to the next one. None: nobody looks.
    """
    if claim is None:
        return True
    try:
        return os.readlink(f"/proc/self/fd/{claim}") == path  # asks nobody but the kernel, whatever is mounted there
    except OSError:
        return False


def unmount(path: str, *, lazy: bool = False, claim: int | None = None) -> None:
    """Unmount, or with ``lazy`` detach. `OSError`: EBUSY when something inside is in use, EINVAL: nothing is mounted.

    ``claim``: see `is_in_place`; then nothing of ours is mounted, whatever is.
    Root calls the kernel; everybody else asks fusermount3, which may do this for the mounts of whoever calls it.
    """
    if not is_in_place(path, claim):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.umount2(os.fsencode(path), _NOFOLLOW | (_DETACH if lazy else 0)) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return
    if mount_at(path) is None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    program = shutil.which("fusermount3") or "fusermount3"
    command = [program, "-u", *(["-z"] if lazy else []), "--", path]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_UNMOUNT_SECONDS, check=False
    )
    if done.returncode != 0:
        raise OSError(errno.EBUSY, done.stderr.strip() or "fusermount3 failed")


def unmount_by_force(path: str, claim: int | None = None) -> None:
    """Detach, and abort the connection if its daemon does not answer: whoever waits inside gets an error.

    The last resort, of root and of the mount's owner; does nothing when nothing of ours is mounted there. ``claim``:
    see `is_in_place`.
    """
    mount = mount_at(path) if is_in_place(path, claim) else None
    if mount is None or not mount.is_ours:
        return
    with suppress(OSError), open(f"/sys/fs/fuse/connections/{mount.device}/abort", "w") as abort:
        abort.write("1")
    if os.geteuid() == 0:
        # MNT_FORCE aborts as well, also where the control file system is not mounted; it need not unmount by itself.
        ctypes.CDLL(None).umount2(os.fsencode(path), _NOFOLLOW | _FORCE)
    with suppress(OSError, subprocess.TimeoutExpired):
        unmount(path, lazy=True)


def _unescaped(field: bytes) -> bytes:
    """Mountinfo writes blank, tab, newline and backslash as three octal digits."""
    return _ESCAPE.sub(lambda match: bytes([int(match[1], 8)]), field)


if __name__ == "__main__":  # of `refresh_guard`
    unmount_by_force(sys.argv[1], int(sys.argv[2]) if sys.argv[2:] else None)
