"""The table of errors in docs/SEMANTICS.md, row by row: on a volume, and on the machine's own file system.

A row that only a volume has (a read-only mount, say) is not tried on the other. The two must be the same list: a row
without a case fails here, and so does a case without a row.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import mmap
import os
import re
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.posix.conftest import as_user, errno_of, mounted_volume
from tests.posix.pair import fallocate, renameat2

pytestmark = [pytest.mark.fuse, pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")]

DOCUMENT = Path(__file__).parents[2] / "docs" / "SEMANTICS.md"
Case = Callable[[Path], object]
CASES: dict[str, Case] = {}
OURS: set[str] = set()
"""Rows in which a volume differs from ext4, or that need a mount of their own kind."""


def case(what: str, *, ours: bool = False) -> Callable[[Case], Case]:
    """The misuse that a row describes; it returns the errno, or raises OSError."""

    def keep(act: Case) -> Case:
        assert what not in CASES
        CASES[what] = act
        if ours:
            OURS.add(what)
        return act

    return keep


def documented() -> dict[str, str]:
    text = DOCUMENT.read_text().split("## Misuse")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(E[A-Z0-9]+)` \| (.+?) \|$", text, re.MULTILINE)
    return {what: name for name, what in rows}


def _result(what: str, place: Path) -> int:
    found: list[object] = []
    failed = errno_of(lambda: found.append(CASES[what](place)))
    return failed or (found[0] if isinstance(found[0], int) else 0)


# --- helpers -------------------------------------------------------------------------------------------------------


def _file(place: Path, name: str = "file", data: bytes = b"data") -> Path:
    path = place / name
    path.write_bytes(data)
    return path


def _directory(place: Path, name: str = "directory", *, full: bool = False) -> Path:
    path = place / name
    path.mkdir()
    if full:
        (path / "inside").touch()
    return path


def _rename(old: Path, new: Path, flags: int) -> None:
    renameat2(bytes(old), bytes(new), flags)


def _open(path: Path, flags: int) -> None:
    os.close(os.open(path, flags))


def _fallocate(path: Path, mode: int, offset: int, size: int) -> None:
    _with_open(path, os.O_RDWR, lambda fd: fallocate(fd, mode, offset, size))


def _with_open(path: Path, flags: int, act: Callable[[int], object]) -> None:
    fd = os.open(path, flags)
    try:
        act(fd)
    finally:
        os.close(fd)


# --- names ---------------------------------------------------------------------------------------------------------


@case("a name of 256 bytes")
def _(place: Path) -> None:
    _file(place, "n" * 255)
    _file(place, "n" * 256)


@case("looking up a name of 256 bytes")
def _(place: Path) -> None:
    (place / ("n" * 256)).stat()


@case("a path of 4,096 bytes")
def _(place: Path) -> None:
    os.stat(str(place) + "/." * 2048)


@case("a symlink's target of 4,096 bytes")
def _(place: Path) -> None:
    os.symlink("t" * 4095, place / "longest")
    os.symlink("t" * 4096, place / "too-long")


@case("an empty target of a symlink")
def _(place: Path) -> None:
    os.symlink("", place / "link")


@case("a name that is not there")
def _(place: Path) -> None:
    (place / "nothing").stat()


@case("a new name in a directory that was removed")
def _(place: Path) -> None:
    directory = _directory(place)

    def make(fd: int) -> None:
        directory.rmdir()
        os.mkdir("new", dir_fd=fd)

    _with_open(directory, os.O_RDONLY, make)


@case("`O_CREAT|O_EXCL`, `mkdir`, `symlink`, `link` or `mknod` of a name that is there")
def _(place: Path) -> int:
    path = _file(place)
    acts: list[Callable[[], object]] = [
        lambda: _open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR),
        path.mkdir,
        lambda: path.symlink_to("x"),
        lambda: os.link(path, path),
        lambda: os.mknod(path, stat.S_IFIFO | 0o600),
    ]
    (found,) = {errno_of(act) for act in acts}
    return found


@case("`RENAME_NOREPLACE` onto a name that is there")
def _(place: Path) -> None:
    _rename(_file(place, "a"), _file(place, "b"), 1)


@case("`RENAME_EXCHANGE` with a name that is not")
def _(place: Path) -> None:
    _rename(_file(place, "a"), place / "b", 2)


@case("`RENAME_WHITEOUT`", ours=True)
def _(place: Path) -> None:
    _rename(_file(place, "a"), place / "b", 4)


@case("`rmdir` of a directory with entries, or a rename over it")
def _(place: Path) -> int:
    full, empty = _directory(place, "full", full=True), _directory(place, "empty")
    (found,) = {errno_of(full.rmdir), errno_of(lambda: empty.rename(full))}
    return found


@case("`rmdir` of what is no directory, or a directory renamed onto it")
def _(place: Path) -> int:
    (found,) = {errno_of(_file(place).rmdir), errno_of(lambda: _directory(place).rename(place / "file"))}
    return found


@case("a path through what is no directory")
def _(place: Path) -> None:
    (_file(place) / "below").stat()


@case("`unlink` of a directory, or a file renamed onto it")
def _(place: Path) -> int:
    directory = _directory(place)
    (found,) = {errno_of(directory.unlink), errno_of(lambda: _file(place).rename(directory))}
    return found


@case("a directory renamed to below itself")
def _(place: Path) -> None:
    directory = _directory(place)
    directory.rename(directory / "below")


@case("`rmdir` of `.`")
def _(place: Path) -> None:
    os.rmdir(str(_directory(place)) + "/.")


@case("rename of `.`, or `rmdir` of the mount itself")
def _(place: Path) -> int:
    mount = place
    while not mount.is_mount():
        mount = mount.parent
    (found,) = {errno_of(lambda: os.rename(str(_directory(place)) + "/.", place / "b")), errno_of(mount.rmdir)}
    return found


@case("rename or link between two file systems")
def _(place: Path) -> int:
    elsewhere = Path("/dev/shm") / f"flytevol-{os.getpid()}"
    try:
        (found,) = {errno_of(functools.partial(act, _file(place), elsewhere)) for act in (os.rename, os.link)}
    finally:
        elsewhere.unlink(missing_ok=True)
    return found


@case("a hard link to a directory")
def _(place: Path) -> None:
    os.link(_directory(place), place / "second")


@case("symlinks in a circle, or `O_NOFOLLOW` on one")
def _(place: Path) -> int:
    (place / "a").symlink_to("b")
    (place / "b").symlink_to("a")
    (found,) = {errno_of((place / "a").stat), errno_of(lambda: _open(place / "a", os.O_RDONLY | os.O_NOFOLLOW))}
    return found


@case("`readlink` of what is no symlink")
def _(place: Path) -> None:
    os.readlink(_file(place))


# --- content -------------------------------------------------------------------------------------------------------


@case("`open` of a directory for writing, or `read` of it")
def _(place: Path) -> int:
    directory = _directory(place)
    (found,) = {
        errno_of(lambda: _open(directory, os.O_RDWR)),
        errno_of(lambda: _with_open(directory, os.O_RDONLY, lambda fd: os.read(fd, 1))),
        errno_of(lambda: os.truncate(directory, 0)),
    }
    return found


@case("`O_DIRECTORY` on a file")
def _(place: Path) -> None:
    _open(_file(place), os.O_RDONLY | os.O_DIRECTORY)


@case("writing through a descriptor that is open for reading")
def _(place: Path) -> None:
    _with_open(_file(place), os.O_RDONLY, lambda fd: os.write(fd, b"x"))


@case("`ftruncate` through a descriptor that is open for reading, or to a negative size")
def _(place: Path) -> int:
    path = _file(place)
    (found,) = {
        errno_of(lambda: _with_open(path, os.O_RDONLY, lambda fd: os.ftruncate(fd, 1))),
        errno_of(lambda: os.truncate(path, -1)),
    }
    return found


@case("writing beyond 2⁶³−1 bytes", ours=True)
def _(place: Path) -> None:
    path = _file(place)
    os.truncate(path, 2**63 - 1)
    with path.open("ab", buffering=0) as file:
        file.write(b"x")


@case("growing a file beyond `RLIMIT_FSIZE`, with the signal")
def _(place: Path) -> int:
    script = f"""
import os, resource, signal
signals = []
signal.signal(signal.SIGXFSZ, lambda *_: signals.append(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
fd = os.open({str(place / "file")!r}, os.O_CREAT | os.O_RDWR)
found = set()
for act in (lambda: os.pwrite(fd, b"x", 8192), lambda: os.ftruncate(fd, 8193)):
    try:
        act()
    except OSError as error:
        found.add(error.errno)
assert len(signals) == 2 and os.fstat(fd).st_size <= 8192
os._exit(*found)
"""
    return subprocess.run([sys.executable, "-c", script]).returncode


@case("writing to a program that runs")
def _(place: Path) -> int:
    program = place / "program"
    shutil.copy("/bin/sleep", program)
    with subprocess.Popen([program, "60"]) as running:
        found = errno_of(lambda: _open(program, os.O_WRONLY))
        running.kill()
    return found


@case("`mmap` of a directory")
def _(place: Path) -> None:
    _with_open(_directory(place), os.O_RDONLY, lambda fd: mmap.mmap(fd, 4096, prot=mmap.PROT_READ))


@case("`fallocate` that moves what follows (`COLLAPSE_RANGE`, `INSERT_RANGE`)", ours=True)
def _(place: Path) -> int:
    path = _file(place, data=bytes(16384))
    (found,) = {errno_of(functools.partial(_fallocate, path, mode, 0, 4096)) for mode in (8, 32)}
    return found


@case("`fallocate` of no bytes, or before the beginning")
def _(place: Path) -> int:
    path = _file(place)
    (found,) = {errno_of(functools.partial(_fallocate, path, 0, *at)) for at in ((0, 0), (-1, 5))}
    return found


@case("`fallocate` through a descriptor that is open for reading")
def _(place: Path) -> None:
    _with_open(_file(place), os.O_RDONLY, lambda fd: fallocate(fd, 0, 0, 10))


@case("`lseek` to before the beginning, or with a `whence` that is none")
def _(place: Path) -> int:
    path = _file(place)
    acts = (lambda fd: os.lseek(fd, -1, os.SEEK_SET), lambda fd: os.lseek(fd, 0, 99))
    (found,) = {errno_of(functools.partial(_with_open, path, os.O_RDONLY, act)) for act in acts}
    return found


@case("`SEEK_DATA` or `SEEK_HOLE` at or behind the end")
def _(place: Path) -> int:
    path = _file(place)
    acts = (lambda fd: os.lseek(fd, 4, os.SEEK_DATA), lambda fd: os.lseek(fd, 5, os.SEEK_HOLE))
    (found,) = {errno_of(functools.partial(_with_open, path, os.O_RDONLY, act)) for act in acts}
    return found


@case("`copy_file_range` between ranges of one file that overlap")
def _(place: Path) -> None:
    _with_open(_file(place, data=bytes(100)), os.O_RDWR, lambda fd: os.copy_file_range(fd, fd, 50, 0, 20))


@case("`O_TMPFILE`", ours=True)
def _(place: Path) -> None:
    _open(place, os.O_TMPFILE | os.O_RDWR)


@case("`FS_IOC_GETFLAGS` (`lsattr`, `chattr`) and every other ioctl", ours=True)
def _(place: Path) -> None:
    _with_open(_file(place), os.O_RDONLY, lambda fd: fcntl.ioctl(fd, 0x80086601, bytearray(8)))


@case("`flock` or `fcntl` with `LOCK_NB` on what another holds")
def _(place: Path) -> int:
    path = _file(place)
    with path.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with path.open("r+b") as second:
            return errno_of(lambda: fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB))


# --- special files -------------------------------------------------------------------------------------------------


@case("`open` for writing without waiting of a fifo that nobody reads; `open` of a socket")
def _(place: Path) -> int:
    os.mkfifo(place / "fifo")
    listener = socket.socket(socket.AF_UNIX)
    here = os.open(place, os.O_RDONLY)
    try:
        listener.bind(f"/proc/self/fd/{here}/socket")
    finally:
        os.close(here)
        listener.close()
    acts = (
        lambda: _open(place / "fifo", os.O_WRONLY | os.O_NONBLOCK),
        lambda: _open(place / "socket", os.O_RDWR),
    )
    (found,) = {errno_of(act) for act in acts}
    return found


@case("`open` of a device node (mounts are `nodev`)", ours=True)
def _(place: Path) -> None:
    os.mknod(place / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    _open(place / "null", os.O_RDONLY)


# --- permissions ---------------------------------------------------------------------------------------------------


@case("reading, writing, listing or entering what the mode forbids")
def _(place: Path) -> int:
    path, directory = _file(place), _directory(place, full=True)
    path.chmod(0o600)
    directory.chmod(0o700)
    acts: list[Callable[[], object]] = [
        path.read_bytes,
        lambda: path.write_bytes(b""),
        lambda: os.listdir(directory),
        (directory / "inside").stat,
    ]
    (found,) = {as_user(act) for act in acts}
    return found


@case("running what nobody may run")
def _(place: Path) -> int:
    path = _file(place, data=b"#!/bin/sh\n")
    (found,) = {errno_of(lambda: subprocess.run([path])), as_user(lambda: subprocess.run([path]))}
    return found


@case("a new name, or one less, in a directory that is not writable")
def _(place: Path) -> int:
    directory = _directory(place, full=True)
    (found,) = {as_user((directory / "new").mkdir), as_user((directory / "inside").unlink)}
    return found


@case("`chmod`, `chown` or times of a file of somebody else")
def _(place: Path) -> int:
    path = _file(place)
    acts: list[Callable[[], object]] = [
        lambda: path.chmod(0o777),
        lambda: os.chown(path, 1000, 1000),
        lambda: os.utime(path, (1, 1)),
    ]
    (found,) = {as_user(act) for act in acts}
    return found


@case("giving one's file away, or to a group that one is not in")
def _(place: Path) -> int:
    path = _file(place)
    os.chown(path, 1000, 1000)
    (found,) = {as_user(lambda: os.chown(path, 1001, -1)), as_user(lambda: os.chown(path, -1, 1001))}
    return found


@case("removing or renaming somebody else's file in a sticky directory")
def _(place: Path) -> int:
    path = _file(place)
    place.chmod(0o1777)
    (found,) = {as_user(path.unlink), as_user(lambda: path.rename(place / "other"))}
    return found


@case("a device node made by an ordinary user")
def _(place: Path) -> int:
    return as_user(lambda: os.mknod(place / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3)))


# --- extended attributes -------------------------------------------------------------------------------------------


@case("an attribute that is not there")
def _(place: Path) -> int:
    path = _file(place)
    (found,) = {errno_of(functools.partial(act, path, "user.none")) for act in (os.getxattr, os.removexattr)}
    return found


@case("`XATTR_CREATE` of an attribute that is there")
def _(place: Path) -> None:
    path = _file(place)
    os.setxattr(path, "user.a", b"1")
    os.setxattr(path, "user.a", b"2", os.XATTR_CREATE)


@case("an attribute's name of 256 bytes")
def _(place: Path) -> None:
    os.setxattr(_file(place), "user." + "n" * 251, b"")


@case("an attribute of 65,537 bytes")
def _(place: Path) -> None:
    os.setxattr(_file(place), "user.a", bytes(65_537))


@case("an attribute whose name is a prefix alone")
def _(place: Path) -> int:
    path = _file(place)
    acts: list[Callable[[], object]] = [
        lambda: os.setxattr(path, "user.", b""),
        lambda: os.getxattr(path, "user."),
        lambda: os.removexattr(path, "user."),
    ]
    (found,) = {errno_of(act) for act in acts}
    return found


@case("an attribute whose name has no prefix that is known")
def _(place: Path) -> int:
    path = _file(place)
    acts: list[Callable[[], object]] = [
        lambda: os.setxattr(path, "user", b""),
        lambda: os.getxattr(path, "user"),
        lambda: os.getxattr(path, "other.a"),
        lambda: os.removexattr(path, "other.a"),
    ]
    (found,) = {errno_of(act) for act in acts}
    return found


@case("a `user.*` attribute of a symlink or a fifo")
def _(place: Path) -> int:
    os.symlink("x", place / "link")
    os.mkfifo(place / "fifo")
    (found,) = {
        errno_of(lambda: os.setxattr(place / "link", "user.a", b"", follow_symlinks=False)),
        errno_of(lambda: os.setxattr(place / "fifo", "user.a", b"")),
    }
    return found


@case("`trusted.*`, `security.*` and ACLs; `user.*` without `mount(xattr=True)`", ours=True)
def _(place: Path) -> int:
    path = _file(place)
    acl = struct.pack("<I" + "HHI" * 3, 2, *(1, 6, 2**32 - 1), *(4, 4, 2**32 - 1), *(32, 4, 2**32 - 1))
    values = {"trusted.a": b"x", "security.a": b"x", "system.posix_acl_access": acl}
    (found,) = {errno_of(functools.partial(os.setxattr, path, name, value)) for name, value in values.items()}
    with mounted_volume() as (_, root):
        assert errno_of(lambda: os.setxattr(_file(root), "user.a", b"x")) == found
        assert errno_of(lambda: os.getxattr(root / "file", "user.a")) == found
    return found


# --- mounts of a kind of their own ---------------------------------------------------------------------------------


@case("any change on a read-only mount", ours=True)
def _(place: Path) -> int:
    with mounted_volume() as (volume, root):
        _file(root)
        _directory(root)
        os.mkfifo(root / "fifo")
        version = volume.finalize.sync()
        mount_path = place.parent.parent / "read-only"
        root = version.mount.sync(mount_path, cache_dir=mount_path.parent / "cache", xattr=True)
        try:
            (found,) = {errno_of(act) for act in _changes(root)}
        finally:
            version.unmount.sync()
    return found


@case("what the kernel cannot answer by itself, on a mount whose daemon was killed", ours=True)
def _(place: Path) -> int:
    with mounted_volume() as (volume, root):
        _file(root)
        os.kill(volume.status()["pid"], signal.SIGKILL)
        while volume.mount_path is not None:
            time.sleep(0.01)
        acts: list[Callable[[], object]] = [(root / "new").mkdir, (root / "file").unlink, lambda: os.statvfs(root)]
        found = {errno_of(act) for act in acts} - {errno.ECONNABORTED}  # a moment earlier
        volume.abandon.sync()
    return found.pop() if len(found) == 1 else 0


@case("a write or a new name when the local disk is full", ours=True)
def _(place: Path) -> int:
    disk = place.parent.parent / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", disk], check=True)
    try:
        with mounted_volume(staging=disk / "meta", upload_delay=3600) as (_, root):  # no seal makes room meanwhile
            (root / "small").write_bytes(b"x")
            found = {errno_of(lambda: _fill(root / "large", 96 << 20))}
            for number in range(4096):  # what was too little for a large write may do for small ones and for names
                if failed := errno_of(functools.partial((root / f"small-{number}").write_bytes, bytes(4096))):
                    found.add(failed)
                    break
            found.add(errno_of((root / "new").mkdir))
            assert (root / "small").read_bytes() == b"x"
            (root / "large").unlink()
    finally:
        subprocess.run(["umount", disk], check=True)
        disk.rmdir()
    return found.pop() if len(found) == 1 else 0


def _fill(path: Path, size: int) -> None:
    part = os.urandom(1 << 20)
    with path.open("wb", buffering=0) as file:
        for _ in range(size >> 20):
            file.write(part)
        os.fsync(file.fileno())


def _changes(root: Path) -> list[Callable[[], object]]:
    path = root / "file"
    return [
        lambda: _open(path, os.O_RDWR),
        lambda: _open(path, os.O_RDONLY | os.O_TRUNC),
        lambda: _open(root / "new", os.O_CREAT | os.O_RDWR),
        lambda: os.truncate(path, 0),
        lambda: path.chmod(0o600),
        lambda: os.chown(path, 1, 1),
        lambda: os.utime(path),
        path.unlink,
        (root / "directory").rmdir,
        (root / "new").mkdir,
        lambda: path.rename(root / "new"),
        lambda: os.link(path, root / "new"),
        lambda: os.symlink("x", root / "new"),
        lambda: os.mkfifo(root / "new"),
        lambda: os.setxattr(path, "user.a", b"x"),
    ]


# --- the tests ------------------------------------------------------------------------------------------------------


def test_the_document_and_the_cases_are_the_same_list() -> None:
    assert set(documented()) == set(CASES)


@pytest.mark.parametrize("what", CASES)
def test_on_a_volume(what: str, on_volume: Path) -> None:
    assert _result(what, on_volume) == getattr(errno, documented()[what])


@pytest.mark.parametrize("what", [what for what in CASES if what not in OURS])
def test_on_the_local_disk(what: str, local: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    assert _result(what, local) == getattr(errno, documented()[what])
