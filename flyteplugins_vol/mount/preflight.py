"""Checks before a daemon is started: is this machine ready, and are the directories? Each failure says what to do."""

from __future__ import annotations

import os
import re
import shutil
import stat
import sys

from flyteplugins_vol.errors import FuseMissingError, FusermountError, LocalDirectoryError, MountPathError
from flyteplugins_vol.model import MountSpec
from flyteplugins_vol.mount.logs import open_log
from flyteplugins_vol.portable import free_bytes, make_workspace
from flyteplugins_vol.store.url import parse_store_url

LEAST_FREE = 64 << 20
"""Bytes that a cache or staging directory must have free: a few packs under way."""

_DEVICE = "/dev/fuse"
_FOR_ALL = " (FLYTE_VOL_CACHE_DIR is for all of them)"
_CONFIGURATION = "/etc/fuse.conf"


def check(spec: MountSpec) -> None:
    """Raise the `SetupError` of the first thing that is not ready; directories that are missing are made.

    ``spec.mount_path`` and ``spec.log_path`` are those that will be used.
    """
    check_device()
    check_fusermount()
    check_mount_table()
    if spec.allow_other:
        check_allow_other()
    check_apart(spec)
    check_directory(spec.meta_dir, "staging")
    check_directory(spec.cache_dir, "cache")
    if spec.log_path is not None:
        check_log(spec.log_path)


def check_platform(system: str = sys.platform) -> None:
    """`FuseMissingError` anywhere but on Linux."""
    if system != "linux":
        raise FuseMissingError(
            f"mounts need Linux, and this is {system}",
            hint="everything else works: flytevol ls, get, put; volume.open, download, batch_upload; fsspec",
        )


def check_device(device: str = _DEVICE) -> None:
    """`FuseMissingError` unless this user may open the FUSE device."""
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        raise FuseMissingError(
            f"there is no {device}: this machine or container cannot mount",
            hint="load the module (modprobe fuse); in a container pass --device /dev/fuse --cap-add SYS_ADMIN, in a"
            " Flyte pod template allow_fuse(); reading without a mount works everywhere",
        ) from None
    except OSError as error:
        raise FuseMissingError(
            f"{device} cannot be opened: {error.strerror}",
            hint=f"as root: chmod 666 {device}; in a container the device must also be allowed to it",
        ) from None


def check_fusermount(program: str = "fusermount3", euid: int | None = None) -> None:
    """`FusermountError` unless this user can mount: root by itself, everybody else through a setuid fusermount3."""
    if (os.geteuid() if euid is None else euid) == 0:
        return
    path = shutil.which(program)
    if path is None:
        raise FusermountError(f"there is no {program}", hint="install the package fuse3 (apt-get install fuse3)")
    found = os.stat(path)
    if not (found.st_mode & stat.S_ISUID and found.st_uid == 0):
        raise FusermountError(
            f"{path} is not setuid root, so that this user cannot mount",
            hint=f"as root: chown root {path} && chmod u+s {path}",
        )
    if os.statvfs(path).f_flag & os.ST_NOSUID:
        raise FusermountError(
            f"{path} lies on a file system that is mounted nosuid, so that this user cannot mount",
            hint="install fuse3 on a file system without that option, or run as root",
        )


def check_mount_table(path: str = "/etc/mtab", euid: int | None = None) -> None:
    """`FusermountError` if fusermount3 will mount for this user, but not unmount: it looks its mounts up there."""
    if (os.geteuid() if euid is None else euid) != 0 and not os.path.exists(path):
        raise FusermountError(
            f"there is no {path}, without which fusermount3 does not unmount for an ordinary user",
            hint=f"as root: ln -s /proc/self/mounts {path}",
        )


def check_allow_other(configuration: str = _CONFIGURATION, euid: int | None = None) -> None:
    """`FusermountError` unless this user may let others into the mount."""
    if (os.geteuid() if euid is None else euid) == 0:
        return
    try:
        with open(configuration, encoding="utf-8", errors="replace") as lines:
            allowed = any(re.fullmatch(r"\s*user_allow_other\s*", line) for line in lines)
    except OSError:
        allowed = False
    if not allowed:
        raise FusermountError(
            f"allow_other is root's to allow, and {configuration} does not",
            hint=f"add the line user_allow_other to {configuration} as root, or mount without allow_other",
        )


def check_apart(spec: MountSpec) -> None:
    """`MountPathError` if the mount would hide what its own daemon works on, which then waited for itself."""
    store = parse_store_url(spec.store_url)
    places = [
        ("staging directory", spec.meta_dir, _FOR_ALL),
        ("cache directory", spec.cache_dir, _FOR_ALL),
        ("log", spec.log_path, ""),
        ("store", store.path if store.scheme == "file" else None, ""),
    ]
    at = os.path.realpath(spec.mount_path)
    for name, path, how in places:
        if path is not None and os.path.commonpath([at, os.path.realpath(path)]) == at:
            raise MountPathError(
                f"the mount path {spec.mount_path} would hide the {name} of the mount, {path}",
                hint=f"give another mount path, or another {name}{how}",
            )


def check_log(path: str) -> None:
    """`LocalDirectoryError` unless the daemon's log can be written there; a file is made."""
    try:
        os.close(open_log(path))
    except OSError as error:
        raise LocalDirectoryError(
            f"the log {path} cannot be written: {error.strerror}",
            hint="give another path for the log: a file or a new one, and no link, in a directory that is there",
        ) from None


def check_directory(path: str, purpose: str, least_free: int = LEAST_FREE) -> None:
    """Make the directory (mode 0700) if it is missing; `LocalDirectoryError` unless it can be written and has room."""
    hint = f"give another {purpose} directory{_FOR_ALL}, or make room there"
    try:
        make_workspace(path)
    except OSError as error:
        raise LocalDirectoryError(
            f"the {purpose} directory {path} cannot be made: {error.strerror}", hint=hint
        ) from None
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise LocalDirectoryError(f"the {purpose} directory {path} is not writable", hint=hint)
    if hasattr(os, "statvfs") and os.statvfs(path).f_flag & os.ST_RDONLY:  # doctor looks on Windows as well
        raise LocalDirectoryError(f"the {purpose} directory {path} is on a read-only file system", hint=hint)
    free = free_bytes(path)
    if free < least_free:
        message = f"the {purpose} directory {path} has {free >> 20} MiB free and needs {least_free >> 20}"
        raise LocalDirectoryError(message, hint=hint)
