"""Files that are filled before they have a name, so that a version has them whole or not at all."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from flyteplugins_vol.index.index import Index
from flyteplugins_vol.model import Caller, Inode
from flyteplugins_vol.workspace.tree import Tree, check_target
from flyteplugins_vol.workspace.usage import Usage


class UnnamedFiles:
    """Verbs of the `Workspace`. Owner thread.

    What has no name is an orphan that is open: no directory and no reader of a version shows it, and if this process is
    killed, whoever opens the workspace next removes it.
    """

    def __init__(self, index: Index, tree: Tree, usage: Usage, may_grow: Callable[..., None]) -> None:
        self._index = index
        self._tree = tree
        self._usage = usage
        self._may_grow = may_grow

    def make(self, parent: int, mode: int, caller: Caller, target: bytes | None = None) -> Inode:
        """Make a file, or a symlink to ``target``, without a name, and open it to write.

        `Workspace.release` with ``O_WRONLY`` ends that: it is gone then, unless `give_name` was called. Owner and group
        are those of a file that is made in ``parent``. Raises OSError.
        """
        self._may_grow()
        if target is None:
            inode = self._tree.add_unnamed(parent, stat.S_IFREG | (mode & ~caller.umask & 0o7777), caller)
            self._index.windows.new_file(inode.ino)
        else:
            check_target(target)
            inode = self._tree.add_unnamed(parent, stat.S_IFLNK | 0o777, caller, target)
        self._usage.open(inode.ino, os.O_WRONLY)
        return inode

    def give_name(self, ino: int, parent: int, name: bytes, replace: bool) -> None:
        """See `Tree.give_name`: FileExistsError, or with ``replace`` IsADirectoryError, and nothing has changed."""
        self._may_grow()
        self._tree.give_name(ino, parent, name, replace)
