"""Commit: one moment of a workspace becomes an immutable version.

The write order is packs → index object → version record → ref, and `Committer.publish` holds the last three. A stop
anywhere leaves the last version whole, objects that nobody refers to, and the data still in the workspace.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any, NamedTuple

from flyteplugins_vol.errors import CommitError, ConflictError, ObjectMissingError, RefMovedError, StoreError
from flyteplugins_vol.history.announcing import Found, announce
from flyteplugins_vol.history.lease import LeaseKeeper
from flyteplugins_vol.history.marks import read_marked
from flyteplugins_vol.history.record import VersionRecord, check_message
from flyteplugins_vol.history.refs import Ref, move_ref, read_known_ref, read_ref, ref_key
from flyteplugins_vol.history.roots import packs_of
from flyteplugins_vol.history.segments import Segments, publish_segments
from flyteplugins_vol.history.survival import Survival
from flyteplugins_vol.store.base import ObjectStore
from flyteplugins_vol.store.container import PACK, TRAILER_SIZE, object_key, renewed, upload
from flyteplugins_vol.workspace.sealing import Call, Sealer
from flyteplugins_vol.workspace.workspace import Workspace

Progress = Callable[[Mapping[str, Any]], None]

_FREEZE_BELOW = 8 << 20  # staged bytes that may be left for the time when writers are held off
# Seconds for which an object that no version names is safe from deleters: docs/FORMAT.md, section 8.
_TRUSTED = 3 * 86_400.0
_ROUNDS = 3  # rounds of sealing beside busy writers, before they are held off all the same


@dataclass(frozen=True)
class Line:
    """The line of versions that commits continue: whose they are, and what they build on."""

    volume_name: str
    volume_id: str
    writer: str  # unique to this workspace: how a lost answer is told from a competitor
    author: str | None
    produced_by: Mapping[str, Any] | None


@dataclass(frozen=True)
class Base:
    """What the next version builds on."""

    record: VersionRecord | None
    segments: Segments | None
    seen: float  # when its record was last known to be in the store, seconds since 1970
    first_pack: int  # number of the first pack that it does not name


class Snapshot(NamedTuple):
    """An index file that stays as it is, what it counts, and its packs: the next one's number, and the new ones."""

    path: str
    counts: dict[str, int]
    next_pack: int
    new_packs: tuple[str, ...]  # names of those that the base does not name


class Committer:
    """Publishes versions of one workspace, one at a time."""

    def __init__(
        self, store: ObjectStore, workspace: Workspace, sealer: Sealer, line: Line,
        base: Base, lease: LeaseKeeper | None, on_published: Callable[[Base], None],
        merged: Sequence[str] = (), on_merged: Callable[[tuple[str, ...]], None] | None = None,
    ) -> None:  # fmt: skip
        """``lease``: None for a writer that keeps nobody out, and is not kept out itself. ``merged``: as of `merge`."""
        self._store = store
        self._workspace = workspace
        self._sealer = sealer
        self._line = line
        self._base = base
        self._lease = lease
        self._on_published = on_published
        self._merged = tuple(merged)
        self._on_merged = on_merged
        self._stored_before = 0
        self._survival = Survival(store)
        self._lock = threading.Lock()
        self._stopped = False
        self._moving = threading.Lock()  # held while the ref is on its way: the one request that publishes

    @property
    def base(self) -> VersionRecord | None:
        """The version that the next one builds on."""
        return self._base.record

    def set_producer(self, produced_by: Mapping[str, Any]) -> None:
        """Who makes the versions from now on, as their records will say."""
        self._line = replace(self._line, produced_by=produced_by)

    def commit(
        self, message: str | None, call: Call,
        freeze: Callable[[], None], thaw: Callable[[], None], progress: Progress,
    ) -> VersionRecord:  # fmt: skip
        """Publish the workspace as it is. Blocks; not in the owner thread.

        Everything that was closed or synced before the call is in the version. Raises `UsageError` for a message that
        is too long, `StoreError`, `ConflictError`, `CommitError`; the workspace is as before then, and the next commit
        tries again.
        """
        check_message(message)
        with self._lock:
            if self.base is not None and self._nothing_to_do(call, message):
                return self.base
            if not 0 <= time.time() - self._base.seen <= _TRUSTED:
                self._renew(call)
            snapshot = self._snapshot(call, freeze, thaw, progress)
            try:
                record, segments = self.publish(snapshot, message, progress)
                self._base = Base(record, segments, time.time(), snapshot.next_pack)
                self._merged = ()
                self._on_published(self._base)
            except BaseException:
                call(self._mark_changed)
                raise
            finally:
                call(self._release)
            return record

    @contextmanager
    def taking_over(self) -> Generator[None]:
        """Blocks of other versions may come into the workspace inside; no commit runs meanwhile. Not in the owner.

        The next one looks for all that is new, also where nobody has collected since the last look: the other version
        may be one that its own writer is about to withdraw, since it lacks something.
        """
        with self._lock:
            self._survival.doubt()
            yield

    def merge(self, versions: Sequence[str]) -> None:
        """Let the next version have these, by their locators, as parents beside its base. Inside of `taking_over`."""
        self._merged = tuple(dict.fromkeys((*self._merged, *versions)))
        if self._on_merged is not None:
            self._on_merged(self._merged)

    def stop(self, seconds: float) -> bool:
        """Publish nothing any more; whether that is certain. Any thread.

        A commit that is under way fails before it moves the ref. Where that request has left already, it is waited for,
        but not for longer than ``seconds``: a store that hangs decides by itself.
        """
        self._stopped = True
        certain = self._moving.acquire(timeout=seconds)
        if certain:
            self._moving.release()
        return certain

    def publish(self, snapshot: Snapshot, message: str | None, progress: Progress) -> tuple[VersionRecord, Segments]:
        """Index object, version record, ref, in this order. The packs are in the Store already."""
        progress({"phase": "index"})
        published = publish_segments(self._store, snapshot.path, self._base.segments)
        uploaded = self._sealer.stored_bytes
        record = self._record(published.segments, message, {
            **snapshot.counts,
            "index_bytes": os.path.getsize(snapshot.path),
            "new_pack_bytes": uploaded - self._stored_before,
            "new_index_bytes": published.bytes,
        })  # fmt: skip
        progress({"phase": "version"})
        self._check_wanted()
        self._move_ref(record, snapshot, announce(self._store, record, self._read_ref))
        self._stored_before = uploaded
        return record, published.segments

    def _renew(self, call: Call) -> None:
        """After days without a commit: look for the base, and store again what no version names any more, or yet.

        A deleter spares such objects for some days only. Raises `ObjectMissingError`, `StoreError`.
        """
        now = time.time()
        marked: frozenset[str] | None = None
        if self.base is not None and self._store.get(self.base.locator.key) is None:
            marked = read_marked(self._store)[1]
            self._base = replace(self._base, segments=None)  # so the whole index is stored anew
        call(self._workspace.housekeep)  # what was removed needs nothing any more
        first = self._base.first_pack
        blocks = self._workspace.index.blocks
        for number, name in call(blocks.packs_from, first if marked is None else 0):
            key = object_key(PACK, name)
            spared = marked is not None and number < first and key not in marked  # by all that is known
            data = self._store.get_tail(key, TRAILER_SIZE) if spared else self._store.get(key)
            if data is not None and spared:
                continue
            if data is None:
                raise ObjectMissingError(
                    f"pack {name} was deleted from {self._store.url} before a version named it",
                    hint="copy the files that can still be read to a new volume",
                )
            again = renewed(PACK, name, data)
            upload(self._store, PACK, again)
            call(blocks.rename_pack, number, again.name)
        self._base = replace(self._base, seen=now)

    def _snapshot(
        self, call: Call, freeze: Callable[[], None], thaw: Callable[[], None], progress: Progress
    ) -> Snapshot:
        total = call(lambda: self._workspace.staged_bytes)

        def tell(left: int) -> None:
            progress({"phase": "upload", "done": max(0, total - left), "total": total})

        tell(total)
        for _ in range(_ROUNDS):
            if call(lambda: self._workspace.staged_bytes) <= _FREEZE_BELOW:
                break
            self._sealer.run_round(tell)
        freeze()
        try:
            self._sealer.drain(tell)
            return call(self._freeze_index)
        finally:
            thaw()

    def _freeze_index(self) -> Snapshot:
        path = self._workspace.snapshot()
        index = self._workspace.index
        packs, pack_bytes = index.blocks.totals()
        counts = {"files": index.files, "bytes": index.bytes, "packs": packs, "pack_bytes": pack_bytes}
        new = tuple(name for _, name in index.blocks.packs_from(self._base.first_pack))
        return Snapshot(path, counts, index.blocks.next_pack, new)

    def _nothing_to_do(self, call: Call, message: str | None) -> bool:
        """Whether the version to be would equal the one that this volume has already."""
        return self._own and message is None and not call(lambda: self._workspace.changed)

    def _record(self, segments: Segments, message: str | None, stats: Mapping[str, int]) -> VersionRecord:
        line, base = self._line, self.base
        # the first parent is the one whose index this continues: without it there are none
        parents = () if base is None else dict.fromkeys((str(base.locator), *self._merged))
        return VersionRecord(
            volume_name=line.volume_name,
            volume_id=line.volume_id,
            sequence=base.sequence + 1 if self._own and base is not None else 1,
            index=segments.map,
            parents=tuple(parents),
            created=datetime.now(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            message=message,
            author=line.author,
            produced_by=line.produced_by,
            stats=stats,
            writer=line.writer,
            store_url=self._store.url,
        )

    def _read_ref(self) -> Ref | None:
        key = ref_key(self._line.volume_name, self._line.volume_id)
        return read_known_ref(self._store, key) if self._expected is not None else read_ref(self._store, key)

    def _move_ref(self, record: VersionRecord, snapshot: Snapshot, found: Found) -> None:
        key = ref_key(record.volume_name, record.volume_id)
        expected, there = self._expected, found.ref
        self._check_whole(record, snapshot, found)
        fence = self._fence(record, there)
        # A ref that this workspace wrote names a commit of its own whose answer was lost: it failed for whoever asked.
        ours = there is not None and there.writer == self._line.writer
        if ours or (there.version if there is not None else None) == expected:
            tag = there.tag if there is not None else None
            with self._moving:
                self._check_wanted()
                if move_ref(self._store, key, record.locator.file, self._line.writer, tag, fence) is not None:
                    return
            there = self._read_ref()
            self._fence(record, there)
        raise RefMovedError(
            f"somebody else committed to volume {record.volume_name} ({record.volume_id}) meanwhile: its ref names "
            f"{there.version if there is not None else 'nothing'}, this commit builds on {expected or 'nothing'}",
            hint=_saved_as(record),
        )

    def _check_whole(self, record: VersionRecord, snapshot: Snapshot, found: Found) -> None:
        """Nobody deletes the version that the ref names: if it is the base, all of it is there."""

        def packs() -> Iterable[str]:
            return (name for name, _ in packs_of(snapshot.path))

        base, new = self.base, snapshot.new_packs
        if self._base.segments is None:  # there is none, or it was found to be gone: nothing is known of what it named
            base, new = None, packs()
        is_there = base is not None and found.ref is not None and base.locator.file == found.ref.version
        try:
            self._survival.check(record, base, new, packs, is_base_there=is_there, marks=found.marks)
        except CommitError:
            self._base = replace(self._base, seen=0.0)  # the next try stores again what it can
            with suppress(StoreError):
                self._store.delete(record.locator.key)  # nobody knows of it
            raise

    def _check_wanted(self) -> None:
        if self._stopped:
            raise CommitError(
                "the mount ended while it committed: nothing is published",
                hint="finalize a volume, or wait for its commit, to keep what was written",
            )

    def _fence(self, record: VersionRecord, there: Ref | None) -> int:
        """The fence to move the ref with. Raises what keeps this writer from doing so."""
        if self._lease is None or (there is None and not self._own and not self._lease.begun):
            return there.fence if there is not None else 0  # a first version: nobody else can know of the volume
        try:
            fence = self._lease.fence()
            if there is not None and there.fence > fence:
                raise self._lease.lease.taken_over()
        except ConflictError as error:
            error.hint = _saved_as(record)
            raise
        return fence

    @property
    def _expected(self) -> str | None:
        """The version that the ref must name for this workspace to move it; None: there must be no ref."""
        return self.base.locator.file if self.base is not None and self._own else None

    @property
    def _own(self) -> bool:
        """Whether the base is a version of the volume itself, not of the one that it was forked from."""
        return self.base is not None and self.base.volume_id == self._line.volume_id

    def _mark_changed(self) -> None:
        self._workspace.changed = True

    def _release(self) -> None:
        self._workspace.publishing = False


def _saved_as(record: VersionRecord) -> str:
    return f"nothing is lost: what you committed is the version {record.locator}; load it and fork it"
