"""Programs that have files of a `Driven` volume open in passthrough: what the kernel does for them is done here."""

from __future__ import annotations

import ctypes
import mmap
import os

from flyteplugins_vol.history.record import VersionRecord
from flyteplugins_vol.workspace.passthrough import Backing
from flyteplugins_vol.workspace.staging import OpenFile
from tests.driven import Driven


class Program(OpenFile):
    """A descriptor as the kernel has one for a program that has the file open."""

    def __init__(self, backing: Backing, flags: int = os.O_RDWR) -> None:
        super().__init__(backing.path, flags)
        self.backing = backing


def opened(volume: Driven, name: bytes, flags: int = os.O_RDWR) -> tuple[int, Program]:
    """A new file, open as by a program."""
    ino = volume.create(name)
    volume.workspace.remember(ino)
    volume.workspace.open(ino, flags)
    backing = volume.workspace.pass_through(ino, flags)
    assert backing is not None
    return ino, Program(backing, os.O_RDWR)


def closed(volume: Driven, ino: int, program: Program, flags: int = os.O_RDWR) -> None:
    """As when that program closes it, or ends."""
    os.close(program.__dict__.pop("fd"))
    volume.workspace.release(ino, flags)


def released(volume: Driven, ino: int, program: Program, flags: int = os.O_RDWR) -> None:
    """The same, and nobody has the file any more."""
    closed(volume, ino, program, flags)
    assert ino not in volume.workspace.passthrough.live


def commit(volume: Driven) -> VersionRecord:
    """As a mount does it."""
    passthrough = volume.workspace.passthrough
    passthrough.catch_up()  # as the barrier does
    return volume.session.commit(None, volume.call, passthrough.freeze, passthrough.thaw, lambda _: None)


class Mapping:
    """A mapping whose descriptor was closed, as C programs make them; Python's own keep one."""

    def __init__(self, program: Program, size: int, access: int = mmap.PROT_READ | mmap.PROT_WRITE) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.mmap.restype = ctypes.c_void_p
        self.size = size
        self._size = ctypes.c_size_t(size)
        self._at = self._libc.mmap(None, self._size, access, mmap.MAP_SHARED, program.fd, ctypes.c_long(0))
        assert self._at != ctypes.c_void_p(-1).value

    def read(self, size: int) -> bytes:
        return ctypes.string_at(self._at, size)

    def write(self, data: bytes, offset: int = 0) -> None:
        ctypes.memmove(self._at + offset, data, len(data))

    def close(self) -> None:
        self._libc.munmap(ctypes.c_void_p(self._at), self._size)
