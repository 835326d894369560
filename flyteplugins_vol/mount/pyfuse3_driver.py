"""The kernel through libfuse and pyfuse3; the only module that imports pyfuse3.

Handlers unpack, make one call on `Operations`, and pack. pyfuse3 ends the mount on any exception but its own FUSEError,
so `Operations` is given FUSEError to fail with. What the kernel is told, and why (design.md section 3 has the prices):
- Reads and writes come with a file handle and without the inode, so the handle *is* the inode, with two bits below:
  no table of open files, nothing to clean up.
- FLUSH is refused with ENOSYS once (the kernel still writes back dirty pages at every close); so are the extended
  attributes of a mount without them.
- Names, absent names too, and attributes stay valid for as long as the mount asks for: there is one writer, this one.
- ``default_permissions`` is left out where only root can come in: it makes every create read its directory again.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

import pyfuse3

from flyteplugins_vol.errors import MountFailedError
from flyteplugins_vol.model import AttrChange, Caller, Inode, MountSpec
from flyteplugins_vol.mount.barrier import Barrier
from flyteplugins_vol.mount.mount_options import libfuse_options
from flyteplugins_vol.mount.operations import SECRET_PREFIX, Operations
from flyteplugins_vol.mount.scheduler import Scheduler
from flyteplugins_vol.mount.trio_stand_in import TrioStandIn

log = logging.getLogger(__name__)

_WRITABLE = 1  # bits of a file handle, below the inode number
_OURS = 2
_SHIFT = 2
_IN_FLIGHT = 1000  # most requests parked or running; one more would wait in the kernel
_BLOCK_SIZE = 4096  # as ext4; measured: 128 KiB and 1 MiB change nothing, the kernel writes 1 MiB at a time in any case
_DIRECTORY_SIZE = 4096


class Pyfuse3Driver:
    """One mount through pyfuse3. Owner thread only; pyfuse3 can serve one mount per process."""

    def __init__(
        self,
        operations: Operations,
        scheduler: Scheduler,
        spec: MountSpec,
    ) -> None:
        self._spec = spec
        self._scheduler = scheduler
        self._operations = operations
        self._barrier = Barrier(spec.mount_path, pyfuse3.invalidate_inode)
        operations.secret = self._barrier.secret
        self.handlers = Handlers(operations, spec, self._barrier.threads)

    def mount(self) -> None:
        """`MountFailedError` when libfuse could not; its reason is on stderr, which is the log."""
        pyfuse3.trio = TrioStandIn(self._scheduler)  # pyright: ignore[reportAttributeAccessIssue]
        try:
            pyfuse3.init(self.handlers, self._spec.mount_path, libfuse_options(self._spec, os.geteuid()))
        except RuntimeError as error:
            raise MountFailedError(
                f"could not mount at {self._spec.mount_path}: {error}",
                hint=f"the reason is in the daemon's log, {self._spec.log_path}",
            ) from error

    async def serve(self) -> None:
        await pyfuse3.main(max_tasks=_IN_FLIGHT)

    def stop(self) -> None:
        pyfuse3.terminate()

    def close(self) -> None:
        pyfuse3.close(unmount=True)

    passes = False
    refreshes = False  # the inode's number is in the file handle, and has to be what the kernel knows it by

    def notify(self, kind: int, body: bytes) -> None:
        raise NotImplementedError

    def number_nodes(self, number: int) -> None:
        raise NotImplementedError

    @staticmethod
    def error(number: int) -> Exception:
        return pyfuse3.FUSEError(number)

    def barrier(self) -> None:
        self._barrier.flush(self._scheduler.call(self._operations.writers))


class Handlers(pyfuse3.Operations):
    """pyfuse3's callbacks."""

    def __init__(self, operations: Operations, spec: MountSpec, our_threads: AbstractSet[int]) -> None:
        super().__init__()
        self.enable_writeback_cache = spec.writeback and not spec.read_only
        if spec.passthrough:
            log.warning("no passthrough: the driver pyfuse3 has none; the mount has the write-back cache instead")
        self._ops = operations
        self._xattr = spec.xattr
        self._attr_timeout = spec.attr_cache
        self._entry_timeout = spec.entry_cache
        self._directory_timeout = spec.dir_entry_cache
        self._absent = pyfuse3.EntryAttributes()  # no inode number: "there is no such name", kept as a name is
        self._absent.entry_timeout = spec.entry_cache
        self._caller = Caller(0, 0)
        self._our_threads = our_threads  # ids of threads whose opens are the commit barrier's, see `fsync`

    # ------------------------------------------------------------------------------ names and attributes

    async def lookup(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        inode = await self._ops.lookup(parent_inode, name)
        if inode is None:
            return self._absent
        entry = self._attributes(inode)
        if name.startswith(SECRET_PREFIX):
            entry.entry_timeout = 0
        return entry

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        for ino, count in inode_list:
            try:
                await self._ops.forget(ino, count)
            except pyfuse3.FUSEError:
                pass  # nobody waits for an answer, and the log has the reason

    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        return self._attributes(await self._ops.getattr(inode))

    async def setattr(
        self,
        inode: int,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        changes = AttrChange(
            mode=attr.st_mode if fields.update_mode else None,
            uid=attr.st_uid if fields.update_uid else None,
            gid=attr.st_gid if fields.update_gid else None,
            size=attr.st_size if fields.update_size else None,
            atime=attr.st_atime_ns if fields.update_atime else None,
            mtime=attr.st_mtime_ns if fields.update_mtime else None,
            ctime=attr.st_ctime_ns if fields.update_ctime else None,
        )
        return self._attributes(await self._ops.setattr(inode, changes, self._caller_of(ctx)))

    async def readlink(self, inode: int, ctx: pyfuse3.RequestContext) -> bytes:
        return await self._ops.readlink(inode)

    async def access(self, inode: int, mode: int, ctx: pyfuse3.RequestContext) -> bool:
        return await self._ops.access(inode, mode, self._caller_of(ctx))

    async def mknod(
        self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        return self._attributes(await self._ops.mknod(parent_inode, name, mode, rdev, self._caller_of(ctx)))

    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        return self._attributes(await self._ops.mkdir(parent_inode, name, mode, self._caller_of(ctx)))

    async def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        return self._attributes(await self._ops.symlink(parent_inode, name, target, self._caller_of(ctx)))

    async def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        return self._attributes(await self._ops.link(inode, new_parent_inode, new_name))

    async def unlink(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        await self._ops.unlink(parent_inode, name)

    async def rmdir(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        await self._ops.rmdir(parent_inode, name)

    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        await self._ops.rename(parent_inode_old, name_old, parent_inode_new, name_new, flags)

    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        sizes = await self._ops.statfs()
        reply = pyfuse3.StatvfsData()
        reply.f_bsize = reply.f_frsize = sizes.block_size
        reply.f_blocks = sizes.blocks
        reply.f_bfree = reply.f_bavail = sizes.free
        reply.f_files = sizes.files
        reply.f_ffree = reply.f_favail = sizes.free_files
        reply.f_namemax = 255
        return reply

    # -------------------------------------------------------------------------------------------- files

    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: pyfuse3.RequestContext
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        inode = await self._ops.create(parent_inode, name, mode, flags, self._caller_of(ctx))
        return pyfuse3.FileInfo(fh=_handle(inode.ino, flags)), self._attributes(inode)

    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        if flags & os.O_TRUNC:
            await self._ops.setattr(inode, AttrChange(size=0), self._caller_of(ctx))
        await self._ops.open(inode, flags & ~os.O_TRUNC)
        handle = _handle(inode, flags)
        return pyfuse3.FileInfo(fh=handle | _OURS if ctx.pid in self._our_threads else handle)

    async def read(self, fh: int, off: int, size: int) -> bytes:
        return bytes(await self._ops.read(fh >> _SHIFT, off, size))

    async def write(self, fh: int, off: int, buf: bytes) -> int:
        return await self._ops.write(fh >> _SHIFT, off, buf, from_cache=self.enable_writeback_cache)

    async def flush(self, fh: int) -> None:
        self._ops.counts["flush"] += 1
        raise pyfuse3.FUSEError(errno.ENOSYS)

    async def fsync(self, fh: int, datasync: bool) -> None:
        # The barrier wants the dirty pages, which have arrived before this request; the commit itself makes them
        # durable, and a thousand open files must not cost it a thousand fdatasyncs.
        if not fh & _OURS:
            await self._ops.fsync(fh >> _SHIFT)

    async def release(self, fh: int) -> None:
        await self._ops.release(fh >> _SHIFT, os.O_RDWR if fh & _WRITABLE else os.O_RDONLY)

    # -------------------------------------------------------------------------------------- directories

    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        self._ops.counts["opendir"] += 1
        return inode  # listings need no more

    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        def emit(name: bytes, inode: Inode, cookie: int) -> bool:
            return pyfuse3.readdir_reply(token, name, self._attributes(inode), cookie)

        await self._ops.readdir(fh, start_id, emit)

    async def releasedir(self, fh: int) -> None:
        self._ops.counts["releasedir"] += 1

    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        await self._ops.fsync(fh)

    # ------------------------------------------------------------------------------ extended attributes

    async def getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        self._need_xattr("getxattr")
        return await self._ops.getxattr(inode, name)

    async def listxattr(self, inode: int, ctx: pyfuse3.RequestContext) -> Sequence[bytes]:
        self._need_xattr("listxattr")
        return await self._ops.listxattr(inode)

    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: pyfuse3.RequestContext) -> None:
        self._need_xattr("setxattr")
        await self._ops.setxattr(inode, name, value, 0)  # pyfuse3 has checked CREATE and REPLACE itself

    async def removexattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        self._need_xattr("removexattr")
        await self._ops.removexattr(inode, name)

    # ------------------------------------------------------------------------------------------- inside

    def _need_xattr(self, verb: str) -> None:
        if not self._xattr:
            self._ops.counts[verb] += 1
            raise pyfuse3.FUSEError(errno.ENOSYS)

    def _caller_of(self, ctx: pyfuse3.RequestContext) -> Caller:
        caller = self._caller  # mostly the same as last time, and four times cheaper to compare than to make
        if caller.pid != ctx.pid or caller.uid != ctx.uid or caller.gid != ctx.gid or caller.umask != ctx.umask:
            caller = self._caller = Caller(ctx.uid, ctx.gid, ctx.umask, ctx.pid)
        return caller

    def _attributes(self, inode: Inode) -> pyfuse3.EntryAttributes:
        try:
            return self._packed(inode)
        except Exception as error:  # a number that does not fit, from a damaged index: must not end the mount
            raise self._ops.failed(error, "attributes", (inode.ino,)) from None

    def _packed(self, inode: Inode) -> pyfuse3.EntryAttributes:
        entry = pyfuse3.EntryAttributes()
        mode = inode.mode
        entry.st_ino = inode.ino
        entry.st_mode = mode
        entry.st_nlink = inode.nlink
        entry.st_uid = inode.uid
        entry.st_gid = inode.gid
        if mode & 0o170000 == 0o040000:
            entry.entry_timeout = self._directory_timeout
            entry.st_size = _DIRECTORY_SIZE
            entry.st_blocks = 8
        else:
            entry.entry_timeout = self._entry_timeout
            entry.st_size = inode.size
            entry.st_blocks = (inode.allocated + 511) >> 9
            entry.st_rdev = inode.rdev
        entry.attr_timeout = self._attr_timeout
        entry.st_blksize = _BLOCK_SIZE
        entry.st_atime_ns = inode.atime
        entry.st_mtime_ns = inode.mtime
        entry.st_ctime_ns = inode.ctime
        return entry


def _handle(ino: int, flags: int) -> int:
    return ino << _SHIFT | (_WRITABLE if flags & os.O_ACCMODE else 0)
