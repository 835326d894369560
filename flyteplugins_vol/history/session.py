"""Session: one volume, opened from its store to a workspace that serves reads and takes commits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from flyteplugins_vol.config import StoreOptions
from flyteplugins_vol.history.checkout import IndexCache, disk_error
from flyteplugins_vol.history.commit import Committer, Progress
from flyteplugins_vol.history.lease import LeaseKeeper
from flyteplugins_vol.history.local import WorkspaceDirectory
from flyteplugins_vol.history.record import VersionRecord, load_record, parse_locator
from flyteplugins_vol.history.refreshing import NewVersion, find_version, prepare
from flyteplugins_vol.history.writing import open_writing
from flyteplugins_vol.index.database import check_sqlite
from flyteplugins_vol.index.index import Index
from flyteplugins_vol.model import MountSpec
from flyteplugins_vol.store.base import ObjectStore
from flyteplugins_vol.store.cache import BlockCache
from flyteplugins_vol.store.fetch import Fetcher
from flyteplugins_vol.store.open import open_store
from flyteplugins_vol.workspace.sealing import Call, Sealer
from flyteplugins_vol.workspace.subtree import subtree
from flyteplugins_vol.workspace.warmup import warm_in_background
from flyteplugins_vol.workspace.workspace import Workspace

_LAST_MOVE_SECONDS = 3.0  # for a ref that is being moved when the mount is abandoned
_RELEASE_SECONDS = 3.0  # for the lease to be released; after that it ends by itself


class Session:
    """An open volume. ``workspace`` belongs to its owner thread; the rest is thread-safe."""

    def __init__(
        self, store: ObjectStore, cache: BlockCache, workspace: Workspace, call: Call, max_uploads: int
    ) -> None:  # fmt: skip
        self.store = store
        self.cache = cache
        self._workspace = workspace
        self.workspace = workspace  # as the mount shows it: perhaps only a part
        self.fetcher = Fetcher(store, cache)
        self.sealer = Sealer(workspace, call, store, cache, most=max_uploads)
        self._directory: WorkspaceDirectory | None = None
        self._committer: Committer | None = None
        self._lease: LeaseKeeper | None = None
        self.resumed = False  # with what an earlier process left uncommitted
        self.opened: VersionRecord | None = None  # the version that was checked out
        workspace.on_sequential(self.fetcher.prefetch)

    def take_commits(self, committer: Committer, directory: WorkspaceDirectory, lease: LeaseKeeper | None) -> None:
        self._committer = committer
        self._directory = directory
        self._lease = lease

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
        self, message: str | None, call: Call,
        freeze: Callable[[], None], thaw: Callable[[], None], progress: Progress,
    ) -> VersionRecord:  # fmt: skip
        """See `Committer.commit`. A read-only session has nothing to commit: RuntimeError."""
        if self._committer is None:
            raise RuntimeError("a read-only session takes no commits")
        return self._committer.commit(message, call, freeze, thaw, progress)

    def taking_over(self) -> AbstractContextManager[None]:
        """See `Committer.taking_over`. A read-only session: RuntimeError."""
        if self._committer is None:
            raise RuntimeError("a read-only session takes nothing over")
        return self._committer.taking_over()

    def merged(self, versions: Sequence[str]) -> None:
        """Note for the next version what else than its base it builds on, by locators. Inside of `taking_over`."""
        assert self._committer is not None
        self._committer.merge(versions)

    def find_version(self, to: str | None) -> VersionRecord | None:
        """See `refreshing.find_version`. Not in the owner thread, as the next one."""
        return find_version(self, to)

    def prepare(self, spec: MountSpec, record: VersionRecord) -> NewVersion:
        """See `refreshing.prepare`."""
        return prepare(self, spec, record)

    def take(self, new: NewVersion, spec: MountSpec, call: Call) -> Callable[[], None]:
        """Show that version from now on. Owner thread.

        The one before stays as it is, for those who have files of it open, and is closed by what is returned.
        """
        before, self._workspace = self._workspace, new.whole
        self.opened = new.record
        self.workspace = new.view
        if spec.high_throughput:
            new.whole.index.hold_all()
        before.index.hold_little()
        new.whole.on_sequential(self.fetcher.prefetch)
        if spec.warmup:
            warm_in_background(new.view, call, self.fetcher, spec.warmup)
        return before.close

    def shown(self) -> VersionRecord | None:
        """The version that a read-only session shows."""
        return self.opened

    def written_bytes(self) -> int:
        """Bytes that were written since it was opened, but for what was written over meanwhile. Owner thread."""
        return self._workspace.staged_bytes + self.sealer.plain_bytes + self.sealer.known_bytes

    def follow_evictions(self) -> None:
        """Give up the space of what other processes have evicted from the cache. Any thread."""
        self.cache.close_evicted()

    def let_go(self) -> None:
        """Forget blocks that were brought for readers who did not come. Any thread."""
        self.cache.let_go()

    def status(self) -> dict[str, Any]:
        """Counts for people. Owner thread."""
        return {
            **self._workspace.status(),
            "fetched_bytes": self.fetcher.fetched_bytes,
            "fetch_requests": self.fetcher.requests,
            "cache_hits": max(0, self.cache.hits - self.cache.misses),
            "cache_misses": self.cache.misses,
            "packs_written": self.sealer.packs,
            "packed_bytes": self.sealer.plain_bytes,
            "uploaded_bytes": self.sealer.stored_bytes,
            "known_bytes": self.sealer.known_bytes,
            "base": str(self.base.locator) if self.base is not None else None,
            "lease": self._lease.status() if self._lease is not None else None,
        }

    def close(self, keep: bool) -> None:
        """Let go of everything. ``keep``: leave the workspace on disk for a later process to resume."""
        self._workspace.passthrough.close()  # first: what it takes over is in no version
        clean = not self._workspace.changed and not self._workspace.publishing
        over = self._committer is None or self._committer.stop(_LAST_MOVE_SECONDS)
        self.fetcher.close()
        self._workspace.close()  # keeps the index file as it is while a commit still reads it
        self.cache.close()
        if self._lease is not None:
            # A ref that may still move is not to be met by a successor who was told that nobody is there.
            self._lease.close(_RELEASE_SECONDS, release=over)
        self.store.close()
        if self._directory is not None:
            if not keep:
                self._directory.clear()
            elif clean:
                self._directory.mark_clean()

    def abandon(self) -> None:
        """Drop what was not committed. A commit that is under way publishes nothing after this."""
        self.close(keep=False)

    def remove(self) -> None:
        """After a `close` that kept nothing: see `WorkspaceDirectory.remove`."""
        if self._directory is not None:
            self._directory.remove()


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
            session = opened(spec, call, store, cache, indexes, progress)
        except BaseException:
            store.close()
            raise
        try:
            if spec.high_throughput:
                session.workspace.index.hold_all()
            session.show(spec, call)
        except BaseException:
            session.close(keep=True)
            raise
        return session
    except OSError as error:
        raise disk_error(error, spec.meta_dir) from error


def _open_read_only(
    spec: MountSpec, call: Call, store: ObjectStore, cache: BlockCache, indexes: IndexCache, _: Progress
) -> Session:
    assert spec.base is not None
    record = load_record(store, parse_locator(spec.base))
    path = indexes.checkout(store, record)[0]
    session = Session(store, cache, Workspace(Index.open(path, read_only=True), None, cache), call, spec.max_uploads)
    session.opened = record
    return session


def _open_writable(
    spec: MountSpec, call: Call, store: ObjectStore, cache: BlockCache, indexes: IndexCache, progress: Progress
) -> Session:
    writing = open_writing(spec, store, cache, indexes, progress)
    session = Session(store, cache, writing.workspace, call, spec.max_uploads)
    session.resumed = writing.resumed
    committer = writing.committer(spec, store, session.sealer, indexes)
    session.take_commits(committer, writing.directory, writing.lease)
    return session
