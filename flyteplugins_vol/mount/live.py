"""The mounts that live on this machine, found by the control sockets of their daemons."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from flyteplugins_vol.errors import VolumeError
from flyteplugins_vol.mount.control import DaemonGone, request
from flyteplugins_vol.mount.protocols import Progress

_KINDS = ("workspaces", "mounts")  # directories below a cache root that hold a directory for each mount
_SECONDS = 5.0


@dataclass(frozen=True)
class LiveMount:
    """One mount, and what its daemon said of it when it was found."""

    control: str
    meta_dir: str
    status: dict[str, Any]

    @property
    def path(self) -> str:
        return str(self.status["mount_path"])

    @property
    def volume(self) -> str:
        """Name and id of its volume."""
        return os.path.basename(self.meta_dir).rpartition("-")[0]

    @property
    def writable(self) -> bool:
        return os.path.basename(os.path.dirname(self.meta_dir)) == _KINDS[0]

    def commit(self, message: str | None, progress: Progress | None = None) -> dict[str, Any]:
        """Publish a version; its record on the wire. Raises the daemon's `VolumeError`, `DaemonGone`."""
        return request(self.control, {"request": "commit", "message": message}, progress, None)

    def refresh(self, to: str | None) -> dict[str, Any]:
        """Have a read-only mount show the version at a locator, or the newest; its record on the wire."""
        return request(self.control, {"request": "refresh", "to": to}, None, None)

    def unmount(self, *, keep: bool) -> dict[str, Any]:
        """End it. ``keep``: what is not committed stays on local disk for the next mount. As `MountClient.unmount`."""
        return request(self.control, {"request": "unmount", "keep": keep}, None, None)

    def abandon(self) -> None:
        """End it, and drop what is not committed."""
        request(self.control, {"request": "abandon"}, None, None)


def live_mounts(roots: Iterable[str]) -> list[LiveMount]:
    """Every mount whose directory is below one of these cache roots and whose daemon answers, by path."""
    found = (_asked(control, meta_dir) for control, meta_dir in _sockets(roots))
    return sorted((mount for mount in found if mount is not None), key=lambda mount: mount.path)


def _sockets(roots: Iterable[str]) -> Iterator[tuple[str, str]]:
    for root in dict.fromkeys(os.path.abspath(os.path.expanduser(root)) for root in roots):
        for kind in _KINDS:
            for own in _entries(os.path.join(root, kind)):
                meta_dir = os.path.join(root, kind, own)
                for name in _entries(os.path.join(meta_dir, "control")):
                    yield os.path.join(meta_dir, "control", name), meta_dir


def _entries(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def _asked(control: str, meta_dir: str) -> LiveMount | None:
    try:
        return LiveMount(control, meta_dir, request(control, {"request": "status"}, None, _SECONDS))
    except (DaemonGone, TimeoutError, VolumeError):  # killed, ending, or of another user
        return None
