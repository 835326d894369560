"""Options of a mount, for the kernel itself and for libfuse."""

from __future__ import annotations

from flyteplugins_vol.model import MountSpec
from flyteplugins_vol.mount.kernel_mounts import FSTYPE

NAME = FSTYPE.partition(".")[2]


def kernel_options(spec: MountSpec, euid: int) -> list[str]:
    """Who may come in, and whether the kernel checks permissions: not where only root can, see the drivers."""
    options: list[str] = []
    if spec.allow_other:
        options.append("allow_other")
    if spec.allow_other or euid != 0:
        options.append("default_permissions")
    return options


def libfuse_options(spec: MountSpec, euid: int) -> set[str]:
    options = {f"fsname={NAME}", f"subtype={NAME}", *kernel_options(spec, euid)}
    if spec.read_only:
        options.add("ro")
    return options
