"""A file system in memory that writes down every change, in order: ``python recorder.py MOUNT JOURNAL``.

Each entry of the journal is a pickled tuple; `lossy_disk` makes of any part of it what a disk would hold after a power
cut. Marks of the test are in the same order: whatever is stored in the extended attribute ``user.mark`` of the root.
"""

from __future__ import annotations

import errno
import os
import pickle
import stat
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import pyfuse3
import trio

FOR_EVER = 1000.0  # seconds that the kernel may keep names and attributes: nobody else changes them


@dataclass
class Node:
    ino: int
    mode: int
    data: bytearray = field(default_factory=bytearray)
    names: dict[bytes, int] = field(default_factory=dict)
    links: int = 1
    known: int = 0
    mtime: int = 0


class Recorder(pyfuse3.Operations):
    enable_writeback_cache = False  # a write is in the journal when write(2) returns

    def __init__(self, journal: str) -> None:
        super().__init__()
        self._journal = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._nodes = {pyfuse3.ROOT_INODE: Node(pyfuse3.ROOT_INODE, stat.S_IFDIR | 0o700)}
        self._next = pyfuse3.ROOT_INODE + 1

    def _note(self, *entry: Any) -> None:
        os.write(self._journal, pickle.dumps(entry))

    def _attributes(self, node: Node) -> pyfuse3.EntryAttributes:
        entry = pyfuse3.EntryAttributes()
        entry.st_ino, entry.st_mode, entry.st_nlink = node.ino, node.mode, node.links
        entry.st_size, entry.st_blocks, entry.st_blksize = len(node.data), -(-len(node.data) // 512), 4096
        entry.st_uid, entry.st_gid = os.getuid(), os.getgid()
        entry.st_mtime_ns = entry.st_ctime_ns = entry.st_atime_ns = node.mtime
        entry.entry_timeout = entry.attr_timeout = FOR_EVER
        return entry

    def _child(self, parent: int, name: bytes) -> Node:
        ino = self._nodes[parent].names.get(name)
        if ino is None:
            raise pyfuse3.FUSEError(errno.ENOENT)
        return self._nodes[ino]

    def _add(self, parent: int, name: bytes, mode: int) -> pyfuse3.EntryAttributes:
        if name in self._nodes[parent].names:
            raise pyfuse3.FUSEError(errno.EEXIST)
        node = self._nodes[self._next] = Node(self._next, mode, known=1)
        self._next += 1
        self._nodes[parent].names[name] = node.ino
        self._note("make", node.ino, stat.S_ISDIR(mode))
        self._note("name", parent, name, node.ino)
        return self._attributes(node)

    def _drop(self, parent: int, name: bytes) -> None:
        node = self._child(parent, name)
        del self._nodes[parent].names[name]
        node.links -= 1
        self._free(node)

    def _free(self, node: Node) -> None:
        if node.links <= 0 and node.known <= 0:
            self._nodes.pop(node.ino, None)

    async def lookup(self, parent_inode: int, name: bytes, ctx: Any) -> pyfuse3.EntryAttributes:
        node = self._child(parent_inode, name)
        node.known += 1
        return self._attributes(node)

    async def forget(self, inode_list: Any) -> None:
        for ino, count in inode_list:
            node = self._nodes.get(ino)
            if node is not None and ino != pyfuse3.ROOT_INODE:
                node.known -= count
                self._free(node)

    async def getattr(self, inode: int, ctx: Any) -> pyfuse3.EntryAttributes:
        return self._attributes(self._nodes[inode])

    async def setattr(self, inode: int, attr: Any, fields: Any, fh: Any, ctx: Any) -> pyfuse3.EntryAttributes:
        node = self._nodes[inode]
        if fields.update_size:
            size = attr.st_size
            node.mtime = time.time_ns()
            node.data = node.data[:size] + bytes(max(0, size - len(node.data)))
            self._note("truncate", inode, size)
        if fields.update_mode:
            node.mode = attr.st_mode
        if fields.update_mtime:
            node.mtime = attr.st_mtime_ns
        return self._attributes(node)

    async def create(self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: Any) -> Any:
        entry = self._add(parent_inode, name, mode)
        return pyfuse3.FileInfo(fh=entry.st_ino), entry

    async def mkdir(self, parent_inode: int, name: bytes, mode: int, ctx: Any) -> pyfuse3.EntryAttributes:
        return self._add(parent_inode, name, stat.S_IFDIR | stat.S_IMODE(mode))

    async def open(self, inode: int, flags: int, ctx: Any) -> pyfuse3.FileInfo:
        if flags & os.O_TRUNC:
            self._nodes[inode].data = bytearray()
            self._note("truncate", inode, 0)
        return pyfuse3.FileInfo(fh=inode, keep_cache=True)

    async def opendir(self, inode: int, ctx: Any) -> int:
        return inode

    async def read(self, fh: int, off: int, size: int) -> bytes:
        return bytes(self._nodes[fh].data[off : off + size])

    async def write(self, fh: int, off: int, buf: bytes) -> int:
        data = self._nodes[fh].data
        if off > len(data):
            data.extend(bytes(off - len(data)))
        data[off : off + len(buf)] = buf
        self._nodes[fh].mtime = time.time_ns()
        self._note("write", fh, off, bytes(buf))
        return len(buf)

    async def fsync(self, fh: int, datasync: bool) -> None:
        self._note("fsync", fh)

    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        if not datasync:  # ext4's fdatasync of a directory leaves names out
            self._note("fsync", fh)

    async def link(self, inode: int, new_parent: int, new_name: bytes, ctx: Any) -> pyfuse3.EntryAttributes:
        if new_name in self._nodes[new_parent].names:
            raise pyfuse3.FUSEError(errno.EEXIST)
        node = self._nodes[inode]
        self._nodes[new_parent].names[new_name] = inode
        node.links += 1
        node.known += 1
        self._note("name", new_parent, new_name, inode)
        return self._attributes(node)

    async def unlink(self, parent_inode: int, name: bytes, ctx: Any) -> None:
        self._drop(parent_inode, name)
        self._note("unname", parent_inode, name)

    async def rmdir(self, parent_inode: int, name: bytes, ctx: Any) -> None:
        if self._child(parent_inode, name).names:
            raise pyfuse3.FUSEError(errno.ENOTEMPTY)
        await self.unlink(parent_inode, name, ctx)

    async def rename(self, old: int, name: bytes, new: int, new_name: bytes, flags: int, ctx: Any) -> None:
        node = self._child(old, name)
        if new_name in self._nodes[new].names:
            self._drop(new, new_name)
        del self._nodes[old].names[name]
        self._nodes[new].names[new_name] = node.ino
        self._note("rename", old, name, new, new_name)

    async def readdir(self, fh: int, start_id: int, token: Any) -> None:
        names = sorted(self._nodes[fh].names.items())
        for number, (name, ino) in enumerate(names[start_id:], start_id + 1):
            if not pyfuse3.readdir_reply(token, name, self._attributes(self._nodes[ino]), number):
                return
            self._nodes[ino].known += 1

    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: Any) -> None:
        self._note("mark", value.decode())

    async def statfs(self, ctx: Any) -> pyfuse3.StatvfsData:
        found = pyfuse3.StatvfsData()
        found.f_bsize = found.f_frsize = 4096
        found.f_blocks = found.f_bfree = found.f_bavail = 1 << 24
        found.f_files = found.f_ffree = found.f_favail = 1 << 20
        found.f_namemax = 255
        return found


def main(mount: str, journal: str) -> None:
    options = {*pyfuse3.default_options, "fsname=recorder"} - {"default_permissions"}
    pyfuse3.init(Recorder(journal), mount, options)
    print("mounted", flush=True)
    trio.run(pyfuse3.main)
    pyfuse3.close(unmount=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
