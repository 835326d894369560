"""The commit barrier of the wire driver: all that programs have written reaches the daemon, open files included.

This driver is never told which files are open (OPEN is answered ENOSYS), so there is no list to go through. Instead:
1. A byte is written to a first canary, a file that only this module knows, so that it is dirty in the kernel.
2. ``syncfs`` has the kernel put all dirty pages into the queue of the connection. It does not wait for answers.
3. A byte is written to a second canary and fsynced. The queue is in order, so when it arrives, all before it has.
Had the first canary not come before the second, then ``syncfs`` would do nothing on this kernel: the barrier looks, and
then has the kernel write back each file that it knows, one by one, which is right as well, but slow.

A canary has no place in the volume. It is reached by a secret name in the root, as inodes are, see `barrier`.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import secrets
import time
from collections.abc import Callable

from flyteplugins_vol.errors import CommitError
from flyteplugins_vol.mount import wire_protocol as wire
from flyteplugins_vol.mount.operations import Operations
from flyteplugins_vol.mount.wire_protocol import Op

log = logging.getLogger(__name__)

FIRST = 1 << 62
SECOND = FIRST + 1
"""Inode numbers of the canaries; from `FIRST` on none is a volume's."""

_POLL_SECONDS = 0.002


class Canaries:
    """What the kernel is told of them, and when they came. Owner thread."""

    def __init__(self) -> None:
        self.secret = b".flytevol-%s-" % secrets.token_hex(16).encode()
        self._names = {self.secret + b"first": FIRST, self.secret + b"second": SECOND}
        self._came = {FIRST: 0, SECOND: 0}
        self.first_at_second = 0  # how often the first had come when the second came last
        self._sizes = {FIRST: 0, SECOND: 0}
        self.opened = b""  # the answer to an OPEN, where the kernel tells of them

    def lookup(self, name: bytes) -> bytes | None:
        """The answer to a LOOKUP of this name; None if it is no canary's."""
        ino = self._names.get(name)
        return None if ino is None else wire.ENTRY_OUT.pack(ino, 0, 0, 0, 0, 0, *self._attributes(ino))

    def answer(self, op: int, ino: int, body: memoryview) -> bytes | int | None:
        """The answer to any other request: bytes, a positive errno, or None where none is awaited."""
        if op == Op.WRITE:
            _, offset, size, _, _, _, _ = wire.WRITE_IN.unpack_from(body)
            self._came[ino] += 1
            self._sizes[ino] = max(self._sizes[ino], offset + size)
            if ino == SECOND:
                self.first_at_second = self._came[FIRST]
            return wire.WRITE_OUT.pack(size, 0)
        if op in (Op.GETATTR, Op.SETATTR):
            return wire.ATTR_OUT.pack(0, 0, 0, *self._attributes(ino))
        if op == Op.READ:  # the kernel has dropped the page, and wants it back before a part of it is written
            _, offset, size = wire.READ_IN.unpack_from(body)
            return bytes(max(0, min(size, self._sizes[ino] - offset)))
        if op == Op.FORGET:
            return None
        if self.opened and op in (Op.OPEN, Op.RELEASE):
            return self.opened if op == Op.OPEN else b""
        if op == Op.GETXATTR:  # of capabilities, before a write; ENOSYS would switch attributes off for the whole mount
            return errno.ENODATA
        return b"" if op == Op.FSYNC else errno.ENOSYS

    def _attributes(self, ino: int) -> tuple[int, ...]:
        mode = 0o100600
        return (ino, self._sizes[ino], 0, 0, 0, 0, 0, 0, 0, mode, 1, os.geteuid(), os.getegid(), 0, 4096, 0)


class WireBarrier:
    """Any thread but the owner's."""

    def __init__(
        self,
        mount_path: str,
        canaries: Canaries,
        write_back: Callable[[int], None],
        operations: Operations,
    ) -> None:
        self._mount_path = os.fsencode(mount_path)
        self._canaries = canaries
        self._write_back = write_back
        self._operations = operations
        self._call = operations.scheduler.call
        self._libc = ctypes.CDLL(None)
        self._warned = False

    def flush(self) -> None:
        """Return when the daemon has all that was written before the call. CommitError if it cannot.

        What it refuses of that is lost, see `lost_writes`.
        """
        operations, call = self._operations, self._call
        try:
            if not self._flush_all():
                if not self._warned:  # with autocommit there is a barrier each few seconds
                    log.warning("syncfs does not write back on this kernel: every file is written back by itself")
                self._warned = True
                for ino in call(operations.known_inodes):
                    self._write_back(ino)
        except OSError as error:
            raise _failed(error.strerror or str(error)) from error
        newest = call(operations.parked_writes)[1]
        while call(operations.parked_writes)[0] <= newest:
            time.sleep(_POLL_SECONDS)  # until staging has room for what has arrived

    def _flush_all(self) -> bool:
        first = self._open(b"first")
        try:
            second = self._open(b"second")
            try:
                before = self._canaries.first_at_second
                os.pwrite(first, b"1", 0)
                self._libc.syncfs(first)  # tells of errors of long ago as well: which writes were lost, we have seen
                os.pwrite(second, b"2", 0)
                os.fsync(second)
                return self._canaries.first_at_second > before
            finally:
                os.close(second)
        finally:
            os.close(first)

    def _open(self, which: bytes) -> int:
        path = os.path.join(self._mount_path, self._canaries.secret + which)
        return os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)


def _failed(why: str) -> CommitError:
    return CommitError(
        f"what programs wrote to files that are still open could not be flushed: {why}",
        hint="the daemon's log has the reason; the mount lives on, so repair it and commit again",
    )
