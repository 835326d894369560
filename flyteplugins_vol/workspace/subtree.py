"""A part of a volume shown as if it were the whole: the root's number leads to another directory.

Only numbers that come in are translated. The kernel knows the root of a mount as inode 1 whatever it is told of it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, cast

from flyteplugins_vol.errors import UsageError
from flyteplugins_vol.model import ROOT_INO, Inode
from flyteplugins_vol.workspace.workspace import Workspace

# The arguments of each verb that are inode numbers.
_NUMBERS = {
    "lookup": (0,), "getattr": (0,), "setattr": (0,), "readlink": (0,), "mknod": (0,), "mkdir": (0,), "symlink": (0,),
    "link": (0, 1), "unlink": (0,), "rmdir": (0,), "rename": (0, 2), "readdir": (0,), "open": (0,), "release": (0,),
    "remember": (0,), "forget": (0,), "read": (0,), "write": (0,), "getxattr": (0,), "setxattr": (0,),
    "listxattr": (0,), "removexattr": (0,), "path_of": (0,),
}  # fmt: skip


class Subtree:
    """A workspace whose root is one of its directories. Everything else is the workspace's own."""

    def __init__(self, workspace: Workspace, root: int) -> None:
        self._workspace = workspace
        for verb, places in _NUMBERS.items():
            setattr(self, verb, _rooted(getattr(workspace, verb), places, root))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._workspace, name)


def subtree(workspace: Workspace, path: str) -> Workspace:
    """The workspace, seen from the directory at ``path``. Raises `UsageError` if there is none."""
    root = find(workspace, path)
    if root is None or not root.is_dir:
        raise UsageError(
            f"subdir={path!r} is {'not a directory' if root else 'not there'} in this version of the volume",
            hint="give the path of a directory, relative to the volume's root",
        )
    return cast(Workspace, Subtree(workspace, root.ino)) if root.ino != ROOT_INO else workspace


def find(workspace: Workspace, path: str) -> Inode | None:
    """The inode at a path from the root; None if there is none. Symlinks are not followed."""
    inode: Inode | None = workspace.getattr(ROOT_INO)
    for part in path.encode(errors="surrogateescape").split(b"/"):
        if part in (b"", b"."):
            continue
        if inode is None or not inode.is_dir or part == b"..":
            return None
        inode = workspace.lookup(inode.ino, part)
    return inode


def _rooted(verb: Callable[..., Any], places: tuple[int, ...], root: int) -> Callable[..., Any]:
    @functools.wraps(verb)
    def rooted(*args: Any, **kwargs: Any) -> Any:
        values = [root if i in places and value == ROOT_INO else value for i, value in enumerate(args)]
        return verb(*values, **kwargs)

    return rooted
