"""Requests of the kernel as bytes, and their answers as bytes: unpack, one call on `Operations`, pack.

A handler is a coroutine ``(inode, body) → answer``; None means that the kernel waits for no answer. It looks at the
body before it first awaits, for the buffer is the next request's by then. It fails with `RequestError` only.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Awaitable, Callable, Coroutine
from struct import Struct
from typing import Any

from flyteplugins_vol.model import AttrChange, Caller, Inode, MountSpec
from flyteplugins_vol.mount import wire_protocol as wire
from flyteplugins_vol.mount.operations import SECRET_PREFIX, Operations
from flyteplugins_vol.mount.wire_barrier import FIRST, Canaries
from flyteplugins_vol.mount.wire_protocol import Attr, Op
from flyteplugins_vol.workspace.piped import Piped

Answer = bytes | None
Handler = Callable[[int, memoryview], Coroutine[Any, Any, Answer]]
Opened = Callable[[int, int], bytes]
"""Inode and flags of a file that was opened → the end of the answer."""

_WRITE_HEAD = wire.WRITE_IN.size
_BLOCK_SIZE = 4096  # as ext4
_DIRECTORY_SIZE = 4096
_SECOND = 1_000_000_000
_S_IFMT, _S_IFDIR = 0o170000, 0o040000


class RequestError(Exception):
    """The answer is an error: a positive errno."""

    def __init__(self, number: int) -> None:
        super().__init__(os.strerror(number))
        self.errno = number


class Handlers:
    """The handlers of one mount, by the number of the request in `table`."""

    def __init__(
        self,
        operations: Operations,
        spec: MountSpec,
        canaries: Canaries,
        written_back: Callable[[int], Awaitable[None]],
    ) -> None:
        self._ops = operations
        self._canaries = canaries
        self._written_back = written_back
        self._xattr = spec.xattr
        self._attr_valid = _seconds(spec.attr_cache)
        self._entry_valid = _seconds(spec.entry_cache)
        self._directory_valid = _seconds(spec.dir_entry_cache)
        self.absent = _entry_of_nothing(self._entry_valid)
        self._caller = Caller(0, 0)
        self.uid = self.gid = self.pid = 0  # of whom the request at hand is
        self.number = -1  # the bits of what the kernel knows an inode by that programs see: see `refresh_nodes`
        self.table: dict[int, Handler] = {
            Op.LOOKUP: self.lookup,
            Op.FORGET: self.forget,
            Op.GETATTR: self.getattr,
            Op.SETATTR: self.setattr,
            Op.READLINK: self.readlink,
            Op.SYMLINK: self.symlink,
            Op.MKNOD: self.mknod,
            Op.MKDIR: self.mkdir,
            Op.UNLINK: self.unlink,
            Op.RMDIR: self.rmdir,
            Op.RENAME: self.rename,
            Op.LINK: self.link,
            Op.READ: self.read,
            Op.WRITE: self.write,
            Op.STATFS: self.statfs,
            Op.FSYNC: self.fsync,
            Op.SETXATTR: self.setxattr,
            Op.GETXATTR: self.getxattr,
            Op.LISTXATTR: self.listxattr,
            Op.REMOVEXATTR: self.removexattr,
            Op.READDIR: self.readdir,
            Op.FSYNCDIR: self.fsync,
            Op.ACCESS: self.access,
            Op.BATCH_FORGET: self.batch_forget,
            Op.FALLOCATE: self.fallocate,
            Op.READDIRPLUS: self.readdirplus,
            Op.RENAME2: self.rename2,
            Op.LSEEK: self.lseek,
            Op.COPY_FILE_RANGE: self.copy_file_range,
            Op.COPY_FILE_RANGE_64: self.copy_file_range_64,
        }

    def hear_of_opens(self, opened: Opened) -> None:
        """From the start: the kernel tells who opens and closes files, and ``opened`` what it is to do with them."""
        self._opened = opened
        self._canaries.opened = wire.OPEN_OUT.pack(0, 0, 0)
        self.table |= {Op.OPEN: self.open, Op.CREATE: self.create, Op.RELEASE: self.release}

    # ------------------------------------------------------------------------------ names and attributes

    async def lookup(self, ino: int, body: memoryview) -> Answer:
        name = bytes(body[:-1])
        if name.startswith(SECRET_PREFIX) and (canary := self._canaries.lookup(name)) is not None:
            return canary
        inode = await self._ops.lookup(ino, name)
        return self.absent if inode is None else self._entry(inode)

    async def forget(self, ino: int, body: memoryview) -> Answer:
        await self._ops.forget(ino, wire.U64.unpack_from(body)[0])
        return None

    async def batch_forget(self, ino: int, body: memoryview) -> Answer:
        count, _ = wire.BATCH_FORGET_IN.unpack_from(body)
        start = wire.BATCH_FORGET_IN.size
        forgotten = list(wire.FORGET_ONE.iter_unpack(body[start : start + count * wire.FORGET_ONE.size]))
        for one, lookups in forgotten:
            if one < FIRST:
                try:
                    await self._ops.forget(one, lookups)
                except RequestError:
                    pass  # nobody waits for an answer, and the log has the reason
        return None

    async def getattr(self, ino: int, body: memoryview) -> Answer:
        return self._attributes(await self._ops.getattr(ino))

    async def setattr(self, ino: int, body: memoryview) -> Answer:
        valid, _, _, size, _, atime, mtime, ctime, a_ns, m_ns, c_ns, mode, _, uid, gid, _ = wire.SETATTR_IN.unpack_from(
            body
        )
        now = time.time_ns() if valid & (Attr.ATIME_NOW | Attr.MTIME_NOW) else 0
        changes = AttrChange(
            mode=mode if valid & Attr.MODE else None,
            uid=uid if valid & Attr.UID else None,
            gid=gid if valid & Attr.GID else None,
            size=size if valid & Attr.SIZE else None,
            atime=(now if valid & Attr.ATIME_NOW else atime * _SECOND + a_ns) if valid & Attr.ATIME else None,
            mtime=(now if valid & Attr.MTIME_NOW else mtime * _SECOND + m_ns) if valid & Attr.MTIME else None,
            ctime=ctime * _SECOND + c_ns if valid & Attr.CTIME else None,
        )
        return self._attributes(await self._ops.setattr(ino, changes, self._who()))

    async def readlink(self, ino: int, body: memoryview) -> Answer:
        return await self._ops.readlink(ino)

    async def access(self, ino: int, body: memoryview) -> Answer:
        mask = wire.ACCESS_IN.unpack_from(body)[0]
        if not await self._ops.access(ino, mask, self._who()):
            raise RequestError(errno.EACCES)
        return b""

    async def mknod(self, ino: int, body: memoryview) -> Answer:
        mode, rdev, umask, _ = wire.MKNOD_IN.unpack_from(body)
        name = bytes(body[wire.MKNOD_IN.size : -1])
        return self._entry(await self._ops.mknod(ino, name, mode, rdev, self._who(umask)))

    async def mkdir(self, ino: int, body: memoryview) -> Answer:
        mode, umask = wire.MKDIR_IN.unpack_from(body)
        name = bytes(body[wire.MKDIR_IN.size : -1])
        return self._entry(await self._ops.mkdir(ino, name, mode, self._who(umask)))

    async def symlink(self, ino: int, body: memoryview) -> Answer:
        name, target = _names(body)
        return self._entry(await self._ops.symlink(ino, name, target, self._who()))

    async def link(self, ino: int, body: memoryview) -> Answer:
        linked = wire.U64.unpack_from(body)[0]
        return self._entry(await self._ops.link(linked, ino, bytes(body[wire.U64.size : -1])))

    async def unlink(self, ino: int, body: memoryview) -> Answer:
        await self._ops.unlink(ino, bytes(body[:-1]))
        return b""

    async def rmdir(self, ino: int, body: memoryview) -> Answer:
        await self._ops.rmdir(ino, bytes(body[:-1]))
        return b""

    async def rename(self, ino: int, body: memoryview) -> Answer:
        new_parent = wire.U64.unpack_from(body)[0]
        name, new_name = _names(body[wire.U64.size :])
        await self._ops.rename(ino, name, new_parent, new_name, 0)
        return b""

    async def rename2(self, ino: int, body: memoryview) -> Answer:
        new_parent, flags, _ = wire.RENAME2_IN.unpack_from(body)
        name, new_name = _names(body[wire.RENAME2_IN.size :])
        await self._ops.rename(ino, name, new_parent, new_name, flags)
        return b""

    async def statfs(self, ino: int, body: memoryview) -> Answer:
        sizes = await self._ops.statfs()
        return wire.STATFS_OUT.pack(
            sizes.blocks, sizes.free, sizes.free, sizes.files, sizes.free_files,
            sizes.block_size, 255, sizes.block_size, 0,
        )  # fmt: skip

    # -------------------------------------------------------------------------------------------- files

    async def create(self, ino: int, body: memoryview) -> Answer:
        flags, mode, umask, _ = wire.CREATE_IN.unpack_from(body)
        name = bytes(body[wire.CREATE_IN.size : -1])
        inode = await self._ops.create(ino, name, mode, flags, self._who(umask))
        opened = self._opened(inode.ino, flags)
        return self._entry(inode) + opened

    async def open(self, ino: int, body: memoryview) -> Answer:
        flags = wire.OPEN_IN.unpack_from(body)[0]
        if flags & os.O_TRUNC:
            await self._ops.setattr(ino, AttrChange(size=0), self._who())
        await self._ops.open(ino, flags & ~os.O_TRUNC)
        return self._opened(ino, flags)

    async def release(self, ino: int, body: memoryview) -> Answer:
        flags = wire.RELEASE_IN.unpack_from(body)[1]
        await self._ops.release(ino, flags)
        return b""

    async def read(self, ino: int, body: memoryview) -> Answer:
        _, offset, size = wire.READ_IN.unpack_from(body)
        return await self._ops.read(ino, offset, size)

    async def write(self, ino: int, body: memoryview) -> Answer:
        """A write that has to wait."""
        _, offset, size, flags, _, _, _ = wire.WRITE_IN.unpack_from(body)
        data = bytes(body[_WRITE_HEAD : _WRITE_HEAD + size])  # the buffer is for the next request
        done = await self._ops.write(ino, offset, data, from_cache=flags & wire.WRITE_CACHE)
        return wire.WRITE_OUT.pack(done, 0)

    def write_now(self, ino: int, body: memoryview, piped: Piped | None) -> int:
        """A write that need not wait: how many bytes were taken. ``piped``: its data, if they are not in the body."""
        _, offset, size, flags, _, _, _ = wire.WRITE_IN.unpack_from(body)
        data = body[_WRITE_HEAD : _WRITE_HEAD + size] if piped is None else piped
        return self._ops.write_now(ino, offset, data, flags & wire.WRITE_CACHE)

    async def fsync(self, ino: int, body: memoryview) -> Answer:
        await self._ops.fsync(ino)
        return b""

    async def fallocate(self, ino: int, body: memoryview) -> Answer:
        _, offset, length, mode = wire.FALLOCATE_IN.unpack_from(body)
        await self._ops.fallocate(ino, offset, length, mode)
        return b""

    async def lseek(self, ino: int, body: memoryview) -> Answer:
        _, offset, whence = wire.LSEEK_IN.unpack_from(body)
        if not self._ops.is_cut(ino):  # that would drop the only copy
            await self._written_back(ino)  # the kernel asks without a look at its dirty pages: they are no holes
        return wire.U64.pack(await self._ops.lseek(ino, offset, whence))

    async def copy_file_range(self, ino: int, body: memoryview) -> Answer:
        return wire.WRITE_OUT.pack(await self._copy(ino, body), 0)

    async def copy_file_range_64(self, ino: int, body: memoryview) -> Answer:
        return wire.U64.pack(await self._copy(ino, body))

    async def _copy(self, ino: int, body: memoryview) -> int:
        _, offset, target, _, target_offset, size, flags = wire.COPY_IN.unpack_from(body)
        if flags:
            raise RequestError(errno.EINVAL)
        return await self._ops.copy_range(ino, offset, target, target_offset, size)

    # -------------------------------------------------------------------------------------- directories

    async def readdir(self, ino: int, body: memoryview) -> Answer:
        _, cookie, size = wire.READ_IN.unpack_from(body)
        parts: list[bytes] = []
        pack, number = wire.DIRENT.pack, self.number

        def emit(name: bytes, inode: Inode, after: int) -> bool:
            nonlocal size
            length = len(name)
            entry = (wire.DIRENT.size + length + 7) & ~7
            if entry > size:
                return False
            size -= entry
            parts.append(pack(inode.ino & number, after, length, inode.mode >> 12))
            parts.append(name)
            parts.append(_PADDING[-length & 7])
            return True

        await self._ops.readdir(ino, cookie, emit, known=False)
        return b"".join(parts)

    async def readdirplus(self, ino: int, body: memoryview) -> Answer:
        _, cookie, size = wire.READ_IN.unpack_from(body)
        parts: list[bytes] = []
        number = self.number

        def emit(name: bytes, inode: Inode, after: int) -> bool:
            nonlocal size
            length = len(name)
            entry = (wire.DIRENTPLUS.size + length + 7) & ~7
            if entry > size:
                return False
            size -= entry
            parts.append(self._pack_inode(_PLUS, inode, (inode.ino & number, after, length, inode.mode >> 12)))
            parts.append(name)
            parts.append(_PADDING[-length & 7])
            return True

        await self._ops.readdir(ino, cookie, emit)
        return b"".join(parts)

    # ------------------------------------------------------------------------------ extended attributes

    async def getxattr(self, ino: int, body: memoryview) -> Answer:
        self._need_xattr("getxattr")
        size, _ = wire.XATTR_IN.unpack_from(body)
        return _sized(await self._ops.getxattr(ino, bytes(body[wire.XATTR_IN.size : -1])), size)

    async def listxattr(self, ino: int, body: memoryview) -> Answer:
        self._need_xattr("listxattr")
        size, _ = wire.XATTR_IN.unpack_from(body)
        return _sized(b"".join(name + b"\0" for name in await self._ops.listxattr(ino)), size)

    async def setxattr(self, ino: int, body: memoryview) -> Answer:
        self._need_xattr("setxattr")
        size, flags = wire.XATTR_IN.unpack_from(body)
        name, _, value = bytes(body[wire.XATTR_IN.size :]).partition(b"\0")
        await self._ops.setxattr(ino, name, value[:size], flags)
        return b""

    async def removexattr(self, ino: int, body: memoryview) -> Answer:
        self._need_xattr("removexattr")
        await self._ops.removexattr(ino, bytes(body[:-1]))
        return b""

    # ------------------------------------------------------------------------------------------- inside

    def _need_xattr(self, verb: str) -> None:
        if not self._xattr:
            self._ops.counts[verb] += 1
            raise RequestError(errno.ENOSYS)

    def _who(self, umask: int = 0) -> Caller:
        caller = self._caller  # mostly the same as last time, and cheaper to compare than to make
        if caller.pid != self.pid or caller.uid != self.uid or caller.gid != self.gid or caller.umask != umask:
            caller = self._caller = Caller(self.uid, self.gid, umask, self.pid)
        return caller

    def _attributes(self, inode: Inode) -> bytes:
        seconds, nanoseconds = self._attr_valid
        try:
            mode = inode.mode
            is_dir = mode & _S_IFMT == _S_IFDIR
            atime, a_ns = divmod(inode.atime, _SECOND)
            mtime, m_ns = divmod(inode.mtime, _SECOND)
            ctime, c_ns = divmod(inode.ctime, _SECOND)
            return wire.ATTR_OUT.pack(
                seconds, nanoseconds, 0,
                inode.ino & self.number,
                _DIRECTORY_SIZE if is_dir else inode.size, 8 if is_dir else (inode.allocated + 511) >> 9,
                atime, mtime, ctime, a_ns, m_ns, c_ns,
                mode, inode.nlink, inode.uid, inode.gid, inode.rdev, _BLOCK_SIZE, 0,
            )  # fmt: skip
        except Exception as error:  # a number that does not fit, from a damaged index: must not end the mount
            raise self._ops.failed(error, "attributes", (inode.ino,)) from None

    def _entry(self, inode: Inode) -> bytes:
        return self._pack_inode(wire.ENTRY_OUT, inode)

    def _pack_inode(self, layout: Struct, inode: Inode, more: tuple[int, ...] = ()) -> bytes:
        try:
            mode = inode.mode
            is_dir = mode & _S_IFMT == _S_IFDIR
            seconds, nanoseconds = self._directory_valid if is_dir else self._entry_valid
            attr_seconds, attr_nanoseconds = self._attr_valid
            ino = inode.ino
            atime, a_ns = divmod(inode.atime, _SECOND)
            mtime, m_ns = divmod(inode.mtime, _SECOND)
            ctime, c_ns = divmod(inode.ctime, _SECOND)
            return layout.pack(
                ino, 0, seconds, attr_seconds, nanoseconds, attr_nanoseconds,
                ino & self.number,
                _DIRECTORY_SIZE if is_dir else inode.size, 8 if is_dir else (inode.allocated + 511) >> 9,
                atime, mtime, ctime, a_ns, m_ns, c_ns,
                mode, inode.nlink, inode.uid, inode.gid, inode.rdev, _BLOCK_SIZE, 0,
                *more,
            )  # fmt: skip
        except Exception as error:
            raise self._ops.failed(error, "attributes", (inode.ino,)) from None


_PLUS = wire.DIRENTPLUS
_PADDING = [bytes(count) for count in range(8)]


def _seconds(time_to_live: float) -> tuple[int, int]:
    whole = int(time_to_live)
    return whole, int((time_to_live - whole) * _SECOND)


def _entry_of_nothing(valid: tuple[int, int]) -> bytes:
    """No inode number: "there is no such name", kept as a name is."""
    return wire.ENTRY_OUT.pack(0, 0, valid[0], 0, valid[1], *[0] * 17)


def _names(body: memoryview) -> tuple[bytes, bytes]:
    first, _, second = bytes(body).partition(b"\0")
    return first, second.rstrip(b"\0")


def _sized(value: bytes, size: int) -> bytes:
    """The kernel asks for the size of an extended attribute with room for nothing."""
    if size == 0:
        return wire.XATTR_OUT.pack(len(value), 0)
    if len(value) > size:
        raise RequestError(errno.ERANGE)
    return value
