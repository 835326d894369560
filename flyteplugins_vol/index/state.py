"""What a file is, as one value: files of different indexes that are the same have equal ones."""

from __future__ import annotations

from blake3 import blake3

from flyteplugins_vol.index.index import Index
from flyteplugins_vol.index.rows import damaged


def state_of(index: Index, ino: int) -> bytes:
    """Type, mode, owner, content, target, device and extended attributes of a file, without times, as a hash.

    Of a directory without what is in it. Content is size and extents, with blocks by hash: the same bytes in other
    pieces are another one. Raises `IndexDamagedError`.
    """
    inode = index.inodes.get(ino)
    if inode is None:
        damaged(f"inode {ino} is not there")
    size = 0 if inode.is_dir else inode.size
    found = blake3(repr((inode.mode, inode.uid, inode.gid, inode.rdev, size, inode.target)).encode())
    rows = index.db.sql.execute(
        "SELECT e.start, e.length, e.skip, b.hash FROM extent e JOIN block b ON b.id=e.block WHERE e.ino=?"
        " ORDER BY e.start",
        (ino,),
    )
    for row in rows:
        found.update(repr(row).encode())
    for name in index.xattrs.names(ino):
        found.update(repr((name, index.xattrs.get(ino, name))).encode())
    return found.digest()
