"""Files that are open, or that the kernel knows: how long one lives without a name, and who reads and writes it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from flyteplugins_vol.index.index import Index
from flyteplugins_vol.model import Inode
from flyteplugins_vol.workspace.data import FileData
from flyteplugins_vol.workspace.passthrough import Backing, Passthrough
from flyteplugins_vol.workspace.usage import Usage

log = logging.getLogger(__name__)

_WRITES = os.O_WRONLY | os.O_RDWR
_SYNCS = getattr(os, "O_SYNC", 0) | getattr(os, "O_DSYNC", 0)
_ON_THE_WAY = 4  # files whose close was told, and is not done yet, as far as one looks at each open and close


class OpenFiles:
    """Verbs of the `Workspace`. Owner thread.

    Of a read-only workspace nothing is counted: nothing of it is ever removed.
    """

    def __init__(
        self,
        index: Index,
        data: FileData,
        passthrough: Passthrough,
        inode: Callable[[int], Inode],
        check_writable: Callable[[], None],
        *,
        read_only: bool,
    ) -> None:
        self.usage = Usage()
        self._index = index
        self._data = data
        self._passthrough = passthrough
        self._inode = inode
        self._check_writable = check_writable
        self._read_only = read_only
        self._unused: dict[int, None] = {}  # files that the kernel still has, though nobody has them open

    def open(self, ino: int, flags: int) -> None:
        """Count an open. O_TRUNC is the caller's to see to."""
        if flags & _WRITES:
            self._check_writable()
        if not self._read_only:
            self.settle(ino)
            self.usage.open(ino, flags)

    def pass_through(self, ino: int, flags: int) -> Backing | None:
        """After `open`: the file that the kernel is to use for the inode from now on; None if that cannot be.

        It can where the file is empty and nobody else has it open, or where it is used already: then it must be. Not
        for who wants each write durable, since nobody would make the rows so.
        """
        backing = self._passthrough.live.get(ino)
        if backing is None and flags & _WRITES and not flags & _SYNCS and self.usage.opens(ino) == 1:
            self._end_unused(_ON_THE_WAY)
            backing = self._passthrough.open(self._inode(ino))
        if backing is not None and flags & _WRITES:
            backing.writes = True
        return backing

    def release(self, ino: int, flags: int) -> None:
        """Count a close."""
        if self._read_only:
            return
        self.usage.release(ino, flags)
        self._purge_if_unused(ino)
        if ino in self._passthrough.live and not self.usage.opens(ino):
            self._unused.pop(ino, None)
            self._unused[ino] = None  # the last one now
            self._end_unused(_ON_THE_WAY)

    def end_passthrough(self) -> None:
        """Try again for those that nobody has open any more: somebody had them mapped, or the disk had no room."""
        self._end_unused(len(self._unused))

    def remember(self, ino: int, n: int = 1) -> None:
        """The kernel was told of this inode ``n`` times more."""
        if not self._read_only:
            self.usage.remember(ino, n)
        if self._index.inodes.crowded:
            self._index.trim()

    def forget(self, ino: int, n: int) -> None:
        """The kernel dropped ``n`` of them."""
        if not self._read_only:
            self.usage.forget(ino, n)
            if ino not in self.usage:
                self._passthrough.ended.discard(ino)  # nor has it pages of it
            self._purge_if_unused(ino)

    def discard(self, inode: Inode) -> None:
        """The inode has no name any more: it goes, or becomes an orphan until nobody uses it."""
        if inode.ino in self.usage:
            self._index.inodes.orphan(inode.ino)
        else:
            self._purge(inode)

    def purge_orphans(self) -> None:
        """Of a process that died: nobody has them open any more."""
        for ino in self._index.inodes.orphans():
            self._purge(self._inode(ino))

    def _end_unused(self, most: int) -> None:
        """Of the files that nobody has open, end those that came last."""
        for ino in list(self._unused)[: -most - 1 : -1]:
            self.settle(ino)

    def settle(self, ino: int) -> None:
        """If nobody has it open nor mapped any more the kernel is to have no part in it from now on."""
        if ino not in self._unused or self._passthrough.frozen:
            return
        if ino in self._passthrough.live and not self.usage.opens(ino):
            try:
                self._passthrough.release(self._inode(ino))
            except OSError as error:
                log.error("what was written to inode %d is not taken over yet: %s", ino, error)
            if ino in self._passthrough.live:
                return
        del self._unused[ino]

    def _purge_if_unused(self, ino: int) -> None:
        # not by its row: a kernel that is short of memory forgets a million inodes at once, and each would be loaded
        if self._index.inodes.is_orphan(ino) and ino not in self.usage:
            self._purge(self._inode(ino))

    def _purge(self, inode: Inode) -> None:
        if inode.ino in self._passthrough.live:
            self._passthrough.drop(inode.ino)
        self._passthrough.ended.discard(inode.ino)
        if inode.is_file:
            self._data.purge(inode)
        self._index.xattrs.remove_all(inode.ino)
        self._index.inodes.remove(inode.ino)
