"""Files of another version of the store, taken into a workspace by reference: rows are copied, and no byte of a file.

Each verb does first what can fail, to files that nobody can come to yet; only then does it give names and take them
away. All of it lies in one transaction, which no commit ends in between: a kill leaves what was there, or what is there
after it.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

from flyteplugins_vol.index.graft import Graft
from flyteplugins_vol.index.index import Index
from flyteplugins_vol.model import ROOT_INO, Inode
from flyteplugins_vol.workspace.disk import LocalDisk
from flyteplugins_vol.workspace.tree import Tree

_PAGE = 1000  # names that are removed at a time


class Grafted(NamedTuple):
    """What was taken in: files of any type, and bytes of regular ones."""

    files: int
    bytes: int


class Grafting:
    """Verbs of the `Workspace` that take files of other versions in; it says when something may be written."""

    def __init__(
        self, index: Index, tree: Tree, may_write: Callable[[], None],
        must: Callable[[Callable[[], None]], None], disk: LocalDisk | None,
    ) -> None:  # fmt: skip
        """``must`` runs what cannot be undone: if it fails, the workspace is as after a kill, and takes no change."""
        self._index = index
        self._tree = tree
        self._may_write = may_write
        self._must = must
        self._disk = disk

    def graft(
        self, source: Index, ino: int, parent: int, name: bytes, *,
        above: Sequence[tuple[int, bytes]] = (), replace: bool = False,
    ) -> Grafted:  # fmt: skip
        """Let a name lead to a file of another version of the store, of any type, a directory with all below it.

        It is as it was there, but for its number and ctime. The name '' is the root itself. ``above``: directories of
        that version that come with it, as `Graft.tree` has them; ``name`` is that of the first. ``replace``: what is
        there goes, a directory with all below it. Raises OSError, `IndexDamagedError`; nothing has changed then.
        """
        self.check(parent, name, replace=replace)
        with self.attempt():
            graft = Graft(source, self._index, room=self.take, ctime=time.time_ns())
            new = graft.tree(ino, above)
            graft.finish()
            if not name and not self._tree.inode(new).is_dir:
                raise OSError(errno.ENOTDIR, "the root of a volume is a directory")
        self.finish(partial(self._name, parent, name, new))
        return Grafted(graft.files - (not name), graft.bytes)

    def _name(self, parent: int, name: bytes, new: int) -> None:
        if not name:
            self.clear(parent)
            self._tree.become(parent, new)
            return
        there = self._tree.lookup(parent, name)
        if there is not None:
            self.remove(parent, name, there)
        self._tree.adopt(parent, name, new)

    @contextmanager
    def attempt(self) -> Generator[None]:
        """What can fail, and leaves nothing then: see `Index.attempt`."""
        self._may_write()
        self._must(self._index.flush)
        with self._index.attempt():
            yield

    def finish(self, action: Callable[[], None]) -> None:
        """What must not fail after it: half of it is not to be committed."""
        self._must(action)

    def take(self, size: int) -> None:
        """Raise OSError ENOSPC unless there is room for so many bytes more on the local disk."""
        assert self._disk is not None
        self._disk.take(size)

    def remove(self, parent: int, name: bytes, inode: Inode) -> None:
        """Take a name away, of a directory with all below it. What is open lives on, as after unlink(2)."""
        if inode.is_dir:
            self.clear(inode.ino)
            self._tree.rmdir(parent, name)
        else:
            self._tree.unlink(parent, name)

    def clear(self, ino: int) -> None:
        """Remove all that is in a directory. However deep it is, and however much: memory holds a part of it."""
        levels = [(0, b"", ino)]
        while levels:
            above, name, here = levels[-1]
            page = self._index.inodes.in_order(here, b"", _PAGE)
            inside = [(here, child_name, child.ino) for child_name, child in page if child.is_dir]
            for child_name, child in page:
                if not child.is_dir:
                    self._tree.unlink(here, child_name)
            levels.extend(inside)
            self._may_write()
            if not page:
                levels.pop()
                if levels:
                    self._tree.rmdir(above, name)

    def check(self, parent: int, name: bytes, *, replace: bool) -> None:
        """Raise OSError for a place that cannot be grafted to."""
        if name:
            self._tree.place(parent, name)
            there = self._tree.lookup(parent, name)
        else:
            there = self._tree.inode(ROOT_INO) if self._index.inodes.in_order(ROOT_INO, b"", 1) else None
        if there is not None and not replace:
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
