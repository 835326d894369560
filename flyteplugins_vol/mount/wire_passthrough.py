"""Passthrough: the kernel reads and writes files of ours by itself, as long as programs have them open.

Linux 6.9, and CAP_SYS_ADMIN outside of any container's user namespace. It excludes the write-back cache: so it is for
mounts that ask for it, and those are told who opens and closes files. `workspace.passthrough` has the files' side.
"""

from __future__ import annotations

import logging
from fcntl import ioctl

from flyteplugins_vol.mount import wire_protocol as wire
from flyteplugins_vol.mount.protocols import Workspace
from flyteplugins_vol.mount.wire_protocol import Init, Open
from flyteplugins_vol.workspace.passthrough import Backing

log = logging.getLogger(__name__)

FLAGS = Init.INIT_EXT | Init.PASSTHROUGH | Init.ATOMIC_O_TRUNC
"""What the kernel must offer."""

DEPTH = 2
"""File systems on one another: ours, and an overlay, as in containers, with the file."""

_CAP_SYS_ADMIN = 21
_ALL = "4294967295"


class WirePassthrough:
    """What the driver answers to opens. Owner thread."""

    def __init__(self, workspace: Workspace, fd: int) -> None:
        """``fd``: the connection to the kernel."""
        self._workspace = workspace
        self._fd = fd
        self._refused = False
        workspace.passthrough.on_close = self._forget

    def opened(self, ino: int, flags: int) -> bytes:
        """The answer to an OPEN or CREATE that was carried out."""
        passthrough = self._workspace.passthrough
        # one that the kernel has already must go on so: it refuses an inode that is open in both ways
        may = not self._refused or ino in passthrough.live
        backing = self._workspace.pass_through(ino, flags) if may else None
        if backing is None:
            ended = passthrough.ended
            keep = 0 if ino in ended else Open.KEEP_CACHE  # what was in the cache before is older than the file
            ended.discard(ino)
            return wire.OPEN_OUT.pack(0, Open.NOFLUSH | keep, 0)
        if not backing.kernel_id and not self._register(backing):
            passthrough.drop(ino)  # nothing is in it yet
            return wire.OPEN_OUT.pack(0, Open.NOFLUSH, 0)
        return wire.OPEN_OUT.pack(0, Open.NOFLUSH | Open.PASSTHROUGH, backing.kernel_id)

    def _register(self, backing: Backing) -> bool:
        try:
            asked = bytearray(wire.BACKING_MAP.pack(backing.fd, 0, 0))  # of bytes, the answer would be a copy of them
            backing.kernel_id = ioctl(self._fd, wire.BACKING_OPEN, asked)
        except OSError as error:
            self._refused = True
            log.warning("the kernel does not read and write files by itself (%s): all requests come here", error)
            return False
        return True

    def _forget(self, backing: Backing) -> None:
        if backing.kernel_id:
            try:
                ioctl(self._fd, wire.BACKING_CLOSE, wire.U32.pack(backing.kernel_id))
            except OSError as error:  # the connection has ended
                log.debug("backing %d: %s", backing.kernel_id, error)


def may_pass_through() -> bool:
    """Whether this process has the right: the kernel asks for it outside of all user namespaces but the first."""
    with open("/proc/self/uid_map") as numbers:
        if numbers.read().split() != ["0", "0", _ALL]:
            return False
    with open("/proc/self/status") as lines:
        held = next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff:"))
    return bool(held >> _CAP_SYS_ADMIN & 1)
