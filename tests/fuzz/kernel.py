"""Requests of the kernel as bytes, given to the wire driver over a real workspace: what may go wrong is an errno."""

from __future__ import annotations

import os
import random
import shutil
import socket
import tempfile
from concurrent.futures import Future
from typing import Any

from flyteplugins_vol.index.index import Index
from flyteplugins_vol.index.rows import MAX_NUMBER
from flyteplugins_vol.model import ROOT_INO, MountSpec
from flyteplugins_vol.mount import wire_protocol as wire
from flyteplugins_vol.mount.operations import Operations
from flyteplugins_vol.mount.scheduler import Scheduler
from flyteplugins_vol.mount.wire_driver import WireDriver
from flyteplugins_vol.mount.wire_protocol import Op
from flyteplugins_vol.store.cache import BlockCache
from flyteplugins_vol.workspace.staging import Staging
from flyteplugins_vol.workspace.workspace import Workspace
from tests.fuzz.mutate import mutated

_REQUESTS = 500  # to one driver: what it is asked for leaves files behind, and requests that wait


class Kernel:
    """A driver whose device is a pair of sockets."""

    def __init__(self, scratch: str | None) -> None:
        self._room = tempfile.mkdtemp(dir=scratch)
        index = Index.create(f"{self._room}/index.db", uid=0, gid=0)
        self.workspace = Workspace(index, Staging(f"{self._room}/staging"), BlockCache(f"{self._room}/cache"))
        self._scheduler = Scheduler()
        self._operations = Operations(self.workspace, _NoFetcher(), self._scheduler, error=WireDriver.error)  # type: ignore[arg-type]
        spec = MountSpec("0" * 16, "fuzz", "memory://x", self._room, self._room, self._room, xattr=True)
        self._driver = WireDriver(self._operations, self._scheduler, spec)
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setblocking(False)
        self._theirs.setblocking(False)
        self._driver._fd = self._theirs.fileno()
        self.asked = 0

    def ask(self, data: bytes) -> int | None:
        """The errno of the answer (0: none); None if there is no answer now."""
        self.asked += 1
        driver = self._driver
        driver._buffer[: len(data)] = data
        driver._answer(len(data))
        try:
            answer = self._ours.recv(1 << 21)
        except BlockingIOError:
            return None
        length, error, unique = wire.OUT_HEADER.unpack_from(answer)
        assert length == len(answer)
        assert -4096 < error <= 0 or not unique  # a message that nobody asked for
        return -error

    def close(self) -> None:
        for request in self._driver._waiting.values():
            request.close()
        self._driver._worker.shutdown(wait=True, cancel_futures=True)
        self._operations.close()
        self._scheduler._close()
        self.workspace.close()
        self._ours.close()
        self._theirs.close()
        shutil.rmtree(self._room, ignore_errors=True)


class _NoFetcher:
    def fetch(self, miss: object) -> Future[Any]:
        return Future()


class Kernels:
    """The one that is asked at present."""

    def __init__(self) -> None:
        self._kernel: Kernel | None = None

    def ask(self, data: bytes) -> int | None:
        kernel = self._kernel
        if kernel is None or kernel.asked >= _REQUESTS:
            self.close()
            kernel = self._kernel = Kernel("/dev/shm" if os.path.isdir("/dev/shm") else None)
            for seed in seeds()[:6]:
                kernel.ask(seed)
        return kernel.ask(data[: wire.BUFFER_SIZE])

    def close(self) -> None:
        if self._kernel is not None:
            self._kernel.close()
            self._kernel = None


def request(op: int, body: bytes = b"", ino: int = ROOT_INO) -> bytes:
    return wire.IN_HEADER.pack(wire.IN_HEADER.size + len(body), op, 2, ino, 0, 0, 1, 0, 0) + body


def seeds() -> list[bytes]:
    """One well-formed request of each kind; the first few make files for the others."""
    return [
        request(Op.MKDIR, wire.MKDIR_IN.pack(0o755, 0o22) + b"dir\0"),
        request(Op.MKNOD, wire.MKNOD_IN.pack(0o100644, 0, 0o22, 0) + b"file\0"),
        request(Op.WRITE, wire.WRITE_IN.pack(0, 5, 11, 0, 0, 0, 0) + b"hello world", 3),
        request(Op.SYMLINK, b"link\0dir/file\0"),
        request(Op.SETXATTR, wire.XATTR_IN.pack(5, 0) + b"user.x\0value", 3),
        request(Op.LINK, wire.U64.pack(3) + b"hard\0"),
        request(Op.INIT, wire.INIT_IN.pack(7, 45, 131072, 0xFFFFFFFF) + bytes(48), 0),
        request(Op.LOOKUP, b"file\0"),
        request(Op.FORGET, wire.U64.pack(1), 3),
        request(Op.GETATTR, bytes(16), 3),
        request(Op.SETATTR, wire.SETATTR_IN.pack(0x1FF, 0, 0, 9, 0, 1, 1, 1, 5, 5, 5, 0o600, 0, 1, 1, 0), 3),
        request(Op.READLINK, b"", 4),
        request(Op.UNLINK, b"hard\0"),
        request(Op.RMDIR, b"dir\0"),
        request(Op.RENAME, wire.U64.pack(2) + b"file\0moved\0"),
        request(Op.RENAME2, wire.RENAME2_IN.pack(2, 1, 0) + b"file\0moved\0"),
        request(Op.READ, wire.READ_IN.pack(0, 0, 4096) + bytes(20), 3),
        request(Op.STATFS),
        request(Op.GETXATTR, wire.XATTR_IN.pack(100, 0) + b"user.x\0", 3),
        request(Op.LISTXATTR, wire.XATTR_IN.pack(100, 0), 3),
        request(Op.REMOVEXATTR, b"user.x\0", 3),
        request(Op.READDIR, wire.READ_IN.pack(0, 0, 4096) + bytes(20)),
        request(Op.READDIRPLUS, wire.READ_IN.pack(0, 0, 4096) + bytes(20)),
        request(Op.ACCESS, wire.ACCESS_IN.pack(4) + bytes(4), 3),
        request(Op.BATCH_FORGET, wire.BATCH_FORGET_IN.pack(2, 0) + wire.FORGET_ONE.pack(3, 1) * 2),
        request(Op.FALLOCATE, wire.FALLOCATE_IN.pack(0, 0, 100, 3) + bytes(4), 3),
        request(Op.LSEEK, wire.LSEEK_IN.pack(0, 0, 3) + bytes(4), 3),
        request(Op.COPY_FILE_RANGE, wire.COPY_IN.pack(0, 0, 3, 0, 50, 5, 0), 3),
        request(Op.INTERRUPT, wire.U64.pack(2)),
        request(Op.CREATE, bytes(16) + b"made\0"),
        request(Op.OPEN, bytes(8), 3),
        request(Op.FSYNC, bytes(16), 3),
        request(Op.IOCTL, bytes(32), 3),
        request(99, b"unknown"),
    ]  # fmt: skip


def mutated_request(rng: random.Random, seed: bytes, other: bytes) -> bytes:
    """As the kernel would send it: the header is sound, and of an inode that the kernel may have been told of."""
    body = mutated(rng, seed[wire.IN_HEADER.size :], other[wire.IN_HEADER.size :])
    _, op, unique, ino, uid, gid, pid, _, _ = wire.IN_HEADER.unpack_from(seed)
    ino = rng.choice((ino, ino, ino, 1, 2, 3, 4, 5, 0, rng.randrange(MAX_NUMBER)))
    op = rng.choice((op, op, op, op, rng.randrange(60)))
    if op in (Op.READ, Op.READDIR, Op.READDIRPLUS):  # the kernel asks for no more than was agreed on
        body = body[:16] + (int.from_bytes(body[16:20], "little") % wire.MAX_WRITE).to_bytes(4, "little") + body[20:]
    return wire.IN_HEADER.pack(wire.IN_HEADER.size + len(body), op, unique, ino, uid, gid, pid, 0, 0) + body
