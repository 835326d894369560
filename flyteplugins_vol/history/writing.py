"""Opening a volume to write to it: its workspace on local disk, resumed or checked out, and the lease beside that.

The lease is taken, and the ref read, while the record and the index are on their way; the answer is there before
anybody gets the session. See `lease` for what it promises.
"""

from __future__ import annotations

import logging
import time
import uuid
from dataclasses import replace
from typing import NamedTuple

from flyteplugins_vol.errors import VersionNotFoundError
from flyteplugins_vol.history.admission import Admission
from flyteplugins_vol.history.checkout import IndexCache, copy_file
from flyteplugins_vol.history.commit import Base, Committer, Line, Progress
from flyteplugins_vol.history.copies import read_copy
from flyteplugins_vol.history.lease import LeaseKeeper
from flyteplugins_vol.history.local import WorkspaceDirectory, WorkspaceState, attempt_of
from flyteplugins_vol.history.record import Locator, VersionRecord, load_record, parse_locator
from flyteplugins_vol.history.refs import read_ref, ref_key
from flyteplugins_vol.history.segments import Segments, summary
from flyteplugins_vol.index.index import Index
from flyteplugins_vol.model import MountSpec
from flyteplugins_vol.portable import user_and_group
from flyteplugins_vol.store.base import ObjectStore
from flyteplugins_vol.store.cache import BlockCache
from flyteplugins_vol.workspace.sealing import Sealer
from flyteplugins_vol.workspace.staging import Staging
from flyteplugins_vol.workspace.workspace import Workspace

log = logging.getLogger(__name__)


class Writing(NamedTuple):
    """What a writable session has besides a read-only one."""

    workspace: Workspace
    directory: WorkspaceDirectory
    lease: LeaseKeeper | None
    state: WorkspaceState
    base: Base
    resumed: bool  # with something that may be in no version

    def committer(
        self, spec: MountSpec, store: ObjectStore, sealer: Sealer, indexes: IndexCache
    ) -> Committer:  # fmt: skip
        """What publishes this workspace."""
        state, directory = self.state, self.directory

        def published(base: Base) -> None:
            # A workspace that becomes another volume's is its own volume's until it is cleared: were it noted here, a
            # kill before that would leave in the one's place what belongs to the other.
            assert base.record is not None
            assert base.segments is not None
            state.base, state.seen, state.first_pack = str(base.record.locator), base.seen, base.first_pack
            state.index = summary(base.segments.hashes)
            state.merged = ()
            try:
                if spec.resume_of is None:
                    directory.save(state)
                indexes.keep(base.record, directory.index, base.segments)
            except OSError as error:  # the version is published: a full local disk must not make that a failure
                log.warning("version %s is published, but not noted on local disk: %s", base.record.locator, error)

        def merged(versions: tuple[str, ...]) -> None:
            state.merged = versions
            try:
                directory.save(state)
            except OSError as error:  # after a kill its next version will not say what was merged into it
                log.warning("what was merged into %s is not noted on local disk: %s", directory.path, error)

        line = Line(spec.volume_name, spec.volume_id, state.writer, spec.author, spec.produced_by)
        return Committer(store, self.workspace, sealer, line, self.base, self.lease, published, state.merged, merged)


def open_writing(
    spec: MountSpec, store: ObjectStore, cache: BlockCache, indexes: IndexCache, progress: Progress
) -> Writing:
    """Open the workspace and take the lease. Blocks; nothing per file. Raises `VolumeError`, OSError."""
    directory = WorkspaceDirectory(spec.meta_dir)
    state = _left(spec, store, directory)
    resumed = state is not None
    if spec.resume_of is not None and state is not None:
        state = replace(state, volume_id=spec.volume_id, volume_name=spec.volume_name, writer=uuid.uuid4().hex)
    if state is None:
        directory.clear()
        state = WorkspaceState(
            spec.volume_id, uuid.uuid4().hex, spec.base, volume_name=spec.volume_name, store_url=spec.store_url,
            attempt=attempt_of(spec.produced_by),
        )  # fmt: skip
    admission = Admission(spec, state, store, progress, resumed=resumed)
    try:
        if resumed:
            record, segments = _resume(store, indexes, state)
        else:
            record, segments = _check_out(spec, store, indexes, directory)
        index = Index.open(directory.index, read_only=False)
        try:
            if resumed:
                index.db.checkpoint()  # what Staging is about to delete, no row of a crash may bring back
            live = index.db.sql.execute("SELECT pos, length FROM staged").fetchall()
            workspace = Workspace(index, Staging.resume(directory.staging, live), cache, ripe=spec.upload_delay)
            left = resumed and not state.clean
            workspace.changed = left or record is None
            admission.settle()
            if not resumed:
                state.seen, state.first_pack = time.time(), index.blocks.next_pack
                state.index = summary(segments.hashes) if segments is not None else ""
            state.clean = False
            if spec.resume_of is None:  # else it is what it was, until it is published
                directory.save(state)
        except BaseException:
            index.close()
            raise
    except BaseException:
        admission.withdraw()
        raise
    base = Base(record, segments, state.seen, state.first_pack)
    return Writing(workspace, directory, admission.lease, state, base, left)


def _left(spec: MountSpec, store: ObjectStore, directory: WorkspaceDirectory) -> WorkspaceState | None:
    """What an earlier process left, if it is to be taken up; if not, it is dropped or set aside.

    Another attempt at a task begins where its input is: what the one before had half done is no part of that. Nor is
    what builds on a version that somebody else has gone on from, where the mount is of what came after.
    """
    state = directory.load(spec.resume_of or spec.volume_id, spec.store_url) if spec.resume else None
    if state is None:
        return None
    attempt = attempt_of(spec.produced_by)
    if attempt is not None and attempt != state.attempt and not directory.is_aside:
        why = "another task"
    elif _is_overtaken(spec, store, state):
        why = "a writer that had its lease taken over"
    else:
        return state
    if not state.clean:
        log.warning(
            "set aside in %s: what %s left uncommitted; see `flytevol recover`", directory.set_aside().path, why
        )
    return None


def _is_overtaken(spec: MountSpec, store: ObjectStore, state: WorkspaceState) -> bool:
    """Whether what was left can be no next version, and the mount is of the newest. Notes a last version of its own."""
    ref = read_ref(store, ref_key(spec.volume_name, spec.volume_id))
    if ref is None:
        return False
    newest = str(Locator(store.url, spec.volume_name, spec.volume_id, ref.version))
    if ref.writer == state.writer:
        state.merged = state.merged if state.base == newest else ()  # that version has them as parents
        state.base = newest  # also if it never heard that its commit succeeded
    return state.base != newest == spec.base


def _check_out(
    spec: MountSpec, store: ObjectStore, indexes: IndexCache, directory: WorkspaceDirectory
) -> tuple[VersionRecord | None, Segments | None]:
    if spec.base is None:
        uid, gid = user_and_group()
        Index.create(directory.index, uid=uid, gid=gid).close()
        return None, None
    base = load_record(store, parse_locator(spec.base))
    base.check_writable()
    path, segments = indexes.checkout(store, base)
    # durable before the state names it: an fsync on the mount syncs what changed since, never the whole index
    copy_file(path, directory.index, durable=True)
    return base, segments


def _resume(
    store: ObjectStore, indexes: IndexCache, state: WorkspaceState
) -> tuple[VersionRecord | None, Segments | None]:  # fmt: skip
    """What a workspace that an earlier process left builds on.

    That version may have been deleted meanwhile, and its copy as well: then the workspace builds on nothing, and its
    next commit stores again all that is still there.
    """
    if state.base is None:
        return None, None
    where = parse_locator(state.base)
    try:
        base = load_record(store, where)
    except VersionNotFoundError:
        copy = read_copy(store, where)
        if copy is None:
            log.warning("version %s was deleted: what builds on it is resumed, and stored anew when committed", where)
            state.base, state.seen, state.first_pack = None, 0.0, 0
            return None, None
        base = copy
    base.check_writable()
    return base, indexes.checkout(store, base)[1]
