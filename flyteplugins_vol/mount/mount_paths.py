"""Where to mount: a directory that is empty, ours to use, and claimed against everybody who looks at the same moment.

A claim is an flock on the directory itself, taken before it is mounted over and held until it is free again. Two
processes that want one path at once: one gets the lock; the other sees a lock that is taken, or a mount point, or that
the directory which it locked is no longer the one at the path.
"""

from __future__ import annotations

import errno
import os
import re
import shlex
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from flyteplugins_vol.errors import MountPathError
from flyteplugins_vol.human import shown
from flyteplugins_vol.mount import kernel_mounts
from flyteplugins_vol.portable import fcntl

_DEFAULT_NAME = "flyte-volume"
_CANDIDATES = 1000
_LOOK = 0.02  # seconds
_TRIES = 10


@dataclass
class Claim:
    """A mount path that is this process's until `release`."""

    path: str
    _fd: int
    _made: bool
    _owner: int

    @property
    def fd(self) -> int:
        """The directory, which is locked as long as this, or who got it from here, is open, or until `release`."""
        return self._fd

    @property
    def is_held(self) -> bool:
        return self._fd >= 0 and os.getpid() == self._owner

    def release(self) -> None:
        """Give the path up; a directory that was made for the claim is removed again if it is empty. Idempotent.

        Does nothing in a forked child, which shares the claim but does not own it.
        """
        if not self.is_held:
            return
        if self._made and kernel_mounts.is_in_place(self.path, self._fd):  # else it is somebody else's directory
            with suppress(OSError):
                os.rmdir(self.path)
        fcntl.flock(self._fd, fcntl.LOCK_UN)  # close alone would not do: a forked child has the description too
        os.close(self._fd)
        self._fd = -1


def claim(mount_path: str | None, *, volume_name: str, home: str) -> Claim:
    """Claim ``mount_path``, which is made if it is missing; `MountPathError` says why it cannot be had.

    None: ``<home>/flyte-volume``, or ``flyte-volume-<name>``, or that with a number, the first that no mount uses.
    ``Claim.path`` is absolute and without symlinks, as the kernel will list it.
    """
    if mount_path is not None and "\0" in mount_path:
        raise MountPathError(f"{mount_path!r} is no mount path: it has a NUL", hint="give another one")
    candidates = _default_paths(volume_name, home) if mount_path is None else iter([os.path.abspath(mount_path)])
    taken: MountPathError | None = None
    for candidate in candidates:
        try:
            return _claim(os.path.realpath(candidate))
        except _TakenError as error:
            taken = taken or error.reason
    assert taken is not None
    raise taken


def wait_until_free(path: str, seconds: float) -> None:
    """Wait until nobody has claimed the directory, or so many seconds.

    Of a mount that was just ended by somebody else its owner hears a moment later.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:  # its owner had made it, and has removed it
            return
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            time.sleep(_LOOK)
        else:
            return
        finally:
            os.close(fd)


class _TakenError(Exception):
    """Somebody else uses the path: a default rule goes on to the next."""

    def __init__(self, path: str, how: str, end: str = "wait for its end") -> None:
        super().__init__(how)
        self.reason = MountPathError(f"the mount path {path} {how}", hint=f"give another one, or {end}")


def _default_paths(volume_name: str, home: str) -> Iterator[str]:
    named = f"{_DEFAULT_NAME}-{re.sub(r'[^A-Za-z0-9._-]+', '-', volume_name)}"
    yield os.path.join(home, _DEFAULT_NAME)
    yield os.path.join(home, named)
    for number in range(2, _CANDIDATES):
        yield os.path.join(home, f"{named}-{number}")


def _claim(path: str) -> Claim:
    clear_stale(path)
    for _ in range(_TRIES):
        made = _make(path)
        try:
            return Claim(path, _locked(path), made, os.getpid())
        except FileNotFoundError:
            continue  # its last owner removed it just now
        except _TakenError:
            raise  # whoever was first in it owns the directory, also one that was made here a moment ago
        except BaseException as error:
            if made:
                with suppress(OSError):
                    os.rmdir(path)
            if isinstance(error, OSError):
                raise _refused(path, error) from None
            raise
    raise _TakenError(path, "comes and goes: other processes are using it")


def _locked(path: str) -> int:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _check(path, fd)
    except BlockingIOError:
        os.close(fd)
        raise _TakenError(path, "is being mounted on by another process") from None
    except BaseException:
        os.close(fd)
        raise
    return fd


def _make(path: str) -> bool:
    try:
        os.mkdir(path, 0o700)
        return True
    except FileExistsError:
        return False
    except FileNotFoundError as error:
        parent = os.path.dirname(path)
        if os.path.isdir(parent):  # and yet nothing can be made there: /proc, for one
            raise _refused(path, error) from None
        try:
            os.makedirs(parent, exist_ok=True)
        except OSError as why:
            raise _refused(path, why) from None
        return _make(path)
    except OSError as error:
        raise _refused(path, error) from None


def _check(path: str, fd: int) -> None:
    mount = kernel_mounts.mount_at(path)
    if mount is not None:
        raise _TakenError(path, f"is a mount point already ({mount.fstype})", _end_of(mount))
    ours, there = os.fstat(fd), os.lstat(path)
    if (ours.st_dev, ours.st_ino) != (there.st_dev, there.st_ino):
        raise FileNotFoundError
    if os.listdir(fd):
        raise MountPathError(f"the mount path {path} is not empty", hint="give an empty directory, or one to be made")
    if not os.access(path, os.W_OK):
        raise MountPathError(f"the mount path {path} is not writable", hint="give a directory that this user owns")


def _end_of(mount: kernel_mounts.KernelMount) -> str:
    """What to type to end it; one of ours publishes then, which the kernel's own commands know nothing of."""
    if mount.is_ours:
        return f"end that mount: `flytevol umount {shlex.quote(shown(mount.path))}`"
    command = "fusermount3 -u" if mount.fstype.startswith("fuse") else "umount"
    return f"unmount it: {command} {shlex.quote(shown(mount.path))}"


def clear_stale(path: str) -> bool:
    """Detach what a daemon that was killed has left at the path, if it is ours; whether there was such a mount."""
    mount = kernel_mounts.mount_at(path)
    if mount is None or not mount.fstype.startswith("fuse"):
        return False
    try:
        os.statvfs(path)  # always asks the daemon; stat may be answered from the kernel's cache
    except OSError as error:
        if error.errno not in (errno.ENOTCONN, errno.ECONNABORTED):
            return False
        if mount.is_ours:
            with suppress(OSError):
                kernel_mounts.unmount(path, lazy=True)
                return True
        raise MountPathError(
            f"at the mount path {path} is a mount whose server is dead", hint=f"fusermount3 -u -z {path}"
        ) from None
    return False


def _refused(path: str, error: OSError) -> MountPathError:
    reasons = {errno.ENOTDIR: "is not a directory", errno.ELOOP: "is a symbolic link"}
    reason = reasons.get(error.errno or 0, f"cannot be used: {error.strerror}")
    return MountPathError(f"the mount path {path} {reason}", hint="give an empty directory, or one that can be made")
