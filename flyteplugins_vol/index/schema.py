"""The schema of an index. Its comments are part of docs/FORMAT.md: a column means what they say, for ever."""

from __future__ import annotations

APPLICATION_ID = 0x466C5669  # "FlVi"
FORMAT = 1
PAGE_SIZE = 4096

TABLES = (
    # Counters that would cost a scan: next_ino, next_block, next_pack (greater than any number ever given), files
    # (inodes with a name, the root included), bytes (sum of the sizes of regular files with a name, modulo 2^64, kept
    # as the signed integer with the same 64 bits).
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    # One row for each file of any type; 1 is the root. mode: type and permission bits of Linux's stat(2). nlink: names;
    # of a directory 2 and its subdirectories; 0: an orphan, unlinked while open, which has a row in `orphan`. rdev: of
    # a device, Linux's 32 bits: minor & 0xff | major << 8 | (minor & ~0xff) << 12. size: bytes; of a symlink the length
    # of target. allocated: bytes covered by extents. atime, mtime, ctime: nanoseconds since 1970, signed. parent: of a
    # directory (the root's is the root), else 0. target: of a symlink, else NULL.
    """CREATE TABLE inode (ino INTEGER PRIMARY KEY, mode INTEGER NOT NULL, nlink INTEGER NOT NULL,
       uid INTEGER NOT NULL, gid INTEGER NOT NULL, rdev INTEGER NOT NULL, size INTEGER NOT NULL,
       allocated INTEGER NOT NULL, atime INTEGER NOT NULL, mtime INTEGER NOT NULL, ctime INTEGER NOT NULL,
       parent INTEGER NOT NULL, target BLOB) STRICT""",
    # One row for each name: 1 to 255 bytes, any but '/' and NUL, never '.' or '..'; no character set is implied.
    """CREATE TABLE entry (parent INTEGER NOT NULL, name BLOB NOT NULL, ino INTEGER NOT NULL,
 PRIMARY KEY (parent, name)) STRICT, WITHOUT ROWID""",
    # Bytes [start, start + length) of a regular file are bytes [skip, skip + length) of a block. Extents of a file
    # never overlap, never cross a multiple of 4 MiB, never pass its size; what none covers reads as zeros.
    """CREATE TABLE extent (ino INTEGER NOT NULL, start INTEGER NOT NULL, length INTEGER NOT NULL,
       block INTEGER NOT NULL, skip INTEGER NOT NULL, PRIMARY KEY (ino, start)) STRICT, WITHOUT ROWID""",
    # Bytes [start, start + length) of a file are in Staging at pos. Always empty in a published index.
    """CREATE TABLE staged (ino INTEGER NOT NULL, start INTEGER NOT NULL, length INTEGER NOT NULL, pos INTEGER NOT NULL,
 PRIMARY KEY (ino, start)) STRICT, WITHOUT ROWID""",
    # hash: BLAKE3 of the plain bytes. Stored bytes are [offset, offset + stored) of the pack's object; at: sum of the
    # plain sizes of the pack's entries before this one. size: plain bytes. codec: 0 plain, 1 zstd. refs: extents that
    # name it, more than 0.
    """CREATE TABLE block (id INTEGER PRIMARY KEY, hash BLOB NOT NULL, pack INTEGER NOT NULL, offset INTEGER NOT NULL,
 stored INTEGER NOT NULL, at INTEGER NOT NULL, size INTEGER NOT NULL, codec INTEGER NOT NULL, refs INTEGER NOT NULL)
 STRICT""",
    "CREATE UNIQUE INDEX block_hash ON block (hash)",
    # name: the pack's 32-byte name. size: bytes of the object. blocks: rows of `block` in it, more than 0.
    """CREATE TABLE pack (id INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE, size INTEGER NOT NULL,
 blocks INTEGER NOT NULL) STRICT""",
    # Extended attributes: the whole name with its namespace, 1 to 255 bytes without NUL; value at most 65,536 bytes.
    """CREATE TABLE xattr (ino INTEGER NOT NULL, name BLOB NOT NULL, value BLOB NOT NULL,
 PRIMARY KEY (ino, name)) STRICT, WITHOUT ROWID""",
    # Inodes with nlink 0: whoever writes next removes them. No reader shows them.
    "CREATE TABLE orphan (ino INTEGER PRIMARY KEY) STRICT",
)


def create_statements() -> list[str]:
    """The statements of the schema on one line each, as SQLite keeps them in ``sqlite_schema``."""
    return [" ".join(statement.split()) for statement in TABLES]
