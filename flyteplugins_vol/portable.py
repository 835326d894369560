"""What Linux, macOS and Windows call differently, for all that works without a mount.

On Linux and macOS each is the system call itself; where Windows lacks it, a stand-in.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import threading
from types import SimpleNamespace
from typing import Any, TypeAlias

from flyteplugins_vol.errors import LocalDirectoryError

try:
    import fcntl as _fcntl
except ImportError:  # Windows
    _fcntl = None

Bytes: TypeAlias = "bytes | bytearray | memoryview"

OPEN_FLAGS: int = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOINHERIT", 0)
"""For every `os.open`: bytes as they are, and not for programs that this one starts."""


def _keep_nobody_out(_fd: int, _how: int) -> None:
    return


_NO_LOCKS = SimpleNamespace(
    F_RDLCK=0, F_WRLCK=1, F_UNLCK=2, LOCK_SH=1, LOCK_EX=2, LOCK_NB=4, LOCK_UN=8, flock=_keep_nobody_out
)  # fmt: skip

fcntl: Any = _fcntl or _NO_LOCKS
"""The module; where there is none, locks that keep nobody out: only mounts would need them."""

_WORKSPACES = ("workspaces", "unmounted", "mounts")  # what a cache directory has directories of
_KEEP_SIZE = 1  # of fallocate(2), which Python does not have
_DIRECTORY: int = getattr(os, "O_DIRECTORY", 0)
_POSITIONED = hasattr(os, "pread")
_moving = threading.Lock()


def pread(fd: int, size: int, offset: int) -> bytes:
    """Up to ``size`` bytes from ``offset`` on."""
    if _POSITIONED:
        return os.pread(fd, size, offset)
    with _moving:
        os.lseek(fd, offset, os.SEEK_SET)
        return os.read(fd, size)


def pwrite(fd: int, data: Bytes, offset: int) -> int:
    """Write at ``offset``; returns how many bytes were written."""
    if _POSITIONED:
        return os.pwrite(fd, data, offset)
    with _moving:
        os.lseek(fd, offset, os.SEEK_SET)
        return os.write(fd, data)


def fdatasync(fd: int) -> None:
    """Make a file's bytes durable; with all else of it where there is no other way."""
    getattr(os, "fdatasync", os.fsync)(fd)


def fchmod(fd: int, mode: int) -> None:
    """Change permissions, where there are any."""
    if hasattr(os, "fchmod"):
        os.fchmod(fd, mode)


def memory_bytes() -> int:
    """Bytes of this machine's memory, or more than any has where that cannot be told."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 1 << 62


def make_private(path: str) -> None:
    """Make a directory and its parents, where they are missing, so that only this user can enter. Raises OSError."""
    missing: list[str] = []
    above = os.path.abspath(path)
    while not os.path.isdir(above) and above not in missing:
        missing.append(above)
        above = os.path.dirname(above)
    for directory in reversed(missing):
        try:
            os.mkdir(directory, 0o700)
        except FileExistsError:  # another process was as quick, or it is something else
            if not os.path.isdir(directory):
                raise


def private_opener(path: str, flags: int) -> int:
    """For ``open(…, opener=private_opener)``: a new file is this user's alone."""
    return os.open(path, flags | OPEN_FLAGS, 0o600)


def make_workspace(path: str) -> None:
    """`make_private`, for a directory below one of our names: who owned that could put another one in its place.

    Raises as `private_directory`.
    """
    above = os.path.dirname(path)
    if os.path.basename(above) in _WORKSPACES:
        private_directory(above)
    make_private(path)


def private_directory(path: str, *, ours: bool = True) -> None:
    """A directory that no other user can enter, made if it is missing.

    ``ours``: its name is one of this package's, so others' rights to it are taken away. Raises OSError, and
    `LocalDirectoryError` if it belongs to somebody else, who could put there what is believed later.
    """
    make_private(path)
    if not hasattr(os, "geteuid"):
        return
    status, user = os.stat(path), os.geteuid()
    if status.st_uid not in (user, 0):
        raise LocalDirectoryError(
            f"{path} belongs to user {status.st_uid}, and this is user {user}",
            hint="remove it, or set FLYTE_VOL_CACHE_DIR to another place",
        )
    link = os.lstat(path.rstrip("/") or "/")
    if link.st_uid not in (user, 0):  # a link, which could lead to a directory of ours that is for something else
        raise LocalDirectoryError(
            f"{path} was put there by user {link.st_uid}, and this is user {user}",
            hint="remove it, or set FLYTE_VOL_CACHE_DIR to another place",
        )
    if ours and status.st_uid == user and status.st_mode & 0o077:
        os.chmod(path, 0o700)


def is_at(fd: int, path: str) -> bool:
    """Whether the file that is open is the one that has this name now: it may have been removed since, or replaced."""
    try:
        return os.path.samestat(os.fstat(fd), os.lstat(path))
    except OSError:
        return False


def sync_directory(path: str) -> None:
    """Make the names in a directory durable, where directories can be opened. Raises OSError."""
    if not _DIRECTORY:
        return
    fd = os.open(path, os.O_RDONLY | _DIRECTORY | OPEN_FLAGS)
    try:
        os.fsync(fd)  # not fdatasync: ext4 may leave names out of that
    finally:
        os.close(fd)


def lock(fd: int) -> None:
    """Wait until this open file is the only one that is locked; ends when it is closed, or the process dies."""
    if _fcntl is not None:
        _fcntl.flock(fd, _fcntl.LOCK_EX)
    else:
        _lock_first_byte(fd)


def _lock_first_byte(fd: int) -> None:
    try:
        import msvcrt
    except ImportError:  # neither: one process at a time is up to its user
        return
    module: Any = msvcrt
    while True:
        try:
            os.lseek(fd, 0, os.SEEK_SET)
            module.locking(fd, module.LK_LOCK, 1)  # waits for ten seconds
        except OSError:
            continue
        return


def free_bytes(directory: str) -> int:
    """Bytes that this user may still write on the disk of a directory."""
    return shutil.disk_usage(directory).free


def disk_bytes(directory: str) -> int:
    """Bytes that the disk of a directory has in all."""
    return shutil.disk_usage(directory).total


def allocated(status: os.stat_result) -> int:
    """Bytes that a file takes on disk; its size where that is not told."""
    blocks: int | None = getattr(status, "st_blocks", None)
    return status.st_size if blocks is None else blocks * 512


def keep_room(fd: int, size: int) -> bool:
    """Have the disk keep room for the next ``size`` bytes that are appended to an open file; whether it does."""
    status = os.fstat(fd)
    if allocated(status) - status.st_size >= size:
        return True
    fallocate = getattr(ctypes.CDLL(None), "fallocate", None) if hasattr(os, "posix_fallocate") else None
    if fallocate is None:
        return False
    more = size + size // 4  # so that not each commit asks for some
    return fallocate(fd, _KEEP_SIZE, ctypes.c_int64(status.st_size), ctypes.c_int64(more)) == 0


def user_and_group() -> tuple[int, int]:
    """Of this process; (0, 0) where there are none."""
    return getattr(os, "getuid", int)(), getattr(os, "getgid", int)()
