"""The workspace of a mount that was refreshed: the newest version, and of earlier ones what somebody still has open.

It takes the place of the first version's own workspace at the first refresh, so mounts that are never refreshed pay
nothing. Owner thread only, but for what says otherwise.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from flyteplugins_vol.model import ROOT_INO, Inode
from flyteplugins_vol.mount.protocols import NewVersion, Workspace
from flyteplugins_vol.mount.refresh_nodes import NUMBER, Nodes, Numbers


@dataclass(frozen=True)
class Shown:
    """A version as the kernel is shown it."""

    workspace: Workspace
    nodes: Nodes

    def entry(self, inode: Inode) -> Inode:
        """The inode with its node in place of its number."""
        node = self.nodes.of(inode.ino)
        if node == inode.ino:
            return inode
        return Inode(
            node, inode.mode, inode.nlink, inode.uid, inode.gid, inode.rdev, inode.size, inode.allocated,
            inode.atime, inode.mtime, inode.ctime, inode.parent, inode.target,
        )  # fmt: skip


@dataclass
class Former:
    """A version that is not the newest any more, for the nodes that the next one has others for, or none."""

    shown: Shown
    close: Callable[[], None]
    nodes: Numbers | set[int]
    directories: Numbers  # those of the nodes that are
    told: dict[int, bool] = field(default_factory=lambda: {})
    """Nodes that were looked up in one of its directories since, and whether they are directories."""
    names: set[tuple[int, bytes]] = field(default_factory=set[tuple[int, bytes]])
    """By which names in which directories: the kernel keeps these, and with them the directories, until it is told."""
    announced: bool = False
    """Whether the kernel has been told of all that the next version has otherwise."""

    def __contains__(self, node: int) -> bool:
        return node in self.nodes or node in self.told


@dataclass(frozen=True)
class Held:
    """What the kernel may know of a former version: names, directories, and all nodes, those of directories too."""

    names: set[tuple[int, bytes]]
    directories: list[int]
    nodes: list[int]


@dataclass(frozen=True)
class Step:
    """One refresh, worked out before anybody is shown anything of it."""

    new: NewVersion
    nodes: Nodes
    superseded: Numbers
    superseded_directories: Numbers


class RefreshedWorkspace:
    """A `Workspace` of several versions of one volume: takes nodes for inode numbers, and returns inodes with them."""

    read_only = True
    dirty = False

    def __init__(self, first: Workspace, forgotten: Callable[[], None]) -> None:
        """``forgotten`` is called when it may be that a former version is not needed any more."""
        self._shown = Shown(first, Nodes())
        self._former: list[Former] = []
        self._forgotten = forgotten
        self._generation = 0
        self._numbered = 0

    # -------------------------------------------------------------------------------------- to refresh it

    def step(self, new: NewVersion) -> Step:
        """What the refresh to this version is to change. One thread at a time, but any."""
        numbered = max(self._numbered, new.numbered_before)  # smaller numbers may be known, as something else
        changes, before = new.changes, self._shown.nodes
        fresh = [*changes.files, *(ino for ino in changes.came if ino < numbered)]
        nodes = before.after(changes.gone, fresh, self._generation + 1)
        superseded = Numbers(before.of(ino) for numbers in (changes.files, changes.gone) for ino in numbers)
        directories = Numbers(before.of(ino) for ino in changes.gone_directories)
        return Step(new, nodes, superseded, directories)

    def take(self, step: Step, view: Workspace, close: Callable[[], None]) -> None:
        """Show it from now on. ``close`` closes the version before."""
        former = Former(self._shown, close, step.superseded, step.superseded_directories)
        self._shown = Shown(view, step.nodes)
        self._former.append(former)
        self._generation += 1
        self._numbered = max(self._numbered, step.new.numbered_before, step.new.numbered)

    def announced(self) -> None:
        """The kernel has been told of all that the newest version has otherwise."""
        self._former[-1].announced = True

    def former(self) -> list[Former]:
        return list(self._former)

    def hold(self, former: Former) -> Held:
        """What the kernel may know of a former version."""
        names, former.names = former.names, set()
        directories = [node for node, is_directory in former.told.items() if is_directory]
        return Held(names, [*former.directories, *directories], [*former.nodes, *former.told])

    def keep(self, former: Former, known: Iterable[int]) -> None:
        """Of a former version only these nodes are known to the kernel, and no directory."""
        former.nodes, former.directories, former.told, former.names = set(known), Numbers(), {}, set()
        if not former.nodes:
            self._former.remove(former)
            former.close()

    @property
    def generation(self) -> int:
        return self._generation

    @property
    def nodes(self) -> Nodes:
        """The nodes of the newest version's inodes."""
        return self._shown.nodes

    # ------------------------------------------------------------------------------------------ the verbs

    def lookup(self, parent: int, name: bytes) -> Inode | None:
        place, shown, ino = self._at(parent)
        inode = shown.workspace.lookup(ino, name)
        if inode is not None:
            return self._told(place, parent, name, shown.entry(inode))
        if place is not None:
            place.names.add((parent, name))
        return None

    def getattr(self, node: int) -> Inode:
        _, shown, ino = self._at(node)
        inode = shown.workspace.getattr(ino)
        if inode.ino == node or ino == ROOT_INO:
            return inode
        return shown.entry(inode)

    def readdir(self, node: int, after: bytes | None, limit: int) -> Sequence[tuple[bytes, Inode]]:
        place, shown, ino = self._at(node)
        entries = shown.workspace.readdir(ino, after, limit)
        if place is None and not shown.nodes:
            return entries
        return [(name, self._told(place, node, name, shown.entry(inode))) for name, inode in entries]

    def readlink(self, node: int) -> bytes:
        _, shown, ino = self._at(node)
        return shown.workspace.readlink(ino)

    def read(self, node: int, offset: int, size: int) -> Any:
        _, shown, ino = self._at(node)
        return shown.workspace.read(ino, offset, size)

    def lseek(self, node: int, offset: int, whence: int) -> int:
        _, shown, ino = self._at(node)
        return shown.workspace.lseek(ino, offset, whence)

    def getxattr(self, node: int, name: bytes) -> bytes:
        _, shown, ino = self._at(node)
        return shown.workspace.getxattr(ino, name)

    def listxattr(self, node: int) -> list[bytes]:
        _, shown, ino = self._at(node)
        return shown.workspace.listxattr(ino)

    def path_of(self, node: int) -> bytes | None:
        _, shown, ino = self._at(node)
        return shown.workspace.path_of(ino)

    def remember(self, node: int, n: int = 1) -> None:
        self._shown.workspace.remember(node & NUMBER, n)  # counts nothing, but bounds memory

    def forget(self, node: int, n: int) -> None:
        if any(node in former for former in self._former):
            self._forgotten()

    def room(self) -> bool:
        return True

    def __getattr__(self, name: str) -> Any:
        """What is left either refuses to change anything, or is about no inode."""
        return getattr(self._shown.workspace, name)

    # ------------------------------------------------------------------------------------------- inside

    def _at(self, node: int) -> tuple[Former | None, Shown, int]:
        """The version that has this node, None for the newest, and its inode."""
        ino = node & NUMBER
        for former in self._former:
            if node in former.nodes or (node in former.told and not self._is_newest(node)):
                return former, former.shown, ino
        shown = self._shown
        if shown.nodes.of(ino) != node and not self._is_directory_above(node):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return None, shown, ino

    def _is_newest(self, node: int) -> bool:
        ino = node & NUMBER
        if self._shown.nodes.of(ino) != node:
            return False
        try:
            self._shown.workspace.getattr(ino)
        except OSError:
            return False
        return True

    def _is_directory_above(self, node: int) -> bool:
        """A directory names the one above it by its number alone."""
        return node <= NUMBER and self._shown.workspace.getattr(node).is_dir

    def _told(self, place: Former | None, parent: int, name: bytes, entry: Inode) -> Inode:
        """Note what the kernel is told of in a directory that is gone, of which `announce` says nothing."""
        if place is not None:
            place.told[entry.ino] = entry.is_dir
            place.names.add((parent, name))
        return entry
