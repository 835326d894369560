"""Attach the FUSE device to a mount point: root asks the kernel, everybody else the setuid program fusermount3."""

from __future__ import annotations

import array
import ctypes
import errno
import os
import shutil
import socket
import subprocess

from flyteplugins_vol.errors import MountFailedError
from flyteplugins_vol.mount.kernel_mounts import FSTYPE

_DEVICE = "/dev/fuse"
_NOSUID, _NODEV, _READ_ONLY = 2, 4, 1  # mount(2)
_SECONDS = 30.0


def attach(path: str, options: list[str], *, read_only: bool) -> int:
    """Mount at ``path`` and return the descriptor of the connection. Raises `MountFailedError`.

    ``options`` are the kernel's own, such as ``allow_other``. Devices and set-uid programs on it do not work.
    """
    if os.geteuid() == 0:
        try:
            return _by_kernel(path, options, read_only=read_only)
        except OSError as error:
            if error.errno != errno.EPERM or shutil.which("fusermount3") is None:  # root without rights, as in pods
                raise _failed(path, str(error.strerror), _HINTS.get(error.errno or 0, _HINT)) from error
    return _by_fusermount(path, options, read_only=read_only)


def _by_kernel(path: str, options: list[str], *, read_only: bool) -> int:
    fd = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    try:
        data = [f"fd={fd}", "rootmode=40000", f"user_id={os.getuid()}", f"group_id={os.getgid()}", *options]
        libc = ctypes.CDLL(None, use_errno=True)
        flags = _NOSUID | _NODEV | (_READ_ONLY if read_only else 0)
        source = FSTYPE.partition(".")[2].encode()
        if libc.mount(source, os.fsencode(path), FSTYPE.encode(), ctypes.c_ulong(flags), ",".join(data).encode()) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    except BaseException:
        os.close(fd)
        raise
    return fd


def _by_fusermount(path: str, options: list[str], *, read_only: bool) -> int:
    """fusermount3 mounts for whoever owns the mount point, and hands the descriptor over through a socket."""
    name = FSTYPE.partition(".")[2]
    words = ["ro" if read_only else "rw", "nosuid", "nodev", f"fsname={name}", f"subtype={name}", *options]
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = ["fusermount3", "-o", ",".join(words), "--", path]
        environment = {**_locale(), "_FUSE_COMMFD": str(theirs.fileno())}
        try:
            done = subprocess.run(
                command,
                env=environment,
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_SECONDS,
                check=False,
            )
        except FileNotFoundError:
            raise _failed(path, "there is no fusermount3", "install the package fuse3") from None
        except subprocess.TimeoutExpired:
            raise _failed(path, f"fusermount3 did not answer within {_SECONDS:.0f} s", _HINT) from None
        if done.returncode != 0:
            raise _failed(path, done.stderr.strip() or f"fusermount3 ended with status {done.returncode}", _HINT)
        return _received(ours, path)


def _received(ours: socket.socket, path: str) -> int:
    ours.settimeout(_SECONDS)
    fds = array.array("i")
    _, ancillary, _, _ = ours.recvmsg(1, socket.CMSG_SPACE(fds.itemsize), socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: fds.itemsize])
            return fds[0]
    raise _failed(path, "fusermount3 handed no descriptor over", _HINT)


def _locale() -> dict[str, str]:
    """All that a set-uid program needs of the environment."""
    return {"PATH": os.defpath + ":/usr/local/bin:/usr/sbin:/sbin", "LC_ALL": "C"}


_HINT = "`flytevol doctor` looks for what is missing; in a pod the container needs allow_fuse()"
_HINTS = {
    errno.EPERM: "root here may not mount: give the container CAP_SYS_ADMIN, in a Flyte pod template allow_fuse()",
    errno.ENODEV: "load the module (modprobe fuse)",
    errno.ENOENT: "make the directory first",
}


def _failed(path: str, why: str, hint: str) -> MountFailedError:
    return MountFailedError(f"could not mount at {path}: {why}", hint=hint)
