"""Two directories in step: one on a mounted volume, one on the machine's own disk. What is done is done in both."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

Described = dict[bytes, tuple[Any, ...]]

EXPLICIT = 1_100_000_000 * 10**9
"""Times before this one were set by `utime`; what the clock says is after it."""

MIB = 1 << 20
_WHOLE = 256 << 10  # content of files up to this size is compared as a whole
_EDGES = [0, *(n * 4 * MIB - 16384 for n in (1, 2, 3)), 1 << 40]  # of larger ones, 64 KiB from here on, and the end

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass
class Side:
    """One of the two: its directory, and what is open there, by the same numbers as on the other."""

    root: bytes
    fds: dict[int, int] = field(default_factory=dict)
    maps: dict[int, mmap.mmap] = field(default_factory=dict)

    def path(self, path: bytes) -> bytes:
        return os.path.join(self.root, path)

    def close(self) -> None:
        for mapping in self.maps.values():
            mapping.close()
        for fd in self.fds.values():
            with contextlib.suppress(OSError):
                os.close(fd)
        self.maps.clear()
        self.fds.clear()


@dataclass
class Pair:
    volume: Side
    local: Side

    def both(self, act: Callable[[Side], Any]) -> Any:
        """Do it in both: equal results, or the same errno. Returns the result, None after an error."""
        ours, theirs = attempt(act, self.volume), attempt(act, self.local)
        assert ours == theirs, f"volume: {shown(ours)}, local: {shown(theirs)}"
        return None if isinstance(ours, Failed) else ours

    def if_offered(self, act: Callable[[Side], Any]) -> Any:
        """As `both`, for what a driver need not offer: EOPNOTSUPP from the volume is right (here ENOTSUP, the same)."""
        ours = attempt(act, self.volume)
        if ours == Failed("ENOTSUP"):
            return None
        theirs = attempt(act, self.local)
        assert ours == theirs, f"volume: {shown(ours)}, local: {shown(theirs)}"
        return ours

    def close(self) -> None:
        self.volume.close()
        self.local.close()

    def compare(self, *, xattrs: bool) -> None:
        same(describe(self.volume.root, xattrs=xattrs), describe(self.local.root, xattrs=xattrs))


@dataclass(frozen=True)
class Failed:
    name: str


def attempt(act: Callable[[Side], Any], side: Side) -> Any:
    try:
        return act(side)
    except OSError as error:
        return Failed(errno.errorcode.get(error.errno or 0, str(error)))


def shown(value: Any) -> str:
    text = repr(value).replace("n" * 255, "n…")
    return text if len(text) < 300 else f"{text[:300]}… ({len(text)} characters)"


@contextlib.contextmanager
def acting_as(uid: int, gid: int, groups: list[int]) -> Iterator[None]:
    """With that user's rights; needs root. For the whole process: nothing else should run meanwhile."""
    if uid == os.geteuid():
        yield
        return
    before = os.getgroups()
    os.setgroups(groups)
    os.setegid(gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(before)


def renameat2(old: bytes, new: bytes, flags: int) -> None:
    if _libc.renameat2(-100, old, -100, new, flags):
        raise OSError(ctypes.get_errno(), "renameat2")


def fallocate(fd: int, mode: int, offset: int, size: int) -> None:
    if _libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(size)):
        raise OSError(ctypes.get_errno(), "fallocate")


# --- what must be the same -----------------------------------------------------------------------------------------


def describe(root: bytes, *, xattrs: bool) -> Described:
    """All below a directory that the two must agree on, as far as this user sees it; which names are one file, too."""
    found: Described = {}
    files: dict[int, list[bytes]] = {}
    for path, _ in below(root):
        full = os.path.join(root, path)
        try:
            status = os.lstat(full)
        except PermissionError:  # of a directory that may be listed and not entered
            continue
        if not stat.S_ISDIR(status.st_mode):
            files.setdefault(status.st_ino, []).append(path)
        found[path] = (*attributes(status), _content(full, status), _xattrs(full) if xattrs else None)
    for names in files.values():
        for name in names:
            found[name] = (*found[name], tuple(sorted(names)))
    return found


def attributes(status: os.stat_result) -> tuple[Any, ...]:
    """Of `os.lstat`: type and mode, links, owner, device, size, and mtime if somebody set it."""
    is_dir, is_device = stat.S_ISDIR(status.st_mode), stat.S_ISCHR(status.st_mode)
    return (
        oct(status.st_mode), status.st_nlink, status.st_uid, status.st_gid, status.st_rdev if is_device else 0,
        None if is_dir else status.st_size, status.st_mtime_ns if status.st_mtime_ns < EXPLICIT else "now",
    )  # fmt: skip


def same(ours: Described, theirs: Described) -> None:
    assert sorted(ours) == sorted(theirs), f"only one has {sorted(ours.keys() ^ theirs.keys())!r}"
    different = {
        shown(path): [(shown(a), shown(b)) for a, b in zip(ours[path], theirs[path], strict=True) if a != b]
        for path in ours
        if ours[path] != theirs[path]
    }
    assert not different, f"volume and local differ: {different}"


def below(root: bytes, path: bytes = b"") -> Iterator[tuple[bytes, bool]]:
    """The directory itself as '', and all that is below it by path; whether it is a directory."""
    yield path, True
    try:
        with os.scandir(os.path.join(root, path)) as entries:
            listed = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    except PermissionError:
        return
    assert len({name for name, _ in listed}) == len(listed), "a name was listed twice"
    for name, is_dir in listed:
        if is_dir:
            yield from below(root, os.path.join(path, name))
        else:
            yield os.path.join(path, name), False


def _content(path: bytes, status: os.stat_result) -> Any:
    if stat.S_ISLNK(status.st_mode):
        return os.readlink(path)
    if not stat.S_ISREG(status.st_mode):
        return None
    try:
        fd = os.open(path, os.O_RDONLY)
    except PermissionError:
        return "may not be read"
    try:
        return content(fd, status.st_size)
    finally:
        os.close(fd)


def content(fd: int, size: int) -> Any:
    """The bytes of a file; of a large one those at its edges, where things go wrong."""
    if size <= _WHOLE:
        return os.pread(fd, _WHOLE + 1, 0)
    return tuple(os.pread(fd, 64 << 10, at) for at in [*_EDGES, max(0, size - 65000)])


def _xattrs(path: bytes) -> dict[str, bytes]:
    names = [name for name in os.listxattr(path, follow_symlinks=False) if name.startswith("user.")]
    if not os.access(path, os.R_OK, follow_symlinks=False):
        return dict.fromkeys(sorted(names), b"may not be read")
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in sorted(names)}
