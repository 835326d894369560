"""Session: one volume, opened from its store to a workspace that serves reads and takes commits."""

from __future__ import annotations

import errno
import logging
import os
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from flyteplugins_vol.config import StoreOptions
from flyteplugins_vol.errors import LocalDirectoryError
from flyteplugins_vol.history.checkout import IndexCache, copy_file
from flyteplugins_vol.history.commit import Base, Committer, Line, Progress
from flyteplugins_vol.history.local import WorkspaceDirectory, WorkspaceState
from flyteplugins_vol.history.record import VersionRecord, load_record, parse_locator
from flyteplugins_vol.history.refs import read_ref, ref_key
from flyteplugins_vol.history.segments import Segments
from flyteplugins_vol.index.database import check_sqlite
from flyteplugins_vol.index.index import Index
from flyteplugins_vol.model import MountSpec
from flyteplugins_vol.store.base import ObjectStore
from flyteplugins_vol.store.cache import BlockCache
from flyteplugins_vol.store.fetch import Fetcher
from flyteplugins_vol.store.open import open_store
from flyteplugins_vol.workspace.sealing import Call, Sealer
from flyteplugins_vol.workspace.staging import Staging
from flyteplugins_vol.workspace.subtree import subtree
from flyteplugins_vol.workspace.warmup import warm_in_background
from flyteplugins_vol.workspace.workspace import Workspace

log = logging.getLogger(__name__)


class Session:
    """An open volume. ``workspace`` belongs to its owner thread; the rest is thread-safe."""

    def __init__(self, store: ObjectStore, cache: BlockCache, workspace: Workspace, call: Call) -> None:
        self.store = store
        self.cache = cache
        self._workspace = workspace
        self.workspace = workspace  # as the mount shows it: perhaps only a part
        self.fetcher = Fetcher(store, cache)
        self.sealer = Sealer(workspace, call, store, cache)
        self._directory: WorkspaceDirectory | None = None
        self._committer: Committer | None = None
        self.opened: VersionRecord | None = None  # the version that was checked out
        workspace.on_sequential(self.fetcher.prefetch)

    def take_commits(self, committer: Committer, directory: WorkspaceDirectory) -> None:
        self._committer = committer
        self._directory = directory

    @property
    def base(self) -> VersionRecord | None:
        """The version that the workspace builds on."""
        return self._committer.base if self._committer is not None else self.opened

    def show(self, spec: MountSpec, call: Call) -> None:
        """Do what the mount asked for beyond opening: show a part only, fetch files ahead. Raises `UsageError`."""
        whole = self._workspace
        if spec.subdir is not None:
            self.workspace = subtree(whole, spec.subdir)
        if spec.warmup:
            warm_in_background(self.workspace, call, self.fetcher, spec.warmup)

    def set_producer(self, produced_by: Mapping[str, Any]) -> None:
        """Who makes the versions from now on."""
        if self._committer is not None:
            self._committer.set_producer(produced_by)

    def commit(
        self, message: str | None, barrier: Callable[[], None], call: Call,
        freeze: Callable[[], None], thaw: Callable[[], None], progress: Progress,
    ) -> VersionRecord:  # fmt: skip
        """See `Committer.commit`. A read-only session has nothing to commit: RuntimeError."""
        if self._committer is None:
            raise RuntimeError("a read-only session takes no commits")
        return self._committer.commit(message, barrier, call, freeze, thaw, progress)

    def status(self) -> dict[str, Any]:
        """Counts for people. Owner thread."""
        return {
            **self._workspace.status(),
            "fetched_bytes": self.fetcher.fetched_bytes,
            "fetch_requests": self.fetcher.requests,
            "packs_written": self.sealer.packs,
            "packed_bytes": self.sealer.plain_bytes,
            "uploaded_bytes": self.sealer.stored_bytes,
            "known_bytes": self.sealer.known_bytes,
            "base": str(self.base.locator) if self.base is not None else None,
        }

    def close(self, keep: bool) -> None:
        """Let go of everything. ``keep``: leave the workspace on disk for a later process to resume."""
        self.fetcher.close()
        self._workspace.close()  # keeps the index file as it is while a commit still reads it
        self.cache.close()
        self.store.close()
        if not keep and self._directory is not None:
            self._directory.clear()

    def abandon(self) -> None:
        """Drop what was not committed."""
        self.close(keep=False)


def open_session(spec: MountSpec, call: Call, progress: Progress) -> Session:
    """Open the volume that a mount asks for: record, index, workspace. Blocks; nothing per file.

    ``call`` runs a function in the thread that will own the workspace. Raises `VolumeError`.
    """
    check_sqlite()
    try:
        store = open_store(spec.store_url, StoreOptions.from_wire(spec.store_options))
        cache = BlockCache(spec.cache_dir, spec.cache_size)
        indexes = IndexCache(spec.cache_dir)
        try:
            opened = _open_read_only if spec.read_only else _open_writable
            session = opened(spec, call, store, cache, indexes)
        except BaseException:
            store.close()
            raise
        try:
            session.show(spec, call)
        except BaseException:
            session.close(keep=True)
            raise
        return session
    except OSError as error:
        raise LocalDirectoryError(
            f"{error.filename or spec.meta_dir}: {error.strerror or error}",
            hint="free some space there, or give cache_dir= and meta_dir= on another disk"
            if error.errno in (errno.ENOSPC, errno.EDQUOT)
            else "give cache_dir= and meta_dir= that you can write to",
        ) from error


def _open_read_only(spec: MountSpec, call: Call, store: ObjectStore, cache: BlockCache, indexes: IndexCache) -> Session:
    assert spec.base is not None
    record = load_record(store, parse_locator(spec.base))
    path, _ = indexes.checkout(store, record)
    session = Session(store, cache, Workspace(Index.open(path, read_only=True), None, cache), call)
    session.opened = record
    return session


def _open_writable(spec: MountSpec, call: Call, store: ObjectStore, cache: BlockCache, indexes: IndexCache) -> Session:
    directory = WorkspaceDirectory(spec.meta_dir)
    state = directory.load(spec.volume_id) if spec.resume else None
    resumed = state is not None
    if state is None:
        directory.clear()
        state, record, segments = _check_out(spec, store, indexes, directory)
    else:
        record, segments = _resume(spec, store, indexes, state)
    index = Index.open(directory.index, read_only=False)
    try:
        if resumed:
            index.db.checkpoint()  # what Staging is about to delete, no row of a crash may bring back
        live = index.db.sql.execute("SELECT pos, length FROM staged").fetchall()
        staging = Staging.resume(directory.staging, live)
        workspace = Workspace(index, staging, cache, ripe=spec.upload_delay)
    except BaseException:
        index.close()
        raise
    workspace.changed = resumed or record is None
    session = Session(store, cache, workspace, call)

    if not resumed:
        state.seen, state.first_pack = time.time(), index.blocks.next_pack
        directory.save(state)

    def published(base: Base) -> None:
        assert base.record is not None
        assert base.segments is not None
        state.base, state.seen, state.first_pack = str(base.record.locator), base.seen, base.first_pack
        try:
            directory.save(state)
            indexes.keep(base.record, directory.index, base.segments)
        except OSError as error:  # the version is published: a full local disk must not make that a failure
            log.warning("version %s is published, but not noted on local disk: %s", base.record.locator, error)

    line = Line(spec.volume_name, spec.volume_id, state.writer, spec.author, spec.produced_by)
    base = Base(record, segments, state.seen, state.first_pack)
    session.take_commits(Committer(store, workspace, session.sealer, line, base, published), directory)
    return session


def _check_out(
    spec: MountSpec, store: ObjectStore, indexes: IndexCache, directory: WorkspaceDirectory
) -> tuple[WorkspaceState, VersionRecord | None, Segments | None]:
    base = segments = None
    if spec.base is None:
        Index.create(directory.index, uid=os.getuid(), gid=os.getgid()).close()
    else:
        base = load_record(store, parse_locator(spec.base))
        base.check_writable()
        path, segments = indexes.checkout(store, base)
        copy_file(path, directory.index)
    state = WorkspaceState(spec.volume_id, uuid.uuid4().hex, spec.base)
    return state, base, segments


def _resume(
    spec: MountSpec, store: ObjectStore, indexes: IndexCache, state: WorkspaceState
) -> tuple[VersionRecord | None, Segments | None]:
    """What a workspace that an earlier process left builds on: its own last version, also if it never heard so."""
    ref = read_ref(store, ref_key(spec.volume_name, spec.volume_id))
    if ref is not None and ref.writer == state.writer:
        state.base = f"{store.url}/volumes/{spec.volume_name}-{spec.volume_id}/versions/{ref.version}"
    if state.base is None:
        return None, None
    base = load_record(store, parse_locator(state.base))
    base.check_writable()
    return base, indexes.checkout(store, base)[1]
