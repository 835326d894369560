"""What the kernel knows of a file: whether anybody else has it open or mapped, and whether its times tell all.

A mapping outlives the descriptor that it was made through, and nobody is told when it ends. But the kernel gives a
lease only where nobody else can read (or write) the file, and a mapping counts. `lacks` says where that is not so: an
overlay counts descriptors and no mappings. fcntl(2), F_SETLEASE; Linux 6.5 for `has_dirty_pages`.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import sys
from contextlib import suppress

from flyteplugins_vol.portable import OPEN_FLAGS, fcntl, keep_room

_libc = ctypes.CDLL(None, use_errno=True)

_CACHESTAT = 451  # the number of the system call, which the C library does not name; the same on all architectures
_DIRTY, _WRITEBACK = 1, 2  # of the five numbers that it returns
_FINE_NS = 1_234_567_891_234_567  # a time with all digits of a nanosecond


def descriptors() -> int:
    """How many files this process may have open."""
    import resource  # not on Windows

    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return sys.maxsize if most == resource.RLIM_INFINITY else most


def prepare(fd: int) -> None:
    """Before the first lease: who opens the file just then is held up for a moment, and we need no signal of it."""
    fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)  # which is ignored; SIGIO would end the process


def is_nobodys(fd: int) -> bool:
    """Whether nobody else has the file open or mapped. ``fd`` is open for reading, and not for writing."""
    return _leased(fd, fcntl.F_WRLCK)


def is_only_read(fd: int) -> bool:
    """Whether nobody has the file open or mapped for writing. ``fd`` as above."""
    return _leased(fd, fcntl.F_RDLCK)


def _leased(fd: int, kind: int) -> bool:
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, kind)
    except OSError:
        return False
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return True


def has_dirty_pages(fd: int) -> bool:
    """Whether there may be pages that are not written back: a store to one of them moves no time of the file."""
    found = (ctypes.c_uint64 * 5)()
    everything = (ctypes.c_uint64 * 2)()
    if _libc.syscall(_CACHESTAT, fd, everything, found, 0):
        return True
    return bool(found[_DIRTY] or found[_WRITEBACK])


def lacks(directory: str) -> str | None:
    """What the file system of a directory lacks for files that the kernel writes to by itself; None: nothing.

    Raises OSError if nothing can be made there.
    """
    path, link = os.path.join(directory, "probe.open"), os.path.join(directory, "probe-link.open")
    with suppress(FileNotFoundError):
        os.unlink(link)  # of a process that was killed here
    fd = os.open(path, os.O_RDONLY | os.O_CREAT | OPEN_FLAGS, 0o600)
    try:
        os.utime(fd, ns=(_FINE_NS, _FINE_NS))
        if os.fstat(fd).st_mtime_ns != _FINE_NS:
            return "has no times in nanoseconds"
        try:
            os.link(path, link)
        except OSError:
            return "has no hard links"
        if not _keeps_room(path):
            return "keeps no room for a file"
        os.truncate(path, mmap.PAGESIZE)
        if not is_nobodys(fd) or not is_only_read(fd) or _leased_while_mapped(fd, path):
            return "does not tell whether a file is mapped"
        return None
    finally:
        os.close(fd)
        for name in (path, link):
            with suppress(FileNotFoundError):
                os.unlink(name)


def counts_dirty_pages(directory: str) -> bool:
    """Whether `has_dirty_pages` can be believed of files in a directory: those in memory have none. Raises OSError."""
    path = os.path.join(directory, "probe.open")
    fd = os.open(path, os.O_RDWR | os.O_CREAT | OPEN_FLAGS, 0o600)
    try:
        os.write(fd, b"x")
        return has_dirty_pages(fd)
    finally:
        os.close(fd)
        os.unlink(path)


def _keeps_room(path: str) -> bool:
    fd = os.open(path, os.O_RDWR | OPEN_FLAGS)
    try:
        return keep_room(fd, mmap.PAGESIZE)
    finally:
        os.close(fd)


def _leased_while_mapped(fd: int, path: str) -> bool:
    """Whether there is a lease for a file that is mapped for writing, and whose descriptor was closed since."""
    writer = os.open(path, os.O_RDWR | OPEN_FLAGS)
    libc_mmap, libc_munmap = _libc.mmap, _libc.munmap
    libc_mmap.restype = ctypes.c_void_p
    size = ctypes.c_size_t(mmap.PAGESIZE)
    try:  # not `mmap.mmap`, which keeps a descriptor
        access = mmap.PROT_READ | mmap.PROT_WRITE
        mapping = libc_mmap(None, size, access, mmap.MAP_SHARED, writer, ctypes.c_long(0))
    finally:
        os.close(writer)
    if mapping in (None, ctypes.c_void_p(-1).value):
        return True
    try:
        return _leased(fd, fcntl.F_RDLCK)
    finally:
        libc_munmap(ctypes.c_void_p(mapping), size)
