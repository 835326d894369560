"""What is told of a file."""

from __future__ import annotations

import stat
from dataclasses import dataclass

from flyteplugins_vol.io.tree import FileTree, Node, text_of

_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
}


@dataclass(frozen=True)
class FileInfo:
    """One file, directory or symlink. Sizes are bytes, times nanoseconds since 1970.

    ``path`` begins at the volume's root; bytes of a name that are not UTF-8 are surrogates in it, as `os.fsdecode`
    makes them, so that it leads back to the file.
    """

    path: str
    kind: str  # "file", "directory", "symlink", "fifo", "socket", "character device" or "block device"
    size: int
    mode: int
    uid: int
    gid: int
    nlink: int
    ino: int
    atime: int
    mtime: int
    ctime: int
    target: str | None = None  # of a symlink

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def is_dir(self) -> bool:
        return self.kind == "directory"

    @property
    def is_file(self) -> bool:
        return self.kind == "file"

    @property
    def is_symlink(self) -> bool:
        return self.kind == "symlink"


def info_of(tree: FileTree, path: str, node: Node) -> FileInfo:
    """The node at a path."""
    target = text_of(tree.readlink(node)) if node.is_symlink else None
    return FileInfo(
        path, kind_of(node.mode), node.size, stat.S_IMODE(node.mode), node.uid, node.gid,
        node.nlink, node.ino, node.atime, node.mtime, node.ctime, target,
    )  # fmt: skip


def kind_of(mode: int) -> str:
    """The kind of file that a mode tells of."""
    return _KINDS.get(stat.S_IFMT(mode), "unknown")
