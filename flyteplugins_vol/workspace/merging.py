"""What was decided about versions that are merged, done to a workspace: by reference, all of it or nothing.

As in `grafting`: first all that can fail, to files that nobody can come to; then the names, in the same transaction.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

from flyteplugins_vol.index.graft import Graft
from flyteplugins_vol.index.index import Index
from flyteplugins_vol.index.merging import BASE, Act, Merge, Verb
from flyteplugins_vol.index.state import state_of
from flyteplugins_vol.model import ROOT_INO, Inode
from flyteplugins_vol.workspace.grafting import Grafting
from flyteplugins_vol.workspace.tree import Tree

_PAGE = 1000


class Merging:
    """The verb of the `Workspace` that does it."""

    def __init__(self, index: Index, tree: Tree, grafting: Grafting, may_write: Callable[[], None]) -> None:
        self._index = index
        self._tree = tree
        self._grafting = grafting
        self._may_write = may_write

    def merge(self, decided: Merge, present: int | None) -> None:
        """Do all acts. The workspace has the tree of the side ``present``, or of the base, and nothing else yet.

        Raises OSError, `IndexDamagedError`; nothing has changed then.
        """
        here = decided.indexes[BASE if present is None else present]
        pinned: set[int] = set()
        with self._grafting.attempt():
            for side in decided.indexes:
                self._enter(decided, side, here, pinned)
        doing = _Doing(self._tree, self._grafting, self._may_write)
        self._grafting.finish(lambda: doing.run(decided, pinned))

    def _enter(self, decided: Merge, side: int, here: Index, pinned: set[int]) -> None:
        """Enter what comes from one side, without names, and note its numbers."""
        graft = Graft(decided.indexes[side], self._index, room=self._grafting.take)
        acts = decided.acts(side)
        while page := list(islice(acts, _PAGE)):
            decided.note([self._entered(graft, decided, act, here, pinned) for act in page])
        graft.finish()

    def _entered(self, graft: Graft, decided: Merge, act: Act, here: Index, pinned: set[int]) -> Act:
        if act.verb is Verb.REMOVE:
            return act
        source = decided.indexes[act.side]
        if act.verb is Verb.FILE:
            if self._is_here(decided, source, act.ino, here):
                pinned.add(act.ino)
                return act._replace(new=act.ino, is_link=True)
            return act._replace(new=graft.alone(act.ino))
        new = graft.attributes(act.ino)
        inode = source.inodes.get(act.ino)
        assert inode is not None  # it was just copied
        return act._replace(new=new, atime=inode.atime, mtime=inode.mtime)

    def _is_here(self, decided: Merge, source: Index, ino: int, here: Index) -> bool:
        """Whether it is another name of a file that nobody has changed.

        A number means the same file in all versions that came from the base, if the base has it.
        """
        inode, there = source.inodes.get(ino), here.inodes.get(ino)
        if inode is None or inode.nlink < 2 or inode.is_dir or there is None or not there.nlink or there.is_dir:
            return False
        base = decided.indexes[BASE].inodes.get(ino)
        if base is None or not base.mtime == there.mtime == inode.mtime:
            return False
        state = state_of(source, ino)
        return state == state_of(decided.indexes[BASE], ino) == state_of(here, ino)


class _Doing:
    """Gives names and takes them away. Nothing of it fails, but for the local disk."""

    def __init__(self, tree: Tree, grafting: Grafting, may_write: Callable[[], None]) -> None:
        self._tree = tree
        self._grafting = grafting
        self._may_write = may_write
        self._last = (b"/", ROOT_INO)  # the directory of the act before

    def run(self, decided: Merge, pinned: set[int]) -> None:
        for ino in pinned:  # a file may lose all names that it has before it gets the new one
            self._tree.pin(ino)
        for number, act in enumerate(decided.acts()):
            if number % _PAGE == 0:
                self._may_write()
            self._do(act)
        for ino in pinned:
            self._tree.unpin(ino)
        for act in decided.acts():
            if act.verb in (Verb.DIRECTORY, Verb.KEEP):
                self._tree.set_times(act.new, act.atime, act.mtime)  # names came into it since it was made

    def _do(self, act: Act) -> None:
        if act.path == b"/":
            self._tree.take_attributes(ROOT_INO, act.new, times=False)
            return
        above, _, name = act.path.rpartition(b"/")
        parent = self._directory(above or b"/")
        there = self._tree.lookup(parent, name)
        if act.verb is Verb.ATTRIBUTES:
            assert there is not None
            self._tree.take_attributes(there.ino, act.new, times=True)
        elif there is not None and there.is_dir and act.verb is Verb.DIRECTORY:
            self._tree.take_attributes(there.ino, act.new, times=False)
        elif there is not None and there.is_dir and act.verb is Verb.KEEP:
            self._tree.drop(act.new)
        elif not (act.is_link and there is not None and there.ino == act.new):
            self._replace(parent, name, there, act)

    def _replace(self, parent: int, name: bytes, there: Inode | None, act: Act) -> None:
        if there is not None:
            self._grafting.remove(parent, name, there)
            self._last = (b"/", ROOT_INO)
        if act.is_link:
            self._tree.link(act.new, parent, name)
        elif act.verb is not Verb.REMOVE:
            self._tree.adopt(parent, name, act.new)

    def _directory(self, path: bytes) -> int:
        if path == self._last[0]:
            return self._last[1]
        ino = ROOT_INO
        for part in path.split(b"/")[1:] if path != b"/" else ():
            inode = self._tree.lookup(ino, part)
            assert inode is not None
            ino = inode.ino
        self._last = (path, ino)
        return ino
