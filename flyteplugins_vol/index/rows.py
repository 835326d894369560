"""What one row of an index must be, looked at when it is loaded: an index may come from a stranger.

SQLite checks the types of a strict table when it writes, not when it reads, so a cell can be anything. Each check
here is a few comparisons (0.2 to 0.4 µs a row), so that opening a volume costs nothing for each of its files.
`index.check` looks at what only all rows together show.
"""

from __future__ import annotations

import stat
from collections.abc import Sequence
from typing import NoReturn

from flyteplugins_vol.errors import IndexDamagedError, NewerFormatError
from flyteplugins_vol.index.extents import Extent
from flyteplugins_vol.model import BLOCK_SIZE, ROOT_INO, Inode

MAX_NUMBER = 1 << 56
"""Inodes, blocks and packs are numbered below this: a file handle has a few bits beside the number."""

NAME_MAX = 255
TARGET_MAX = 4095
XATTR_VALUE_MAX = 65_536
XATTRS_MAX = 65_536
"""Most attributes of one file: the kernel lists at most 65,536 bytes of names."""

MAX_OBJECT = 1 << 30
"""Most bytes of a pack."""

_MAX_MIRROR = 1 << 42  # plain bytes of the entries of a pack: 2^20 entries of 4 MiB
_HEADER = 16
_LAST_CODEC = 1
_PLAIN = frozenset(kind >> 12 for kind in (stat.S_IFREG, stat.S_IFBLK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK))
_LINK = stat.S_IFLNK >> 12
_DIRECTORY = stat.S_IFDIR >> 12
_DOTS = (b".", b"..")


def damaged(what: str) -> NoReturn:
    """Raise `IndexDamagedError`."""
    raise IndexDamagedError(f"the index is damaged: {what}", hint="use another version, or verify the volume")


def inode_of(
    ino: int, mode: int, nlink: int, uid: int, gid: int, rdev: int, size: int, allocated: int,
    atime: int, mtime: int, ctime: int, parent: int, target: bytes | None,
) -> Inode:  # fmt: skip
    """The inode of a row: every number in its bounds, and what depends on the type as the type wants it."""
    try:
        # The bits of several together are negative if one is, and a TypeError if one is no integer.
        if (
            not (mode | nlink | uid | gid | rdev) >> 32
            and ino > 0
            and 0 < ino | parent < MAX_NUMBER
            and size | allocated >= 0
            and (atime | mtime | ctime) is not None  # pyright: ignore[reportUnnecessaryComparison]
        ):
            kind = mode >> 12
            if (kind in _PLAIN and parent == 0 and target is None) or (
                (kind == _DIRECTORY and parent and target is None)
                or (kind == _LINK and parent == 0 and _is_target(target, size))
            ):
                return Inode(ino, mode, nlink, uid, gid, rdev, size, allocated, atime, mtime, ctime, parent, target)
    except TypeError:
        pass
    damaged(f"inode {_short(ino)} is out of bounds")


def check_place(parent: int, name: bytes, inode: Inode) -> None:
    """A file that a directory names: alive; and a directory only where its inode says.

    So who walks down from the root never comes to a directory that is above it, or by two ways.
    """
    if inode.nlink == 0 or inode.ino == ROOT_INO or inode.parent not in (0, parent) or name in _DOTS:
        damaged(f"{name!r} in directory {parent} cannot name inode {inode.ino}")


def check_names(names: Sequence[bytes]) -> None:
    """Names as of a directory, in order. All at once: a thousand cost what ten would one by one."""
    if not names:
        return
    try:
        together = b"/".join(names)
        right = (
            together.count(b"/") == len(names) - 1
            and b"\0" not in together
            and max(map(len, names)) <= NAME_MAX
            and b"" not in names
            and b"." not in names
            and b".." not in names
        )
    except TypeError:
        right = False
    if not right:
        bad = next((name for name in names if not _is_name(name)), b"")
        damaged(f"{_short(bad)} is no name of a file")


def check_extents(extents: list[Extent], low: int, high: int, ino: int) -> None:
    """Extents of the window [low, high) of a file, in order of their start: inside of it, and none over another."""
    at = low
    try:
        for start, stop, block, source in extents:
            if not (at <= start < stop <= high and 0 <= block < MAX_NUMBER and source | start | stop | block >= 0):
                break
            at = stop
        else:
            return
    except TypeError:
        pass
    damaged(f"the extents of inode {ino} are out of bounds")


def check_block(
    number: int, digest: bytes, pack: bytes, offset: int, stored: int, at: int, size: int, codec: int
) -> None:
    """A block inside of its pack, no larger than blocks are. Raises `NewerFormatError` for an unknown codec."""
    try:
        if codec > _LAST_CODEC:
            raise NewerFormatError(
                f"the index uses codec {codec}, which this release does not know",
                hint="install a newer release of flyteplugins-vol",
            )
        right = (
            (number | offset | stored | at | size | codec) > 0
            and 0 < number < MAX_NUMBER
            and 0 < stored <= size <= BLOCK_SIZE
            and _HEADER <= offset <= MAX_OBJECT - stored
            and at <= _MAX_MIRROR - size
            and (codec or stored == size)
            and type(digest) is type(pack) is bytes
            and len(digest) == len(pack) == 32
        )
    except TypeError:
        right = False
    if not right:
        damaged(f"block {_short(number)} is out of bounds")


def check_xattr_names(names: Sequence[bytes], ino: int) -> None:
    if len(names) > XATTRS_MAX or not all(_is_xattr_name(name) for name in names):
        damaged(f"the extended attributes of inode {ino} are out of bounds")


def check_xattr_value(value: bytes, ino: int) -> None:
    if not isinstance(value, bytes) or len(value) > XATTR_VALUE_MAX:  # pyright: ignore[reportUnnecessaryIsInstance]
        damaged(f"an extended attribute of inode {ino} is out of bounds")


def _is_name(name: object) -> bool:
    return (
        isinstance(name, bytes)
        and 0 < len(name) <= NAME_MAX
        and b"/" not in name
        and b"\0" not in name
        and name not in _DOTS
    )


def _is_xattr_name(name: object) -> bool:
    return isinstance(name, bytes) and 0 < len(name) <= NAME_MAX and b"\0" not in name


def _is_target(target: bytes | None, size: int) -> bool:
    return isinstance(target, bytes) and 0 < len(target) <= TARGET_MAX and len(target) == size and b"\0" not in target


def _short(value: object) -> str:
    return repr(value)[:100]
