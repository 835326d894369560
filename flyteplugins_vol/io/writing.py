"""Changing a volume's files without a mount; through the mount where this handle has one.

Paths and errors are as in `reading`, with those of a change (`FileExistsError`, `SameFileError`, …). What is written
becomes a version by `commit` or `finalize` of the same handle.
"""

from __future__ import annotations

import errno
import io
from typing import TYPE_CHECKING, Any

from flyteplugins_vol.errors import NothingCommittedError
from flyteplugins_vol.history.record import VersionRecord
from flyteplugins_vol.history.unmounted import Unmounted
from flyteplugins_vol.io.access import Access
from flyteplugins_vol.io.batch import BatchUpload
from flyteplugins_vol.io.dual import dual
from flyteplugins_vol.io.mounting import MountOptions
from flyteplugins_vol.io.session_tree import SessionTree
from flyteplugins_vol.io.transfer import Progress, quiet, write_file
from flyteplugins_vol.io.tree import FileTree, PathLike, as_text, error_at, find, make_directories, normal
from flyteplugins_vol.io.within import copy, remove, rename
from flyteplugins_vol.model import MountSpec

if TYPE_CHECKING:
    from flyteplugins_vol.io.mounting import Mounting


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
    def write_text(self: Any, path: PathLike, text: str, *, encoding: str = "utf-8", force: bool = True) -> None:
        """`write_bytes` of a text."""
        self.write_bytes.sync(path, text.encode(encoding), force=force)

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
            return access.writer or access.open(self, self._spec(MountOptions()))

    def _commit_unmounted(self, message: str | None, progress: Any) -> VersionRecord:
        """Publish what was written without a mount."""
        writer = self._access.writer
        if writer is None:
            raise NothingCommittedError("nothing was written", hint="write something, or mount() the volume")
        return writer.commit(message, progress)
