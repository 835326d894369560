"""Looking at a volume's files without a mount; through the mount where this handle has one.

Paths begin at the volume's root; a leading slash makes no difference. Errors are the usual ones of files
(`FileNotFoundError`, `IsADirectoryError`, …); what the store does wrong is a `VolumeError`. This works on any
platform. `writing` changes files.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from flyteplugins_vol.errors import UsageError
from flyteplugins_vol.history.unmounted import Unmounted
from flyteplugins_vol.io.access import Access
from flyteplugins_vol.io.dual import dual
from flyteplugins_vol.io.info import FileInfo, info_of
from flyteplugins_vol.io.mounting import MountOptions
from flyteplugins_vol.io.open_file import BUFFER, mode_of, open_file
from flyteplugins_vol.io.session_tree import SessionTree
from flyteplugins_vol.io.transfer import Progress, download, quiet
from flyteplugins_vol.io.tree import (
    FileTree,
    Node,
    PathLike,
    as_text,
    below,
    check_memory,
    find,
    join,
    normal,
)
from flyteplugins_vol.io.walk import Walk
from flyteplugins_vol.model import MountSpec

if TYPE_CHECKING:
    from flyteplugins_vol.io.mounting import Mounting
    from flyteplugins_vol.io.payload import Known

_LEADS_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EILSEQ)


class ReadFiles:
    """Methods of every volume that look at its files."""

    if TYPE_CHECKING:
        name: str
        _access: Access
        _record: Known | None
        _mounting: Mounting | None

        def _spec(self, options: MountOptions) -> MountSpec: ...

    @dual
    def ls(self: Any, path: PathLike = "/", *, recursive: bool = False) -> list[FileInfo]:
        """What is in a directory, by name; of anything else the one entry that it is. ``recursive``: all below."""
        tree = self._reading()
        found = find(tree, path)
        node = found.existing()
        where = normal(path)
        if not node.is_dir:
            return [info_of(tree, where, node)]
        return list(_below(tree, where, node) if recursive else _children(tree, where, node))

    def walk(self, path: PathLike = "/") -> Walk:
        """``for directory, directories, files in vol.walk()``, or ``async for``: as `os.walk`, from the top.

        Names that are removed from ``directories`` are not gone into. Symlinks count as files and are not followed.
        """
        return Walk(self, path)

    @dual
    def stat(self: Any, path: PathLike, *, follow_symlinks: bool = True) -> FileInfo:
        """One file's attributes."""
        tree = self._reading()
        return info_of(tree, normal(path), find(tree, path, follow=follow_symlinks).existing())

    @dual
    def exists(self: Any, path: PathLike) -> bool:
        """Whether a path leads to anything, as os.path.exists: not so what no file can have as a name.

        A symlink that leads nowhere, in a circle or out of the volume does not either.
        """
        tree = self._reading()
        try:
            return find(tree, path).node is not None
        except OSError as error:
            if error.errno not in _LEADS_NOWHERE:
                raise
            return False

    @dual
    def read_bytes(self: Any, path: PathLike, *, offset: int = 0, size: int | None = None) -> bytes:
        """Content of a file, or ``size`` bytes of it from ``offset`` on. Fetches the blocks that these bytes are in."""
        tree = self._reading()
        node = find(tree, path).file()
        if offset < 0 or (size is not None and size < 0):
            raise UsageError("offset and size are not negative", hint="leave size out for all that follows")
        end = node.size if size is None else min(node.size, offset + size)
        check_memory(end - offset, as_text(path))
        parts: list[bytes] = []
        while offset < end and (data := tree.read(node, offset, min(end - offset, 16 << 20))):
            parts.append(data)
            offset += len(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    @dual
    def read_text(self: Any, path: PathLike, *, encoding: str = "utf-8") -> str:
        """Content of a file as text."""
        return self.read_bytes.sync(path).decode(encoding)

    @dual
    def open(
        self: Any, path: PathLike, mode: str = "rb", *, buffering: int = BUFFER, encoding: str | None = None,
        errors: str | None = None, newline: str | None = None,
    ) -> IO[Any]:  # fmt: skip
        """An open file, as the built-in `open` returns it, but binary unless ``mode`` says ``t``.

        Writing (``w``, ``a``, ``x``, ``+``) is for an `RWVolume`; what is closed or flushed is in its next version.
        """
        parsed = mode_of(mode)
        tree = self._writing() if parsed.writes else self._reading()
        return open_file(tree, path, parsed, buffering, encoding, errors, newline)

    @dual
    def download(
        self: Any, path: PathLike, dest: str | os.PathLike[str], *, force: bool = False,
        progress: Progress | None = None,
    ) -> Path:  # fmt: skip
        """Copy a file, or a directory with all below it, to local disk, with permissions and times; returns where.

        A ``dest`` that is a directory gets it under its own name, which of a symlink is the symlink's. Existing files
        are replaced only with ``force``; no file is ever there in part. Special files have no content and are left out,
        and ``progress`` is told of them.
        """
        tree = self._reading()
        return download(tree, as_text(path), Path(dest), force=force, progress=progress or quiet)

    @dual
    def warm_up(self: Any, *paths: PathLike) -> int:
        """Fetch files, directories with all below, or the whole volume into this machine's cache; the bytes fetched.

        The cache is the one of all mounts that name no other.
        """
        with self._access.lock:
            session: Unmounted = self._reader()
            tree = SessionTree(session, self)
        before = session.session.fetcher.fetched_bytes
        for path in paths or ("/",):
            find(tree, path).existing()
            session.warm(as_text(path))
        return session.session.fetcher.fetched_bytes - before

    @dual
    def close(self: Any) -> None:
        """Let go of the local files behind reading and writing without a mount.

        What was written and not committed is dropped. Idempotent, and the volume can be used again.
        """
        with self._access.lock:
            self._access.close()

    def _leave_unmounted(self) -> None:
        """Before a mount: its workspace is another one."""
        with self._access.lock:
            writer = self._access.writer
            if writer is not None and writer.changed:
                raise UsageError(
                    "something was written to the volume without a mount, and is in no version yet",
                    hint="commit() it before you mount the volume, or close() to drop it",
                )
            self._access.close()

    def _reading(self) -> FileTree:
        tree = self._mounted_tree()
        if tree is not None:
            return tree
        with self._access.lock:  # between the two another thread's first write would close the session
            return SessionTree(self._reader(), self)

    def _writing(self) -> FileTree:
        raise OSError(errno.EROFS, "a version is read-only: fork() it to write")

    def _mounted_tree(self) -> FileTree | None:
        mounting = self._mounting
        if mounting is None or not mounting.live:
            return None
        from flyteplugins_vol.io.mount_tree import MountTree

        return MountTree(mounting.path)

    def _reader(self) -> Unmounted:
        access = self._access
        with access.lock:
            base = str(self._record.locator) if self._record is not None else None
            session = access.session
            if session is not None and (access.writer is not None or session.spec.base == base):
                return session
            if base is None:
                access.check_ours(self.name)
            return access.open(self, self._spec(MountOptions(is_read_only=base is not None)))


def _below(tree: FileTree, where: str, directory: Node) -> Iterator[FileInfo]:
    for path, node in below(tree, where, directory):
        yield info_of(tree, path, node)


def _children(tree: FileTree, where: str, directory: Node) -> Iterator[FileInfo]:
    for name, node in tree.scan(directory):
        yield info_of(tree, join(where, name), node)
