"""Reading and writing a volume's files without a mount; through the mount where this handle has one.

Paths begin at the volume's root; a leading slash makes no difference. Errors are the usual ones of files
(`FileNotFoundError`, `FileExistsError`, `IsADirectoryError`, …); what the store does wrong is a `VolumeError`.
Everything here works on any platform. What is written becomes a version by `commit` or `finalize` of the same handle.
"""

from __future__ import annotations

import asyncio
import errno
import io
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from flyteplugins_vol.errors import NothingCommittedError, UsageError
from flyteplugins_vol.history.record import VersionRecord
from flyteplugins_vol.history.unmounted import Unmounted
from flyteplugins_vol.io import hosts
from flyteplugins_vol.io.access import Access
from flyteplugins_vol.io.batch import BatchUpload
from flyteplugins_vol.io.dual import dual
from flyteplugins_vol.io.info import FileInfo, info_of
from flyteplugins_vol.io.mounting import MountOptions
from flyteplugins_vol.io.session_tree import SessionTree
from flyteplugins_vol.io.transfer import Progress, download, quiet, write_file
from flyteplugins_vol.io.tree import (
    FileTree,
    Node,
    PathLike,
    as_text,
    below,
    check_memory,
    error_at,
    find,
    join,
    make_directories,
    normal,
    text_of,
)
from flyteplugins_vol.io.within import copy, remove, rename
from flyteplugins_vol.model import MountSpec

if TYPE_CHECKING:
    from flyteplugins_vol.io.mounting import Mounting
    from flyteplugins_vol.io.payload import Known

__all__ = ["Access", "BatchUpload", "FileInfo", "ReadFiles", "Walk", "WriteFiles"]

BUFFER = 256 << 10
"""Bytes that an open file reads or gathers at a time, unless told otherwise."""


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
        node = _file(find(tree, path).existing(), path)
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
        flags, binary = _flags(mode)
        writes = flags & (os.O_WRONLY | os.O_RDWR)
        tree = self._writing() if writes else self._reading()
        node = _node_to_open(tree, path, flags)
        raw = tree.open(node, flags & ~(os.O_CREAT | os.O_EXCL))
        file = _buffered(raw, flags, buffering)
        if binary:
            return file
        return io.TextIOWrapper(file, encoding or "utf-8", errors, newline)

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
            return _opened(self, access, self._spec(MountOptions(is_read_only=base is not None)))


class WriteFiles:
    """Methods of a writable volume that change its files."""

    if TYPE_CHECKING:
        name: str
        _access: Access
        _mounting: Mounting | None

        def _spec(self, options: MountOptions) -> MountSpec: ...
        def _check_open(self) -> None: ...
        def _mounted_tree(self) -> FileTree | None: ...

    def batch_upload(self, *, force: bool = False, progress: Progress | None = None) -> BatchUpload:
        """``with vol.batch_upload() as batch`` or ``async with``: files put into it come in together, at its end.

        If the body raises, none does, nor if one of them would replace what it may not. Where a local file or the disk
        fails in the middle, those before it have come in, whole, and wait for the next commit; `close` drops what no
        version has. ``force``: replace files that exist. Special files in directories have no content and are left out,
        and ``progress`` is told of them.
        """
        return BatchUpload(self, force, progress or quiet)

    @dual
    def write_bytes(self: Any, path: PathLike, data: bytes | bytearray | memoryview, *, force: bool = True) -> None:
        """Make a file with this content, or with ``force`` give it to the file that is there: whole or not at all.

        A new file has the mode 0644, one that is there keeps its own. Of several threads that write one path, the last
        one wins; without ``force`` the first. The directory must exist. Raises FileExistsError, IsADirectoryError.
        """
        tree = self._writing()
        write_file(tree, find(tree, path), io.BytesIO(data), mode=None, mtime=None, force=force)

    @dual
    def mkdir(self: Any, path: PathLike, *, parents: bool = False, exist_ok: bool = False) -> None:
        """Make a directory. ``parents``: also those above it that are missing."""
        tree = self._writing()
        if parents:
            make_directories(tree, normal(path).rpartition("/")[0])
        found = find(tree, path)
        if found.node is None:
            try:
                tree.mkdir(found.directory, found.name, 0o755)
                return
            except FileExistsError:  # somebody else just made it
                found = find(tree, path)
        if not (exist_ok and found.existing().is_dir):
            raise error_at(errno.EEXIST, as_text(path))

    @dual
    def remove(self: Any, path: PathLike, *, recursive: bool = False) -> None:
        """Remove a file, a symlink or an empty directory; with ``recursive`` a directory with all below it."""
        remove(self._writing(), as_text(path), recursive=recursive)

    @dual
    def copy(self: Any, source: PathLike, target: PathLike, *, recursive: bool = False, force: bool = False) -> None:
        """Copy a file, or with ``recursive`` a directory, within the volume. No byte is read or stored for it.

        A target that is a directory gets it inside; existing files are replaced only with ``force``. Symlinks are
        copied as such. Raises shutil.SameFileError, an OSError, if a file would take its own place, or a symlink that
        of the file that it leads to.
        """
        copy(self._writing(), as_text(source), as_text(target), recursive=recursive, force=force)

    @dual
    def rename(self: Any, source: PathLike, target: PathLike, *, force: bool = False) -> None:
        """Rename or move a file or a directory. A target that is a directory gets it inside."""
        rename(self._writing(), as_text(source), as_text(target), force=force)

    @property
    def has_changes(self) -> bool:
        """Whether something was written without a mount that no version has yet."""
        writer = self._access.writer
        return writer is not None and writer.changed

    def _writing(self) -> FileTree:
        self._check_open()
        tree = self._mounted_tree()
        if tree is not None:
            return tree
        with self._access.lock:
            return SessionTree(self._writer(), self)

    def _writer(self) -> Unmounted:
        access = self._access
        with access.lock:
            access.check_ours(self.name)
            return access.writer or _opened(self, access, self._spec(MountOptions()))

    def _commit_unmounted(self, message: str | None, progress: Any) -> VersionRecord:
        """Publish what was written without a mount."""
        writer = self._access.writer
        if writer is None:
            raise NothingCommittedError("nothing was written", hint="write something, or mount() the volume")
        return writer.commit(message, progress)


def _opened(volume: Any, access: Access, spec: MountSpec) -> Unmounted:
    """A session for a handle's files; if a task runs, it ends with the task, as a mount does."""
    session = access.open(volume, spec)
    hosts.mounted(volume, access.drop)
    return session


class Walk:
    """See `ReadFiles.walk`."""

    def __init__(self, volume: ReadFiles, path: PathLike) -> None:
        self._volume = volume
        self._path = path

    def __iter__(self) -> Iterator[tuple[str, list[str], list[str]]]:
        tree = self._volume._reading()  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001
        found = find(tree, self._path)
        node = found.existing()
        if not node.is_dir:
            raise error_at(errno.ENOTDIR, as_text(self._path))
        todo = [(normal(self._path), node)]
        while todo:
            where, directory = todo.pop()
            children = dict(tree.scan(directory))
            directories = [text_of(name) for name, child in children.items() if child.is_dir]
            nodes = {text_of(name): child for name, child in children.items() if child.is_dir}
            yield where, directories, [text_of(name) for name, child in children.items() if not child.is_dir]
            todo.extend((f"{where.rstrip('/')}/{name}", nodes[name]) for name in reversed(directories) if name in nodes)

    async def __aiter__(self) -> AsyncIterator[tuple[str, list[str], list[str]]]:
        steps = iter(self)
        while (step := await asyncio.to_thread(next, steps, None)) is not None:
            yield step


def _below(tree: FileTree, where: str, directory: Node) -> Iterator[FileInfo]:
    for path, node in below(tree, where, directory):
        yield info_of(tree, path, node)


def _children(tree: FileTree, where: str, directory: Node) -> Iterator[FileInfo]:
    for name, node in tree.scan(directory):
        yield info_of(tree, join(where, name), node)


def _file(node: Node, path: PathLike) -> Node:
    if node.is_dir:
        raise error_at(errno.EISDIR, as_text(path))
    if not node.is_file:
        raise OSError(errno.EINVAL, "has no content", as_text(path))
    return node


def _node_to_open(tree: FileTree, path: PathLike, flags: int) -> Node:
    place = find(tree, path)
    if place.node is None and flags & os.O_CREAT:
        try:
            return tree.make(place.directory, place.name, 0o666)
        except FileExistsError:  # somebody else just made it
            place = find(tree, path)
    node = _file(place.existing(), path)
    if flags & os.O_EXCL:
        raise error_at(errno.EEXIST, as_text(path))
    return node


_MODES = {
    "r": os.O_RDONLY,
    "r+": os.O_RDWR,
    "w": os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
    "w+": os.O_RDWR | os.O_CREAT | os.O_TRUNC,
    "x": os.O_WRONLY | os.O_CREAT | os.O_EXCL,
    "x+": os.O_RDWR | os.O_CREAT | os.O_EXCL,
    "a": os.O_WRONLY | os.O_CREAT | os.O_APPEND,
    "a+": os.O_RDWR | os.O_CREAT | os.O_APPEND,
}


def _flags(mode: str) -> tuple[int, bool]:
    """Flags of open(2) for a mode such as ``rb+``, and whether it is binary."""
    flags = _MODES.get("".join(sorted(set(mode) - {"b", "t"}, reverse=True)))
    if flags is None or len(set(mode)) != len(mode) or {"b", "t"} <= set(mode):
        raise ValueError(f"invalid mode: {mode!r}")
    return flags, "t" not in mode


def _buffered(raw: io.RawIOBase, flags: int, buffering: int) -> IO[bytes]:
    size = max(1, buffering)
    if flags & os.O_RDWR:
        return io.BufferedRandom(raw, size)
    if flags & os.O_WRONLY:
        return io.BufferedWriter(raw, size)
    return io.BufferedReader(raw, size)
