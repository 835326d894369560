"""Files brought back as they were in another version: by reference, so no byte of theirs is read or stored."""

from __future__ import annotations

import errno
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from flyteplugins_vol.errors import AlreadyMountedError, NothingCommittedError
from flyteplugins_vol.history.checkout import disk_error
from flyteplugins_vol.history.record import Locator, parse_locator
from flyteplugins_vol.history.sources import check_store, sources
from flyteplugins_vol.history.unmounted import Unmounted, damage_told
from flyteplugins_vol.index.index import Index
from flyteplugins_vol.io.dual import dual
from flyteplugins_vol.io.session_tree import SessionTree, node_of
from flyteplugins_vol.io.tree import NameTree, Node, PathLike, as_bytes, as_text, error_at, find, normal
from flyteplugins_vol.model import ROOT_INO
from flyteplugins_vol.store.daemonpool import DaemonPool
from flyteplugins_vol.store.url import parse_store_url
from flyteplugins_vol.workspace.workspace import Workspace

if TYPE_CHECKING:
    from flyteplugins_vol.io.volume import Volume


class Restored(NamedTuple):
    """What was brought back: files of any type, directories too, and bytes of regular files."""

    files: int
    bytes: int


class Restoring:
    """What an `RWVolume` has of it."""

    @dual
    def restore(
        self: Any, path: PathLike, from_version: Volume | str, *, to: PathLike | None = None, overwrite: bool = False
    ) -> Restored:  # fmt: skip
        """Bring a file, or a directory with all below it, back as it was in another version; `commit` publishes it.

        ``from_version``: a version or its locator, of this or another volume of the same store; of a writable volume
        its last one. Its blocks are referred to: no byte is downloaded, read or stored. All comes back: modes, owners,
        atime and mtime, extended attributes, symlinks, special files, holes, and of hard links the names below the
        path; ctime is the time of the call. Directories above it that are missing come back too, without what else
        was in them.

        ``to``: another path for it, itself, in a directory that is there. ``overwrite``: what is there goes, a
        directory with all that it has now, in one step: after a kill either that is there or what came back.
        ``path`` ``/`` is the whole volume. A symlink at the end of a path is not followed.

        Raises `FileExistsError` without ``overwrite`` and other OSErrors; `AlreadyMountedError` while this handle has
        a mount, `OtherStoreError`, `NothingCommittedError`, `LocatorError`, `VersionNotFoundError`, `DamageError`,
        `NewerFormatError`, `VolumeBusyError`, `LocalDirectoryError`, `StoreError`: then nothing has changed.
        """
        self._check_open()
        where = located(from_version)
        check_store(where, self.store)
        session = unmounted_writer(self, "restore")
        # In a thread of its own: Ctrl-C in this one must not leave half of it in the workspace.
        with DaemonPool(1, "restore") as pool:
            return pool.submit(_restore, session, self, where, as_text(path), to, overwrite).result()


def located(version: Volume | str) -> Locator:
    """The locator of a version, or of a writable volume's last one. Raises `NothingCommittedError`, `LocatorError`."""
    if isinstance(version, str):
        where = parse_locator(version)
    else:
        known = version._record  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001
        if known is None:
            raise NothingCommittedError(f"volume {version.name!r} has no version yet", hint="commit() it first")
        where = known.locator
    return replace(where, store_url=parse_store_url(where.store_url).text)


def unmounted_writer(volume: Any, what: str) -> Unmounted:
    """The session that writes to a volume without a mount. Raises `AlreadyMountedError` where it has one."""
    if volume.mount_path is not None:
        raise AlreadyMountedError(
            f"cannot {what} while volume {volume.name!r} is mounted, at {volume.mount_path}: programs may be at work "
            "on what is there",
            hint="finalize() the mount first, or copy the files from a read-only mount of that version",
        )
    return volume._writer()  # noqa: SLF001


def _restore(
    session: Unmounted, owner: Any, where: Locator, path: str, to: PathLike | None, overwrite: bool
) -> Restored:  # fmt: skip
    with ExitStack() as stack, damage_told():
        (source,) = stack.enter_context(sources(session.session, session.spec.cache_dir, [where]))
        version = stack.enter_context(closing(Opened(source.path, session)))
        tree = SessionTree(session, owner)
        node = _found(version, path, where)
        target = path if to is None else as_text(to)
        parent, name, above = _place(tree, version, target, may_come=to is None)
        if not name and not node.is_dir:
            raise error_at(errno.ENOTDIR, target)
        check = partial(session.workspace.check_graft, replace=overwrite)
        graft = partial(session.workspace.graft, above=above, replace=overwrite)
        try:
            session.call(check, parent, name)  # before anything counts as changed
            done = session.change(graft, version.index, node.key, parent, name)
        except FileExistsError:
            raise error_at(errno.EEXIST, target) from None
        return Restored(*done)


def _found(version: NameTree, path: str, where: Locator) -> Node:
    try:
        node = find(version, path, follow=False).node
    except FileNotFoundError:
        node = None
    if node is None:
        raise OSError(errno.ENOENT, f"not in version {where.volume_name}@{where.sequence}", path)
    return node


def _place(
    tree: NameTree, version: NameTree, path: str, *, may_come: bool
) -> tuple[int, bytes, list[tuple[int, bytes]]]:
    """Where a path leads: number of the directory, the name in it, and what of the version is to come above it."""
    try:
        found = find(tree, path, follow=False)
    except FileNotFoundError:
        parts = [as_bytes(part) for part in normal(path)[1:].split("/")]
        if not may_come or b".." in parts:
            raise
        there = next(depth for depth in range(len(parts) - 1, -1, -1) if _directory(tree, parts[:depth]) is not None)
        directory = _directory(tree, parts[:there])
        if directory is None or tree.lookup(directory, parts[there]) is not None:  # a symlink that leads nowhere
            raise
        above: list[tuple[int, bytes]] = []
        for depth in range(there, len(parts) - 1):
            one = _directory(version, parts[: depth + 1])
            if one is None:
                raise
            above.append((one.key, parts[depth + 1]))
        return directory.key, parts[there], above
    return found.directory.key if found.name else ROOT_INO, found.name, []


def _directory(tree: NameTree, parts: list[bytes]) -> Node | None:
    try:
        node = find(tree, b"/".join(parts)).node
    except (FileNotFoundError, NotADirectoryError):
        return None
    return node if node is not None and node.is_dir else None


class Opened:
    """The names of a version whose index is here. One thread; `close` it."""

    def __init__(self, path: str, session: Unmounted) -> None:
        try:
            self.index = Index.open(path, read_only=True)
        except OSError as error:
            raise disk_error(error, path) from error
        self._workspace = Workspace(self.index, None, session.session.cache)

    def root(self) -> Node:
        return node_of(self._workspace.getattr(ROOT_INO))

    def lookup(self, directory: Node, name: bytes) -> Node | None:
        inode = self._workspace.lookup(directory.key, name)
        return None if inode is None else node_of(inode)

    def readlink(self, node: Node) -> bytes:
        return self._workspace.readlink(node.key)

    def close(self) -> None:
        self._workspace.close()
