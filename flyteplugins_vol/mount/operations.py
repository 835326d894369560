"""From kernel requests to verbs of the workspace, in plain values: inode numbers, names as bytes, bytes.

A driver calls these coroutines and packs what they return; each ends in a value or in the driver's own error, made from
an errno, and in nothing else (`errnos`): an exception inside the file system is one request's EIO, and the mount lives.

How each is guarded, and when it waits, is in `guards`: `read` parks on a miss, `write` also while staging is full,
`fsync` until the local disk has the bytes.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
import stat
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from flyteplugins_vol.errors import CommitError, VolumeError
from flyteplugins_vol.model import ROOT_INO, AttrChange, Caller, Inode, StatFs
from flyteplugins_vol.mount import errnos
from flyteplugins_vol.mount.group_sync import GroupSync
from flyteplugins_vol.mount.guards import answering, changing, waiting
from flyteplugins_vol.mount.listings import DOTS, Listing, Listings
from flyteplugins_vol.mount.lost_writes import LostWrites
from flyteplugins_vol.mount.protocols import Fetcher, Workspace
from flyteplugins_vol.mount.scheduler import Scheduler, Task
from flyteplugins_vol.workspace.data import MAX_SIZE
from flyteplugins_vol.workspace.piped import Bytes

log = logging.getLogger(__name__)

SECRET_PREFIX = b".flytevol-"
"""Names that begin so may be secret ones (see `barrier`): drivers must not let the kernel keep them."""

_NAME_MAX = 256
_ZEROS = 0x02 | 0x10  # modes of fallocate(2) that punch a hole, or zero a range
_FETCHES = 100  # a read that still misses after so many fetches is a bug, or a cache smaller than one request
_UPLOAD_NOTICE = 16 << 20  # bytes written after which the uploader is told, as it is with every tick: one pack's worth

Emit = Callable[[bytes, Inode, int], bool]
"""Add an entry (name, inode, cookie after it) to the reply; False: it is full."""


class Operations:
    """What a driver may ask for. Owner thread only; ``counts`` is the number of requests of each kind so far."""

    def __init__(
        self,
        workspace: Workspace,
        fetcher: Fetcher,
        scheduler: Scheduler,
        *,
        error: Callable[[int], Exception],
        staged: Callable[[], object] = bool,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.changes = 0  # that have begun, which can be one or not; those that are parked have not
        self.error = error
        self.scheduler = scheduler
        self.secret = b""  # of the names by which the barrier reaches inodes
        self.frozen = False
        self.until_thaw: list[Task] = []
        self.losses = LostWrites(self._path_of)
        self._workspace = workspace
        self._fetcher = fetcher
        self._staged = staged
        self._until_room: list[Task] = []
        self._unnoticed = 0
        self._parked_writes: set[int] = set()  # by the order in which they came
        self._last_parked = 0
        self._sync = GroupSync(scheduler, self._begin_sync, workspace.sync_failed)
        self._listings = Listings()
        self._passed = workspace.passthrough.live
        workspace.passthrough.on_change = self._has_changed
        self._thin_syncs = 0  # that left out what a commit has frozen
        scheduler.tend(self._is_dirty, self._tick, self._wake_writers)

    @property
    def workspace(self) -> Workspace:
        """For what no request of the kernel waits for; owner thread only."""
        return self._workspace

    def failed(self, error: Exception, verb: str, args: tuple[object, ...]) -> Exception:
        """What a request that met ``error`` ends with."""
        return self.error(errnos.answer(error, lambda: self._describe(verb, args)))

    # ------------------------------------------------------------------------------ names and attributes

    @answering
    def lookup(self, parent: int, name: bytes) -> Inode | None:
        """The inode of a name, counted as known to the kernel; None when there is no such name."""
        workspace = self._workspace
        if name == b".":  # also of a file: how the kernel comes back to an inode that it has dropped
            inode = workspace.getattr(parent)
        elif name.startswith(SECRET_PREFIX) and self._is_secret(parent, name):
            inode = workspace.getattr(int(name[len(self.secret) :]))
        else:
            inode = workspace.lookup(parent, name)
        if inode is None:
            return None
        return self._known(inode)

    @answering
    def getattr(self, ino: int) -> Inode:
        return self._shown(self._workspace.getattr(ino))

    @changing
    def setattr(self, ino: int, changes: AttrChange, caller: Caller) -> Inode:
        self._settle(ino)
        inode = self._workspace.setattr(ino, changes, caller)
        if changes.size is not None:
            self.losses.written(ino, changes.size, MAX_SIZE)
        if ino in self._passed and (changes.atime is not None or changes.mtime is not None):
            self._workspace.passthrough.set_times(ino, changes.atime, changes.mtime)
        return self._shown(inode)

    @answering
    def readlink(self, ino: int) -> bytes:
        return self._workspace.readlink(ino)

    @answering
    def access(self, ino: int, mask: int, caller: Caller) -> bool:
        """Asked only on mounts without ``default_permissions``, which root alone can reach.

        Root may do everything but execute what nobody may, be it a fifo; directories are searched, not executed.
        """
        inode = self._workspace.getattr(ino)
        return not (mask & os.X_OK and not inode.is_dir and not inode.mode & 0o111)

    @changing
    def mknod(self, parent: int, name: bytes, mode: int, rdev: int, caller: Caller) -> Inode:
        return self._known(self._workspace.mknod(parent, name, mode, rdev, caller))

    @changing
    def mkdir(self, parent: int, name: bytes, mode: int, caller: Caller) -> Inode:
        return self._known(self._workspace.mkdir(parent, name, mode, caller))

    @changing
    def symlink(self, parent: int, name: bytes, target: bytes, caller: Caller) -> Inode:
        return self._known(self._workspace.symlink(parent, name, target, caller))

    @changing
    def link(self, ino: int, new_parent: int, new_name: bytes) -> Inode:
        return self._known(self._workspace.link(ino, new_parent, new_name))

    @changing
    def unlink(self, parent: int, name: bytes) -> None:
        self._workspace.unlink(parent, name)

    @changing
    def rmdir(self, parent: int, name: bytes) -> None:
        self._workspace.rmdir(parent, name)

    @changing
    def rename(self, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int) -> None:
        self._workspace.rename(parent, name, new_parent, new_name, flags)

    @changing
    def forget(self, ino: int, n: int) -> None:
        """A change, since the last forget of an unlinked inode removes it."""
        self._workspace.forget(ino, n)

    @answering
    def statfs(self) -> StatFs:
        return self._workspace.statfs()

    # -------------------------------------------------------------------------------------------- files

    @changing
    def create(self, parent: int, name: bytes, mode: int, flags: int, caller: Caller) -> Inode:
        """Make a regular file and open it; without O_EXCL, open the one that is there."""
        workspace = self._workspace
        try:
            inode = workspace.mknod(parent, name, stat.S_IFREG | stat.S_IMODE(mode), 0, caller)
        except FileExistsError:
            found = None if flags & os.O_EXCL else workspace.lookup(parent, name)
            if found is None:
                raise
            inode = found
            if flags & os.O_TRUNC:
                inode = workspace.setattr(inode.ino, AttrChange(size=0), caller)
                self.losses.forget(inode.ino)
        workspace.open(inode.ino, flags & ~os.O_TRUNC)
        return self._known(inode)

    @answering
    def open(self, ino: int, flags: int) -> None:
        """O_TRUNC is the driver's to see to, with `setattr`."""
        self._workspace.open(ino, flags)

    @changing
    def release(self, ino: int, flags: int) -> None:
        """A change, since the last release of an unlinked inode may remove it."""
        self._workspace.release(ino, flags)

    def catch_up(self, everything: bool = False) -> None:
        """Take over what the kernel has written by itself; see `Passthrough.catch_up`."""
        if self._passed and not self.frozen:
            self._workspace.passthrough.catch_up(everything=everything)

    @waiting
    async def read(self, ino: int, offset: int, size: int) -> bytes:
        """Parks until what is missing has come from the store; an error there is EIO on this request only."""
        if self.losses.ranges and self.losses.has(ino, offset, offset + size):
            raise OSError(errno.EIO, os.strerror(errno.EIO))  # the kernel has dropped them: zeros were never written
        fault: VolumeError | None = None
        for _ in range(_FETCHES):
            answer = self._workspace.read(ino, offset, size)
            if isinstance(answer, (bytes, bytearray, memoryview)):
                return cast("bytes", answer)
            if fault is not None:
                raise fault
            try:
                await self.scheduler.result_of(self._fetcher.fetch(answer))
            except VolumeError as error:  # perhaps of a neighbour that came along: then what was wanted is there
                fault = error
        raise RuntimeError(f"still not in the local cache after {_FETCHES} fetches")

    @waiting
    async def write(self, ino: int, offset: int, data: Bytes, *, from_cache: int | bool = False) -> int:
        """Parks while staging is over its limit: the program waits for the uploads. Not if `takes_writes`.

        ``from_cache``: the kernel has taken the data before, so no program waits for this answer.
        """
        if not self.takes_writes:
            await self._until_it_takes_writes()
        return self._write(ino, offset, data, from_cache)

    def write_now(self, ino: int, offset: int, data: Bytes, from_cache: int | bool) -> int:
        """`write` while `takes_writes`, without a coroutine: of random writes it is what costs most."""
        self.counts["write"] += 1
        try:
            return self._write(ino, offset, data, from_cache)
        except Exception as error:
            raise self.failed(error, "write", (ino,)) from None

    def _write(self, ino: int, offset: int, data: Bytes, from_cache: int | bool) -> int:
        self.changes += 1
        self._unnoticed += len(data)
        if self._unnoticed >= _UPLOAD_NOTICE:
            self._unnoticed = 0
            self._staged()
        size = len(data)  # here: of what is piped it says what is left
        done = 0
        try:
            done = self._workspace.write(ino, offset, data)
            if from_cache and done < size:  # the kernel does not look: to it all of it was written
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except Exception as error:
            if from_cache:
                self.losses.written(ino, offset, offset + done)
                self.losses.lose(ino, offset + done, size - done, error)
            raise
        if self.losses.ranges:
            self.losses.written(ino, offset, offset + done)
        return done

    @property
    def takes_writes(self) -> bool:
        """Whether a `write` that begins now does so without a wait: then its data may be anyone's buffer."""
        return not self.frozen and self._workspace.room()

    def parked_writes(self) -> tuple[int, int]:
        """Numbers of the oldest write that waits and of the newest one ever; the oldest is greater if none waits."""
        return min(self._parked_writes, default=self._last_parked + 1), self._last_parked

    def is_cut(self, ino: int) -> bool:
        """Whether the kernel shows what the workspace lacks, until it drops the pages."""
        return ino in self.losses.ranges

    def writers(self) -> list[int]:
        """Inodes that are open for writing, where the driver is told of opens."""
        return self._workspace.writers()

    def known_inodes(self) -> list[int]:
        """Inodes that the kernel knows."""
        return self._workspace.known_inodes()

    @changing
    def fallocate(self, ino: int, offset: int, length: int, mode: int) -> None:
        self._settle(ino)
        if ino in self._passed:
            self._workspace.passthrough.allocate(ino, offset, length, mode)
            return
        self._workspace.fallocate(ino, offset, length, mode)
        if mode & _ZEROS:
            self.losses.written(ino, offset, offset + length)

    @answering
    def lseek(self, ino: int, offset: int, whence: int) -> int:
        """Where data or a hole begins. The driver sees to it that the kernel has no dirty pages of the file."""
        if ino in self._passed:
            return self._workspace.passthrough.seek(ino, offset, whence)
        if end := self.losses.end(ino):  # what is lost is no hole to who still sees it
            if not 0 <= offset < (end := max(end, self._workspace.getattr(ino).size)):
                raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
            return offset if whence == os.SEEK_DATA else end
        return self._workspace.lseek(ino, offset, whence)

    @changing
    def copy_range(self, ino: int, offset: int, target: int, target_offset: int, size: int) -> int:
        self._settle(ino, target)
        if ino in self._passed or target in self._passed:  # what names its bytes now would name others later
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        if self.losses.has(ino, offset, offset + size):  # only the kernel has these bytes: let it copy its pages
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        done = self._workspace.copy_range(ino, offset, target, target_offset, size)
        self.losses.written(target, target_offset, target_offset + done)
        return done

    @waiting
    async def fsync(self, ino: int) -> None:
        """Data and metadata of everything, this inode's among them, are durable on the local disk."""
        while True:
            while self.frozen and self._passed:
                await self.scheduler.park(self.until_thaw)
            before = self._thin_syncs
            await self._sync.sync()
            if self._thin_syncs == before or not self._passed:
                return

    # -------------------------------------------------------------------------------------- directories

    @answering
    def readdir(self, ino: int, cookie: int, emit: Emit, *, known: bool = True) -> None:
        """Emit entries after the cookie until one is refused.

        With ``known`` the kernel counts all as known to it but the two dots: it gets attributes with them.
        """
        listing, place = self._listings.at(cookie, ino)
        workspace = self._workspace
        base = listing.base + DOTS
        if place < DOTS and not self._emit_dots(listing, place, emit):
            return
        first = count = max(0, place - DOTS)
        after = listing.name_before(count, functools.partial(workspace.readdir, ino))
        remember, passed = workspace.remember, listing.passed
        passed_through = bool(self._passed)
        while entries := workspace.readdir(ino, after, listing.batch):
            for name, inode in entries:
                if not emit(name, self._shown(inode) if passed_through else inode, base + count + 1):
                    listing.batch = count - first + 1
                    return
                if known:
                    remember(inode.ino)
                passed(count, name)
                count += 1
            after = entries[-1][0]

    # ------------------------------------------------------------------------------ extended attributes

    @answering
    def getxattr(self, ino: int, name: bytes) -> bytes:
        return self._workspace.getxattr(ino, name)

    @answering
    def listxattr(self, ino: int) -> list[bytes]:
        return self._workspace.listxattr(ino)

    @changing
    def setxattr(self, ino: int, name: bytes, value: bytes, flags: int) -> None:
        self._workspace.setxattr(ino, name, value, flags)

    @changing
    def removexattr(self, ino: int, name: bytes) -> None:
        self._workspace.removexattr(ino, name)

    # ----------------------------------------------------------------- for the daemon, through the owner

    def show(self, workspace: Workspace) -> None:
        """Answer from this one from now on: see `refresh`."""
        self._workspace = workspace

    def freeze(self) -> None:
        """From now on no change begins; those that arrive wait for `thaw`. None is half done: verbs are atomic."""
        self.frozen = True
        try:
            self._workspace.passthrough.freeze()
        except OSError as error:
            raise CommitError(
                f"what programs wrote to files that are open could not be taken over: {error.strerror}",
                hint="the mount lives on, so make room on the local disk and commit again",
            ) from error

    def thaw(self) -> None:
        self.frozen = False
        self._workspace.passthrough.thaw()
        self.scheduler.wake_all(self.until_thaw)

    def close(self) -> None:
        self._sync.close()

    # ------------------------------------------------------------------------------------------- inside

    def _path_of(self, ino: int) -> str | None:
        """A path; None if the inode has no name any more."""
        try:
            if not self._workspace.getattr(ino).nlink:
                return None
        except OSError:
            return None
        path = self._workspace.path_of(ino)
        return f"inode {ino}" if path is None else os.fsdecode(path)

    def _describe(self, verb: str, args: tuple[object, ...]) -> str:
        """Verb, inode and names for the log; never data."""
        words = [verb]
        if args and isinstance(args[0], int):
            words.append(f"of inode {args[0]}")
            with suppress(Exception):
                path = self._workspace.path_of(args[0])
                words.append(f"({os.fsdecode(path)})" if path else "")
        words += [repr(arg) for arg in args[1:] if isinstance(arg, bytes) and len(arg) < _NAME_MAX]
        return " ".join(filter(None, words))

    def _settle(self, *inos: int) -> None:
        """The word of a last close comes a moment too early: what is done to the file now is not the local disk's."""
        for ino in inos:
            if ino in self._passed:
                self._workspace.settle(ino)

    def _has_changed(self) -> None:
        """Whenever what the kernel wrote by itself is taken over, be it for an fsync."""
        self.changes += 1

    def _begin_sync(self) -> list[int]:
        self._thin_syncs += self.frozen
        return self._workspace.begin_sync(self.frozen)

    def _known(self, inode: Inode) -> Inode:
        self._workspace.remember(inode.ino)
        return self._shown(inode)

    def _shown(self, inode: Inode) -> Inode:
        """As programs are to see it."""
        if inode.ino not in self._passed:
            return inode
        self._workspace.settle(inode.ino)  # the kernel may keep for a minute what it is told
        inode = self._workspace.getattr(inode.ino)  # which may be another object by now
        return self._workspace.passthrough.shown(inode) if inode.ino in self._passed else inode

    def _is_secret(self, parent: int, name: bytes) -> bool:
        secret = self.secret
        return parent == ROOT_INO and bool(secret) and name.startswith(secret) and name[len(secret) :].isdigit()

    def _emit_dots(self, listing: Listing, place: int, emit: Emit) -> bool:
        """The kernel does not count these two as known, whatever attributes they come with."""
        inode = self._workspace.getattr(listing.ino)
        if place == 0 and not emit(b".", inode, listing.base + 1):
            return False
        return emit(b"..", self._above(inode), listing.base + DOTS)

    def _above(self, inode: Inode) -> Inode:
        if inode.ino == ROOT_INO:
            return inode
        try:
            return self._workspace.getattr(inode.parent)
        except OSError:
            return inode  # a removed directory that is still open, and its parent is gone

    async def _until_it_takes_writes(self) -> None:
        self._last_parked = number = self._last_parked + 1
        self._parked_writes.add(number)
        try:
            while not self.takes_writes:
                await self.scheduler.park(self.until_thaw if self.frozen else self._until_room)
        finally:
            self._parked_writes.discard(number)

    def _is_dirty(self) -> bool:
        return self._workspace.dirty

    def _tick(self) -> None:
        try:
            if not self.frozen:
                self.catch_up()
                self._workspace.housekeep()
            self.losses.note()
        except Exception:
            log.exception("housekeeping failed; it is tried again in a second")
        self._wake_writers()
        self._staged()

    def _wake_writers(self) -> None:
        if self._until_room and self._workspace.room():
            self.scheduler.wake_all(self._until_room)
