"""Whole files and directories, in and out of a volume: what the public methods do, over any `FileTree`."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from flyteplugins_vol.errors import IndexDamagedError
from flyteplugins_vol.io.conflicts import Conflicts, check_free
from flyteplugins_vol.io.tree import (
    FileTree,
    Found,
    Node,
    as_bytes,
    error_at,
    find,
    join,
    lookup,
    make_directories,
    normal,
)
from flyteplugins_vol.store.daemonpool import DaemonPool

Progress = Callable[[Mapping[str, Any]], None]
"""Told, from any thread, of ``{"phase", "path", "bytes"}``: so many bytes more of a file; and of ``{"phase": "skipped",
"path"}`` for each fifo, socket and device, which has no content and is left out."""

_PART = 4 << 20  # bytes read at a time: one block
_THREADS = 8


def quiet(event: Mapping[str, Any]) -> None:
    """The progress of those who want none."""


# ------------------------------------------------------------------------------------------------ out


def download(tree: FileTree, path: str, target: Path, *, force: bool, progress: Progress) -> Path:
    """Copy a file, or a directory with all below, to local disk; returns where it is.

    A target that is a directory gets it under its own name (of the root: what is in it). A symlink is followed, and its
    name stays.
    """
    node = find(tree, path).existing()
    name = find(tree, path, follow=False).name
    if name:
        check_name(name, path)
    if target.is_dir() and name:
        target = target / os.fsdecode(name)
    if not node.is_dir:
        _Download(tree, force, progress).file(node, normal(path), target)
        return target
    with DaemonPool(_THREADS, "download") as pool:
        job = _Download(tree, force, progress)
        pending = [pool.submit(job.file, *args) for args in job.directories(node, normal(path), target)]
        try:
            for future in pending:
                future.result()
        except BaseException:
            job.stopped = True
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    job.settle_directories()
    return target


class _Download:
    def __init__(self, tree: FileTree, force: bool, progress: Progress) -> None:
        self._tree = tree
        self._force = force
        self._progress = progress
        self._made: list[tuple[Path, Node]] = []
        self.stopped = False

    def directories(self, node: Node, path: str, target: Path) -> Iterator[tuple[Node, str, Path]]:
        """Make all directories and symlinks; yields the files that are to be copied."""
        todo = [(node, path, target)]
        while todo:
            node, path, target = todo.pop()
            self._make(target)
            self._made.append((target, node))
            for name, child in self._tree.scan(node):
                here, there = join(path, check_name(name, path)), target / os.fsdecode(name)
                if child.is_dir:
                    todo.append((child, here, there))
                elif child.is_symlink:
                    self._clear(there)
                    os.symlink(os.fsdecode(self._tree.readlink(child)), there)
                elif child.is_file:
                    yield child, here, there
                else:
                    self._progress({"phase": "skipped", "path": here})

    def file(self, node: Node, path: str, target: Path) -> None:
        """Copy one file, whole or not at all, with its permissions and times."""
        if not node.is_file:
            raise OSError(errno.EINVAL, "has no content that could be copied", path)
        self._check(target)
        part = target.with_name(f".flytevol-{uuid.uuid4().hex[:12]}")
        try:
            with _named(part, target):
                with open(part, "xb") as file:
                    self._fill(file, node, path)
                os.chmod(part, node.mode & 0o777)
                os.utime(part, ns=(node.atime, node.mtime))
            self._clear(target)
            os.replace(part, target)
        except BaseException:
            with suppress(OSError):
                os.unlink(part)
            raise

    def settle_directories(self) -> None:
        """Permissions and times of directories, the deepest first."""
        for target, node in reversed(self._made):
            os.chmod(target, node.mode & 0o777)
            os.utime(target, ns=(node.atime, node.mtime))

    def _fill(self, file: BinaryIO, node: Node, path: str) -> None:
        at: int | None = 0
        while (at := self._tree.next_data(node, at)) is not None and (data := self._tree.read(node, at, _PART)):
            if self.stopped:
                raise InterruptedError(errno.EINTR, "stopped", path)
            file.seek(at)  # what is a hole there is one here
            file.write(data)
            at += len(data)
            self._progress({"phase": "download", "path": path, "bytes": len(data)})
        file.truncate(node.size)

    def _make(self, target: Path) -> None:
        if target.is_symlink() or (target.exists() and not target.is_dir()):
            self._clear(target)
        target.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _check(self, target: Path) -> None:
        if not self._force and os.path.lexists(target):
            raise error_at(errno.EEXIST, str(target))

    def _clear(self, target: Path) -> None:
        """Take away what is at the target, if that is allowed; a directory never goes."""
        self._check(target)
        if os.path.lexists(target):
            if target.is_dir() and not target.is_symlink():
                raise error_at(errno.EISDIR, str(target))
            os.unlink(target)


@contextmanager
def _named(part: Path, target: Path) -> Generator[None]:
    """Errors tell of the target that somebody has named. A full disk says by itself of what only when it is opened."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            error.filename = str(target.parent)
        elif error.filename == str(part):
            error.filename = str(target)
        raise


def check_name(name: bytes, path: str) -> bytes:
    """The name, unless it would lead elsewhere: an index can be of somebody else's making."""
    if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
        raise IndexDamagedError(f"the directory {path} has an entry named {name!r}", hint="use another version")
    return name


# ------------------------------------------------------------------------------------------------- in


@dataclass(frozen=True)
class Put:
    """One thing to bring in: bytes from a local path or a file object, to a path in the volume."""

    source: Path | BinaryIO
    path: str
    mode: int | None = None


def write_file(
    tree: FileTree, place: Found, source: BinaryIO, *, mode: int | None, mtime: int | None, force: bool,
    progress: Progress = quiet,
) -> None:  # fmt: skip
    """Make a file of what ``source`` holds: whole or not at all; with ``force`` in the place of another file.

    ``mode``: permissions; None: those of the file in whose place it comes, else 0644.
    """
    if mode is None:
        there = place.node
        mode = there.mode & 0o1777 if there is not None and there.is_file else 0o644

    def fill(node: Node) -> None:
        with tree.open(node, os.O_WRONLY) as file:
            while data := source.read(_PART):
                view = memoryview(data)
                while view:
                    view = view[file.write(view) or 0 :]
                progress({"phase": "upload", "path": place.path, "bytes": len(data)})

    make_file(tree, place, fill, mode=mode, mtime=mtime, force=force)


def make_file(
    tree: FileTree, place: Found, fill: Callable[[Node], None], *, mode: int, mtime: int | None, force: bool
) -> None:
    """Make a file that has its name, with ``force`` another file's, once ``fill`` has filled it."""
    check_free(place, force)
    with tree.unnamed(place.directory, 0o600) as node:  # a mount opens it by name, which its own mode may forbid
        fill(node)
        tree.set_attributes(node, mode=mode, mtime=mtime)
        give_name(tree, node, place, force)


def make_symlink(tree: FileTree, place: Found, target: bytes, *, force: bool) -> None:
    """As `make_file`: a symlink."""
    check_free(place, force)
    with tree.unnamed(place.directory, 0, target) as node:
        give_name(tree, node, place, force)


def give_name(tree: FileTree, node: Node, place: Found, force: bool) -> None:
    """Let an unnamed file be at that place, with ``force`` in that of another file. Raises OSError with the path."""
    try:
        tree.give_name(node, place.directory, place.name, replace=force)
    except (FileExistsError, IsADirectoryError) as error:  # somebody has made it meanwhile
        raise error_at(error.errno or errno.EEXIST, place.path) from None


class Upload:
    """Brings many files in. Directories on the way are looked up once."""

    def __init__(self, tree: FileTree, *, force: bool, progress: Progress = quiet) -> None:
        self._tree = tree
        self._force = force
        self._progress = progress
        self._directories: dict[str, Node] = {}

    def check(self, puts: Sequence[Put]) -> None:
        """Raise FileExistsError and the like for what is there already, before anything is changed."""
        conflicts = Conflicts(self._tree, force=self._force)
        for put in puts:
            if isinstance(put.source, Path) and put.source.is_dir():
                conflicts.check_directory(put.source, put.path)
            else:
                conflicts.check_file(put.path)

    def put(self, put: Put) -> None:
        if not isinstance(put.source, Path):
            write_file(
                self._tree, self._place(put.path), put.source, mode=put.mode, mtime=None, force=self._force,
                progress=self._progress,
            )  # fmt: skip
        elif put.source.is_dir():
            self._put_directory(put.source, put.path)
        else:
            self._put_file(put.source, put.path, put.mode)

    def _put_directory(self, source: Path, path: str) -> None:
        todo, made = [(source, path)], list[tuple[Path, Node]]()
        while todo:
            source, path = todo.pop()
            made.append((source, self._directory(path)))
            with os.scandir(source) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    there = join(path, os.fsencode(entry.name))
                    if entry.is_symlink():
                        self._put_symlink(Path(entry.path), there)
                    elif entry.is_dir():
                        todo.append((Path(entry.path), there))
                    elif entry.is_file():
                        self._put_file(Path(entry.path), there, None)
                    else:
                        self._progress({"phase": "skipped", "path": entry.path})
        for source, node in reversed(made):  # at last, or what is put into them would change their times
            info = source.stat()
            self._tree.set_attributes(node, mode=info.st_mode, mtime=info.st_mtime_ns)

    def _put_file(self, source: Path, path: str, mode: int | None) -> None:
        with open(source, "rb", buffering=0) as file:
            info = os.fstat(file.fileno())
            write_file(
                self._tree, self._place(path), file, mode=info.st_mode if mode is None else mode,
                mtime=info.st_mtime_ns, force=self._force, progress=self._progress,
            )  # fmt: skip

    def _put_symlink(self, source: Path, path: str) -> None:
        place = self._place(path)
        make_symlink(self._tree, place, os.fsencode(os.readlink(source)), force=self._force)

    def _place(self, path: str) -> Found:
        above, _, name = path.rpartition("/")
        directory = self._directory(above)
        return Found(directory, as_bytes(name), lookup(self._tree, directory, as_bytes(name), path), path)

    def _directory(self, path: str) -> Node:
        found = self._directories.get(path)
        if found is None:
            found = self._directories[path] = make_directories(self._tree, path)
        return found
