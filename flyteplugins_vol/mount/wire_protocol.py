"""The kernel's FUSE protocol, as far as the wire driver speaks it: numbers and layouts of ``linux/fuse.h``.

Integers are in the machine's own order. Versions: 7.31 (Linux 5.4) is the least that is spoken, 7.45 the last that was
looked at. A request is `IN_HEADER` and a body, an answer `OUT_HEADER` and a body; names end with a NUL.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from struct import Struct

MAJOR = 7
LEAST_MINOR = 31
LAST_MINOR = 45


class Op(IntEnum):
    """Kinds of requests."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    SETXATTR = 21
    GETXATTR = 22
    LISTXATTR = 23
    REMOVEXATTR = 24
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    ACCESS = 34
    CREATE = 35
    INTERRUPT = 36
    DESTROY = 38
    IOCTL = 39
    POLL = 40
    NOTIFY_REPLY = 41
    BATCH_FORGET = 42
    FALLOCATE = 43
    READDIRPLUS = 44
    RENAME2 = 45
    LSEEK = 46
    COPY_FILE_RANGE = 47
    COPY_FILE_RANGE_64 = 53


class Init(IntFlag):
    """What the two sides can agree on at the start."""

    ASYNC_READ = 1 << 0
    ATOMIC_O_TRUNC = 1 << 3
    EXPORT_SUPPORT = 1 << 4
    BIG_WRITES = 1 << 5
    DO_READDIRPLUS = 1 << 13
    READDIRPLUS_AUTO = 1 << 14
    ASYNC_DIO = 1 << 15
    WRITEBACK_CACHE = 1 << 16
    NO_OPEN_SUPPORT = 1 << 17
    PARALLEL_DIROPS = 1 << 18
    ABORT_ERROR = 1 << 21
    MAX_PAGES = 1 << 22
    CACHE_SYMLINKS = 1 << 23
    NO_OPENDIR_SUPPORT = 1 << 24
    INIT_EXT = 1 << 30
    PASSTHROUGH = 1 << 37


class Attr:
    """Fields of a SETATTR that are to be set. Plain integers: an enumeration's & takes a microsecond, ten times."""

    MODE = 1 << 0
    UID = 1 << 1
    GID = 1 << 2
    SIZE = 1 << 3
    ATIME = 1 << 4
    MTIME = 1 << 5
    ATIME_NOW = 1 << 7
    MTIME_NOW = 1 << 8
    CTIME = 1 << 10


class Open:
    """What an open file is to be like."""

    KEEP_CACHE = 1 << 1
    NOFLUSH = 1 << 5
    PASSTHROUGH = 1 << 7


class Notify(IntEnum):
    """Messages that the file system sends without being asked."""

    INVAL_INODE = 2
    INVAL_ENTRY = 3


IN_HEADER = Struct("=IIQQIIIHH")  # length, op, unique, inode, uid, gid, pid, extensions, padding
OUT_HEADER = Struct("=IiQ")  # length, -errno, unique

INIT_IN = Struct("=IIII")  # major, minor, read-ahead, flags; later kernels send more
INIT_MORE = Struct("=I")  # the high half of the flags, with INIT_EXT
INIT_OUT = Struct("=IIIIHHIIHHII6I")
"""major, minor, read-ahead, flags, background, congestion, max write, time unit, max pages, alignment, flags, depth.

The last, with PASSTHROUGH: how many file systems may lie on one another, ours and those of the files it passes on."""
OPEN_IN = Struct("=II")  # flags, more
OPEN_OUT = Struct("=QIi")  # handle, flags, id of a file that is passed on
CREATE_IN = Struct("=IIII")  # flags, mode, umask, more
RELEASE_IN = Struct("=QIIQ")  # handle, flags, more, lock owner
BACKING_MAP = Struct("=iIQ")  # descriptor, flags, padding

ATTR = "QQQqqqIIIIIIIIII"
"""inode, size, blocks, atime, mtime, ctime, three of nanoseconds, mode, nlink, uid, gid, rdev, block size, flags."""

ENTRY_OUT = Struct(f"=QQQQII{ATTR}")  # inode, generation, validity of entry and attributes in s, the same in ns
ATTR_OUT = Struct(f"=QII{ATTR}")  # validity in s and ns, padding
DIRENT = Struct("=QQII")  # inode, cookie after it, length of the name, type
DIRENTPLUS = Struct(f"=QQQQII{ATTR}QQII")
STATFS_OUT = Struct("=QQQQQIIII24x")  # blocks, free, available, files, free files, block size, name length, fragment
WRITE_OUT = Struct("=II")
XATTR_OUT = Struct("=II")
U32 = Struct("=I")
U64 = Struct("=Q")

SETATTR_IN = Struct("=IIQQQqqqIIIIIIII")
"""valid, padding, handle, size, lock owner, atime, mtime, ctime, their nanoseconds, mode, unused, uid, gid, unused."""
MKNOD_IN = Struct("=IIII")  # mode, rdev, umask, padding
MKDIR_IN = Struct("=II")  # mode, umask
RENAME2_IN = Struct("=QII")  # new parent, flags, padding
READ_IN = Struct("=QQI")  # handle, offset, size
WRITE_IN = Struct("=QQIIQII")  # handle, offset, size, write flags, lock owner, flags, padding
WRITE_CACHE = 1  # a write flag: the kernel had the data in its cache, and a program no longer waits
XATTR_IN = Struct("=II")  # size, flags
FALLOCATE_IN = Struct("=QQQI")  # handle, offset, length, mode
LSEEK_IN = Struct("=QQI")  # handle, offset, whence
COPY_IN = Struct("=QQQQQQQ")  # handle, offset, target's inode, handle and offset, length, flags
ACCESS_IN = Struct("=I")
BATCH_FORGET_IN = Struct("=II")  # count, padding
FORGET_ONE = Struct("=QQ")  # inode, lookups

INVAL_INODE_OUT = Struct("=Qqq")  # inode, offset (-1: attributes only), length (-1: to the end)
INVAL_ENTRY_OUT = Struct("=QII")  # directory, length of the name, flags; the name follows

BACKING_OPEN = 0x4010E501  # requests of ioctl(2) on the device: _IOW(229, 1, BACKING_MAP), _IOW(229, 2, u32)
BACKING_CLOSE = 0x4004E502

MAX_WRITE = 1 << 20
"""Most bytes of one WRITE (and READ); kernels before 6.13 know no more."""
BUFFER_SIZE = MAX_WRITE + 4096
"""What a read of the device has room for: kernels refuse a reader whose buffer is smaller than a full WRITE."""
