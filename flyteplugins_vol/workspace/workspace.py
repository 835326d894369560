"""Workspace: a checked-out version plus all that changed since. Every file-system verb is one method, and atomic.

One thread owns it and nobody else touches it. Verbs raise OSError with an errno, or return `Miss` where a read has to
wait for the Store; they never block on anything but local disk.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import time
from collections.abc import Callable, Sequence
from typing import Any

from flyteplugins_vol.index.index import Index
from flyteplugins_vol.model import AttrChange, Caller, Inode, StatFs
from flyteplugins_vol.store.base import Data
from flyteplugins_vol.store.cache import BlockCache
from flyteplugins_vol.store.fetch import Miss
from flyteplugins_vol.workspace.attributes import ExtendedAttributes
from flyteplugins_vol.workspace.data import FileData
from flyteplugins_vol.workspace.disk import LocalDisk
from flyteplugins_vol.workspace.grafting import Grafting
from flyteplugins_vol.workspace.merging import Merging
from flyteplugins_vol.workspace.open_files import OpenFiles
from flyteplugins_vol.workspace.passthrough import Passthrough
from flyteplugins_vol.workspace.piped import Bytes
from flyteplugins_vol.workspace.ranges import Ranges
from flyteplugins_vol.workspace.sealing import SealedPack, SealJob
from flyteplugins_vol.workspace.staging import Burial, Staging
from flyteplugins_vol.workspace.tree import Tree, check_target
from flyteplugins_vol.workspace.unnamed import UnnamedFiles

log = logging.getLogger(__name__)

_CAPACITY = 1 << 50  # bytes that statfs calls the size of a volume: object storage has no end
_FILES = 1 << 32
_DAY = 86_400 * 10**9
_WAL_LIMIT = 64 << 20
_DIRTY_LIMIT = 20_000  # rows that memory may hold before they are flushed
_STAGING_LIMIT = 8 << 30
_WORTH_DELETING = 1 << 20  # bytes of a log file: another one costs the next fsync a sync of its name
_BURY_AFTER = 3  # ticks of `housekeep`


class Workspace:
    def __init__(
        self, index: Index, staging: Staging | None, cache: BlockCache,
        *, ripe: float | None = None, staging_limit: int | None = None,
    ) -> None:  # fmt: skip
        self.index = index
        self.read_only = staging is None
        self._staging = staging
        self._staging_limit = staging_limit or _STAGING_LIMIT
        self._data = FileData(index, staging, cache, ripe=ripe)
        self.passthrough = Passthrough(
            index, self._data, staging, self._check_writable, self._has_changed, self._keep_room
        )
        self._open_files = OpenFiles(
            index, self._data, self.passthrough, self._inode_of, self._check_writable, read_only=self.read_only
        )
        self._tree = Tree(index, self._open_files.discard)
        self._seen_changes = index.db.sql.total_changes
        self._disk = LocalDisk(os.path.dirname(index.db.path)) if staging is not None else None
        self._broken: str | None = None
        self._keeps_room = False  # where others than `_may_grow` can fill the disk
        self._ticks_with_dead = 0
        self.publishing = False  # the main index file is being read: no checkpoint
        self.changed = False  # since it was checked out or last snapshot
        self.lookup = self._tree.lookup
        self.getattr = self._tree.inode
        usage = self._open_files.usage
        self.writers, self.known_inodes = usage.writers, usage.known
        self.pass_through, self.release = self._open_files.pass_through, self._open_files.release
        self.settle = self._open_files.settle
        self.remember, self.forget = self._open_files.remember, self._open_files.forget
        self.path_of = self._tree.path_of
        ranges = Ranges(self.index, self._data, self.getattr, self._may_write, self._may_grow, self._accessed)
        self.fallocate, self.lseek, self.copy_range = ranges.fallocate, ranges.lseek, ranges.copy
        unnamed = UnnamedFiles(self.index, self._tree, usage, self._may_grow)
        self.make_unnamed, self.give_name = unnamed.make, unnamed.give_name
        xattrs = ExtendedAttributes(self.index, self._may_write, self._may_grow, self._status_changed)
        self.getxattr, self.listxattr = xattrs.get, xattrs.names
        self.setxattr, self.removexattr = xattrs.set, xattrs.remove
        grafting = Grafting(self.index, self._tree, self._may_write, self._in_sql, self._disk)
        self.graft, self.check_graft = grafting.graft, grafting.check
        self.merge = Merging(self.index, self._tree, grafting, self._may_write).merge
        if staging is not None:
            self._open_files.purge_orphans()

    # -- names -----------------------------------------------------------------------------------------------------

    def mknod(self, parent: int, name: bytes, mode: int, rdev: int, caller: Caller) -> Inode:
        self._may_grow()
        if not stat.S_IFMT(mode):
            mode |= stat.S_IFREG
        inode = self._tree.add(parent, name, mode & ~caller.umask, caller, rdev=rdev)
        if inode.is_file:
            self.index.windows.new_file(inode.ino)
        return inode

    def mkdir(self, parent: int, name: bytes, mode: int, caller: Caller) -> Inode:
        self._may_grow()
        return self._tree.add(parent, name, stat.S_IFDIR | (mode & ~caller.umask & 0o7777), caller)

    def symlink(self, parent: int, name: bytes, target: bytes, caller: Caller) -> Inode:
        self._may_grow()
        check_target(target)
        return self._tree.add(parent, name, stat.S_IFLNK | 0o777, caller, target=target)

    def readlink(self, ino: int) -> bytes:
        inode = self.getattr(ino)
        if inode.target is None:
            raise OSError(errno.EINVAL, "not a symlink")
        return inode.target

    def link(self, ino: int, new_parent: int, new_name: bytes) -> Inode:
        self._may_grow()
        return self._tree.link(ino, new_parent, new_name)

    def unlink(self, parent: int, name: bytes) -> None:
        self._may_write()
        self._tree.unlink(parent, name)

    def rmdir(self, parent: int, name: bytes) -> None:
        self._may_write()
        self._tree.rmdir(parent, name)

    def rename(self, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int = 0) -> None:
        self._may_write()
        self._tree.rename(parent, name, new_parent, new_name, flags)

    def readdir(self, ino: int, after: bytes | None, limit: int) -> list[tuple[bytes, Inode]]:
        """Entries with names greater than ``after``, in byte order, without ``.`` and ``..``."""
        inode = self.getattr(ino)
        if not inode.is_dir:
            raise OSError(errno.ENOTDIR, "not a directory")
        self._accessed(inode)
        return self.index.inodes.in_order(ino, after or b"", limit)

    # -- attributes ------------------------------------------------------------------------------------------------

    def setattr(self, ino: int, changes: AttrChange, caller: Caller) -> Inode:
        """Apply the changes that are not None; ctime becomes now unless it is among them."""
        self._may_write()
        inode = self.getattr(ino)
        now = time.time_ns()
        if changes.size is not None:
            self._truncate(inode, changes.size, now)
            if caller.uid != 0:  # a kernel that leaves O_TRUNC to us leaves this to us as well
                inode.mode = _without_privileges(inode.mode)
        if changes.mode is not None:
            inode.mode = stat.S_IFMT(inode.mode) | (changes.mode & 0o7777)
        if changes.uid is not None:
            inode.uid = changes.uid
        if changes.gid is not None:
            inode.gid = changes.gid
        if changes.atime is not None:
            inode.atime = _clamped(changes.atime)
        if changes.mtime is not None:
            inode.mtime = _clamped(changes.mtime)
        inode.ctime = now if changes.ctime is None else _clamped(changes.ctime)
        self.index.inodes.changed(inode)
        return inode

    def _truncate(self, inode: Inode, size: int, now: int) -> None:
        if inode.is_dir:
            raise OSError(errno.EISDIR, "is a directory")
        if not inode.is_file or size < 0:
            raise OSError(errno.EINVAL, "cannot be truncated")
        if inode.ino in self.passthrough.live:
            self.passthrough.truncate(inode.ino, size)
        self._data.truncate(inode, size)
        inode.mtime = inode.ctime = now
        self.index.inodes.changed(inode)

    def open(self, ino: int, flags: int) -> None:
        """Count an open. O_TRUNC is obeyed here, since the kernel leaves it to us."""
        if flags & os.O_TRUNC:
            self._may_write()
            self._truncate(self.getattr(ino), 0, time.time_ns())
        self._open_files.open(ino, flags)

    def statfs(self) -> StatFs:
        block = 4096
        used = -(-self.index.bytes // block)
        total = max(_CAPACITY // block, 2 * used)
        return StatFs(block, total, total - used, self.index.files + _FILES, _FILES)

    # -- bytes -----------------------------------------------------------------------------------------------------

    def read(self, ino: int, offset: int, size: int) -> Data | Miss:
        inode = self.getattr(ino)
        if inode.is_dir:
            raise OSError(errno.EISDIR, "is a directory")
        found = self._data.read(inode, offset, size)
        self._accessed(inode)
        return found

    def absent(self, ino: int, number: int, count: int) -> tuple[int | None, Miss | None]:
        """What of ``count`` windows with content from ``number`` on is not in the cache; and where to go on, or None.

        Holes are passed over, so a file of exabytes costs what is stored of it.
        """
        inode = self.index.inodes.get(ino)
        if inode is None:
            return None, None
        return self._data.absent(inode, number, count)

    def write(self, ino: int, offset: int, data: Bytes) -> int:
        self._may_grow(len(data))
        inode = self.getattr(ino)
        if not inode.is_file:
            raise OSError(errno.EISDIR if inode.is_dir else errno.EINVAL, "not a file")
        done = self._data.write(inode, offset, data)
        inode.mtime = inode.ctime = time.time_ns()
        self.index.inodes.changed(inode)
        return done

    def room(self) -> bool:
        """Whether Staging may grow. If not, writes wait until packs have been uploaded."""
        staging, limit = self._staging, self._staging_limit
        # waiting makes no room of what cannot be sealed as long as it is open
        return staging is None or staging.live < limit or staging.live - self.passthrough.staged() < limit

    # -- durability ------------------------------------------------------------------------------------------------

    def begin_sync(self, frozen: bool = False) -> list[int]:
        """End the transaction. All done before is durable once each of these descriptors is fdatasynced, in order.

        Bytes come before the rows that name them. The caller duplicates what it needs beyond the next verb, and calls
        `sync_failed` once one of them has failed. ``frozen``: a commit needs what the kernel writes by itself as it is,
        so that is left out.
        """
        if self._staging is None:
            return []
        if self.passthrough.live and not frozen:
            self.passthrough.catch_up(syncing=True)
        self._commit_rows()
        self._sync_names()
        rows = self.index.db.sync_fd()  # first: whoever asked Staging must sync what it names
        return [*self._staging.unsynced(), *self.passthrough.unsynced(), rows]

    def sync_failed(self, error: OSError) -> None:
        """Durable is from now on what was durable before: no more changes, no more syncs, no more versions.

        The kernel drops the pages that it could not write and tells so once: a second try would succeed without the
        bytes, and a seal could read what the disk had there before.
        """
        self._break(f"the local disk lost writes: {error}")

    def housekeep(self) -> None:
        """About once a second: let no more than that depend on this process's memory, and bound memory and WAL."""
        if self._broken is not None:
            return
        if self.passthrough.live:
            self._open_files.end_passthrough()
            self.passthrough.catch_up()
        if self.dirty:
            self._commit_rows()
        if self._staging is not None and self._staging.dead():
            self._ticks_with_dead += 1
            # no seal job came by that would do it in its worker thread
            if self._ticks_with_dead > _BURY_AFTER and not self._bury_now():
                return
        self.index.trim()
        if not self.publishing and self.index.db.wal_bytes() > _WAL_LIMIT:
            self._sync_names()
            self._in_sql(self.index.db.checkpoint)
        if self._keeps_room:
            self._keep_room()

    def begin_burial(self) -> Burial:
        """Staging's dead log files, and what must be durable before they are deleted. Ends the transaction."""
        assert self._staging is not None
        dead = self._staging.dead()
        if not dead:
            return Burial((), None)
        self._commit_rows()
        self._sync_names()
        return Burial(dead, os.dup(self.index.db.sync_fd()))

    def bury(self, burial: Burial) -> None:
        """Delete the log files of a burial that is synced."""
        assert self._staging is not None
        self._staging.bury(burial.logs)
        self._ticks_with_dead = 0

    @property
    def dirty(self) -> bool:
        """Whether memory or the open transaction holds rows that a kill would lose, or memory more than it should."""
        index = self.index
        if index.dirty or index.db.sql.total_changes != self._seen_changes or index.inodes.crowded:
            return True
        return bool(self.passthrough.live)

    def snapshot(self) -> str:
        """Bring every row into the main index file and return its path. It stays as it is while `publishing`.

        Raises RuntimeError if anything is still staged: seal first, with writers held off.
        """
        if self._data.unsealed_windows or (self._staging is not None and self._staging.live):
            raise RuntimeError("a snapshot needs everything sealed")
        self._in_sql(self.index.flush)
        self._in_sql(self.index.db.checkpoint)  # with nothing staged there are no names to sync
        if self._keeps_room:
            self._keep_room()
        if self._staging is not None:  # the index is durable and needs none of it
            self._staging.retire(_WORTH_DELETING)
            self._staging.bury(self._staging.dead())
        self._seen_changes = self.index.db.sql.total_changes
        self.publishing = True
        self.changed = False
        return self.index.db.path

    def close(self) -> None:
        """Bring all rows to disk and let go.

        While `publishing`, SQLite stays open: its last checkpoint would change the file that is being read. The rows
        are in the WAL all the same.
        """
        self.passthrough.close()
        if self._staging is not None and self._staging.live and self._broken is None:
            try:
                self._staging.write_out()
                if not self.publishing:
                    self._sync_names()
            except OSError as error:
                self._break(str(error))
        if self._broken is not None:
            self.index.db.drop()  # as after a kill: what is on disk is the last good moment
        elif self.publishing:
            self.index.commit()
        else:
            self.index.close()
            if self._staging is not None and not self.index.db.wal_bytes():
                self._staging.bury(self._staging.dead())  # closing made the rows durable
        if self._staging is not None:
            self._staging.close()

    # -- sealing ---------------------------------------------------------------------------------------------------

    @property
    def staged_bytes(self) -> int:
        return self._staging.live if self._staging is not None else 0

    @property
    def unsealed_bytes(self) -> int:
        return self._data.unsealed_bytes

    @property
    def unsealed_windows(self) -> int:
        return self._data.unsealed_windows

    def next_seal(self, everything: bool) -> SealJob | None:
        return self._data.next_seal(everything)

    def settle_known(self, job: SealJob, hashes: Sequence[bytes]) -> list[int]:
        return self._data.settle_known(job, hashes)

    def settle_pack(self, job: SealJob, sealed: SealedPack | None) -> None:
        self._data.settle_pack(job, sealed)

    def abandon_seal(self, job: SealJob) -> None:
        self._data.abandon_seal(job)

    def on_sequential(self, prefetch: Callable[[Miss], None]) -> None:
        """Whom to tell what a sequential reader will want next."""
        self._data.prefetch = prefetch

    def status(self) -> dict[str, Any]:
        """Counts for people: files, bytes, what is staged."""
        return {
            "files": self.index.files,
            "bytes": self.index.bytes,
            "staged_bytes": self.staged_bytes,
            "unsealed_windows": self.unsealed_windows,
            "dirty_rows": self.index.dirty,
            "wal_bytes": self.index.db.wal_bytes(),
        }

    # -- helpers ---------------------------------------------------------------------------------------------------

    def _inode_of(self, ino: int) -> Inode:
        return self.getattr(ino)

    def _may_write(self) -> None:
        """Every verb that changes something begins here; between two verbs memory may be bounded."""
        self._check_writable()
        self.changed = True
        if self.index.dirty > _DIRTY_LIMIT:
            self._in_sql(self.index.flush)
            self.index.trim()

    def _keep_room(self) -> bool:
        """Have the disk keep the reserve for the index, which programs could fill otherwise; whether it does."""
        assert self._disk is not None
        self._keeps_room = True
        try:
            return self.index.db.keep_room(self._disk.reserve // 2)
        except OSError:  # of a descriptor
            return False

    def _has_changed(self) -> None:
        self.changed = True

    def _check_writable(self) -> None:
        if self.read_only:
            raise OSError(errno.EROFS, "read-only volume")
        # SQLite leaves its transaction when it cannot write: then memory knows more than the disk ever will
        if self._broken is not None or not self.index.db.sql.in_transaction:
            raise self._break("the transaction ended")

    def _may_grow(self, size: int = 4096) -> None:
        """As `_may_write`, for verbs that need space on the local disk."""
        self._may_write()
        assert self._disk is not None
        try:
            self._disk.take(size)
        except OSError:
            if not self._made_room():
                raise
            self._disk.take(size)

    def _made_room(self) -> bool:
        """Delete what Staging does not need any more, at once: the verb would fail otherwise."""
        assert self._staging is not None
        self._staging.retire()
        if not self._staging.dead():
            return False
        return self._bury_now()

    def _bury_now(self) -> bool:
        burial = self.begin_burial()
        try:
            burial.sync()
        except OSError as error:
            self.sync_failed(error)
            return False
        self.bury(burial)
        return True

    def _commit_rows(self) -> None:
        if self._staging is not None and self._broken is None:
            self._staging.write_out()  # if it fails, no row may name what a kill would lose: another try comes
        self._in_sql(self.index.commit)
        self._seen_changes = self.index.db.sql.total_changes

    def _sync_names(self) -> None:
        assert self._staging is not None
        try:
            self._staging.sync_names()
        except OSError as error:
            raise self._break(f"the names of staged files could not be synced: {error}") from error

    def _in_sql(self, action: Callable[[], None]) -> None:
        """Run what must not fail; if it does, nothing that comes after may claim to be kept."""
        if self._broken is not None:
            raise self._break(self._broken)
        try:
            action()
        except Exception as error:  # of SQLite, or a value that it cannot hold: rows are lost in either case
            raise self._break(str(error) or repr(error)) from error

    def _break(self, why: str) -> OSError:
        """No more changes in this process. The directory holds the last good moment, and a new mount resumes there."""
        if self._broken is None:
            self._broken = why
            log.critical("the local disk cannot be written (%s): no more changes until the next mount", why)
        return OSError(errno.EIO, f"the local disk cannot be written: {self._broken}")

    def _accessed(self, inode: Inode) -> None:
        """relatime: note a read after a change, or once a day."""
        if self.read_only:
            return
        if inode.atime > inode.mtime and inode.atime > inode.ctime and time.time_ns() - inode.atime < _DAY:
            return
        inode.atime = time.time_ns()
        self.index.inodes.changed(inode)

    def _status_changed(self, ino: int) -> None:
        inode = self.getattr(ino)
        inode.ctime = time.time_ns()
        self.index.inodes.changed(inode)


def _clamped(time_ns: int) -> int:
    """A time that the index can hold, years 1677 to 2262: as kernel file systems clamp to what theirs can."""
    return max(-(1 << 63), min((1 << 63) - 1, time_ns))


def _without_privileges(mode: int) -> int:
    """Without setuid, and without setgid where it is not the mark of mandatory locking: as after a write."""
    if not stat.S_ISREG(mode):
        return mode
    return mode & ~(stat.S_ISUID | (stat.S_ISGID if mode & stat.S_IXGRP else 0))
