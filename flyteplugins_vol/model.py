"""Plain values that every layer shares: inodes, callers, changes, and what a mount is told."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

ROOT_INO = 1
"""Inode number of a volume's root directory."""

BLOCK_SIZE = 4 << 20
"""Most bytes of file content in one block; blocks never cross a multiple of it in their file."""


class Inode:
    """One file, directory, symlink or special file. Times are nanoseconds since 1970, sizes are bytes."""

    __slots__ = (
        "allocated", "atime", "ctime", "gid", "ino", "mode", "mtime", "nlink", "parent", "rdev", "size", "target",
        "uid",
    )  # fmt: skip

    def __init__(
        self, ino: int, mode: int, nlink: int, uid: int, gid: int, rdev: int, size: int, allocated: int,
        atime: int, mtime: int, ctime: int, parent: int, target: bytes | None,
    ) -> None:  # fmt: skip
        self.ino = ino
        self.mode = mode
        self.nlink = nlink
        self.uid = uid
        self.gid = gid
        self.rdev = rdev
        self.size = size
        self.allocated = allocated
        self.atime = atime
        self.mtime = mtime
        self.ctime = ctime
        self.parent = parent  # of a directory; 0 for the rest, which may have several
        self.target = target  # of a symlink

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the identity that new files get and that permission rules look at."""

    uid: int
    gid: int
    umask: int = 0
    pid: int = 0


@dataclass(frozen=True, slots=True)
class AttrChange:
    """Attributes to set; None leaves one as it is. Times are nanoseconds since 1970."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    atime: int | None = None
    mtime: int | None = None
    ctime: int | None = None


class StatFs(NamedTuple):
    """Sizes of the file system in units of ``block_size`` bytes, and counts of inodes."""

    block_size: int
    blocks: int
    free: int
    files: int
    free_files: int


@dataclass(frozen=True)
class MountSpec:
    """All that a daemon is told about its mount. It travels through a pipe, since it may carry credentials."""

    volume_id: str
    volume_name: str
    store_url: str
    mount_path: str
    meta_dir: str
    cache_dir: str
    store_options: Mapping[str, Any] = field(default_factory=lambda: {}, repr=False)
    base: str | None = None  # locator of the version to check out; None: an empty volume
    read_only: bool = False
    cache_size: int | None = None  # bytes; None: a share of the free disk
    max_uploads: int = 50
    attr_cache: float = 60.0  # seconds, as the next two
    entry_cache: float = 60.0
    dir_entry_cache: float = 60.0
    timeout: float = 120.0  # seconds for the mount to answer
    writeback: bool = True
    passthrough: bool = False  # where kernel and rights allow it; then there is no write-back cache
    upload_delay: float | None = None  # seconds without a write before a window may be sealed
    subdir: str | None = None
    xattr: bool = False
    allow_other: bool = False
    warmup: tuple[str, ...] = ()
    autocommit: float | None = None  # seconds between commits
    autocommit_bytes: int | None = None  # written bytes between commits
    follow: float | None = None  # seconds between two looks for a newer version to show, of a read-only mount
    log_path: str | None = None
    author: str | None = None
    produced_by: Mapping[str, Any] | None = None
    resume: bool = True
    resume_of: str | None = None  # id of the volume that the workspace is of, which becomes another's first version
    lease_seconds: float = 30.0  # for which a lease is lent and then renewed; 0: none is taken
    high_throughput: bool = False  # for very many files: more memory, less time for each
    claim: int | None = None  # descriptor of the directory that is mounted on, which client and daemon share
    mount_id: str = ""  # of this one mount: in its workspace's lock, to be known again

    @property
    def autocommits(self) -> bool:
        """Whether changes are published without being asked for each time, and when the mount ends."""
        return self.autocommit is not None or self.autocommit_bytes is not None

    def to_wire(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> MountSpec:
        fields: dict[str, Any] = dict(wire)
        fields["warmup"] = tuple(fields["warmup"])
        return cls(**fields)
