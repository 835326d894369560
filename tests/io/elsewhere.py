"""Makes this process look like one on another system, as far as that can be played on Linux.

``macos``: what only Linux has is gone, and the libraries of the mount. ``windows``: so is most of POSIX: modules, calls
and constants that Python does not have there; directories cannot be opened. How Windows treats open files (they can be
neither removed nor replaced) is not played.
"""

from __future__ import annotations

import importlib.abc
import os
import shutil
import signal
import socket
import sys
from typing import Any

LINUX = (
    "O_DIRECT", "O_PATH", "O_TMPFILE", "copy_file_range", "eventfd", "fdatasync", "memfd_create", "pidfd_open",
    "posix_fadvise", "posix_fallocate", "sched_getaffinity", "sched_setaffinity", "splice", "getxattr", "setxattr",
    "listxattr", "removexattr",
)  # fmt: skip
POSIX = (
    "O_CLOEXEC", "O_DIRECTORY", "O_NOATIME", "O_NOFOLLOW", "O_NONBLOCK", "O_SYNC", "O_DSYNC", "SEEK_DATA", "SEEK_HOLE",
    "WNOHANG", "chown", "fchmod", "fchown", "fork", "getegid", "geteuid", "getgid", "getpgid", "getpgrp", "getpriority",
    "getuid", "killpg", "lchown", "lockf", "major", "makedev", "minor", "mkfifo", "mknod", "nice", "pread", "preadv",
    "pwrite", "pwritev", "register_at_fork", "sendfile", "setpriority", "setsid", "statvfs", "sync", "tcgetpgrp",
    "ttyname", "uname",
)  # fmt: skip
SIGNALS = ("SIGCHLD", "SIGCONT", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGTSTP", "SIGUSR1", "SIGUSR2", "SIGWINCH")
MODULES = {"macos": ("pyfuse3", "trio"), "windows": ("pyfuse3", "trio", "fcntl", "grp", "pwd", "resource", "termios")}


class _Missing(importlib.abc.MetaPathFinder):
    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        if fullname in self._names:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


def pretend(system: str) -> None:
    """For the rest of this process. Libraries that look at the system when they are imported must be loaded by now."""
    import asyncio.subprocess  # noqa: F401
    import multiprocessing  # noqa: F401
    import uuid  # noqa: F401
    import webbrowser  # noqa: F401

    import click  # noqa: F401
    import rich.console
    import rich.progress  # noqa: F401

    sys.platform = {"macos": "darwin", "windows": "win32"}[system]
    for name in MODULES[system]:
        sys.modules.pop(name, None)
    sys.meta_path.insert(0, _Missing(MODULES[system]))
    _remove(os, LINUX)
    if system == "windows":
        _without_posix()


def _without_posix() -> None:
    statvfs, opened = os.statvfs, os.open

    def usage(directory: Any) -> Any:
        sizes = statvfs(directory)
        free = sizes.f_bavail * sizes.f_frsize
        return shutil._ntuple_diskusage(sizes.f_blocks * sizes.f_frsize, 0, free)  # type: ignore[attr-defined]

    def open_file(path: Any, *arguments: Any, **options: Any) -> int:
        if not isinstance(path, int) and os.path.isdir(path):
            raise PermissionError(13, "Permission denied", path)
        return opened(path, *arguments, **options)

    shutil.disk_usage = usage
    shutil._use_fd_functions = False  # type: ignore[attr-defined]
    os.open = open_file  # type: ignore[assignment]
    _remove(os, POSIX)
    _remove(signal, SIGNALS)
    _remove(socket, ("AF_UNIX",))


def _remove(module: Any, names: tuple[str, ...]) -> None:
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
