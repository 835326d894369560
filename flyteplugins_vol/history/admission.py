"""May this process write to the volume? Asked while the volume is being opened, answered before it is handed over.

| volume                             | with a mount                            | without a mount                     |
|------------------------------------|-----------------------------------------|-------------------------------------|
| has versions of its own            | lease, and a look at the ref            | lease, and a look at the ref        |
| a workspace that is resumed        | lease                                   | –                                   |
| a fork without a version yet       | lease                                   | lease before its second version     |
| new                                | lease, in the background: nobody waits  | lease before its second version     |

Nobody else can know of a volume that has no version, unless a handle of it was copied. So opening a new one waits for
no round trip, and publishing a fork without a mount is its record and its ref and no more.
"""

from __future__ import annotations

import os
from concurrent.futures import Future

from flyteplugins_vol.errors import RefMovedError
from flyteplugins_vol.history.commit import Progress
from flyteplugins_vol.history.lease import Lease, LeaseKeeper
from flyteplugins_vol.history.lease_note import LeaseNote
from flyteplugins_vol.history.local import WorkspaceState, store_mark
from flyteplugins_vol.history.record import Locator, parse_locator
from flyteplugins_vol.history.refs import Ref, read_ref, ref_key
from flyteplugins_vol.model import MountSpec
from flyteplugins_vol.store.base import ObjectStore
from flyteplugins_vol.store.daemonpool import DaemonPool

_WITHDRAW_SECONDS = 3.0  # for a lease to be given back when the volume could not be opened


class Admission:
    """What is asked of the store beside the opening. ``lease`` is None for a spec that wants none."""

    def __init__(
        self, spec: MountSpec, state: WorkspaceState, store: ObjectStore, progress: Progress, *, resumed: bool
    ) -> None:
        self.lease: LeaseKeeper | None = None
        self._head: Future[Ref | None] | None = None
        self._base = parse_locator(spec.base) if spec.base is not None else None
        if not spec.lease_seconds:
            return
        own = self._base is not None and self._base.volume_id == spec.volume_id
        mounted = bool(spec.mount_path)
        self.lease = LeaseKeeper(
            Lease(
                store, spec.volume_name, spec.volume_id, state.writer,
                seconds=spec.lease_seconds, user=spec.author, fresh=not own and not resumed,
                note=LeaseNote(os.path.join(spec.cache_dir, "leases"), f"{spec.volume_id}-{store_mark(store.url)}"),
            ),
            progress,
        )  # fmt: skip
        if own or resumed or mounted:
            self.lease.start()
        self._waits = own or resumed or (mounted and self._base is not None)
        if own and not resumed:
            pool = DaemonPool(1, "ref")
            self._head = pool.submit(read_ref, store, ref_key(spec.volume_name, spec.volume_id))
            pool.shutdown(wait=False)

    def settle(self) -> None:
        """Return when writing may begin. Raises `VolumeBusyError`, `RefMovedError`, `StoreError`."""
        if self.lease is None:
            return
        if self._waits:
            self.lease.wait()
        if self._head is not None and self._base is not None:
            ref = self.lease.lease.ref or self._head.result()  # the first is newer, if there is one
            if ref is not None and ref.version != self._base.file:
                newest = Locator(self._base.store_url, self._base.volume_name, self._base.volume_id, ref.version)
                raise RefMovedError(
                    f"volume {self._base.volume_name} has the version {ref.version} by now: nothing can be committed "
                    f"on top of {self._base.file}",
                    hint=f"load it again by its name to go on from {newest}, or fork the version that you have",
                )

    def withdraw(self) -> None:
        """The volume could not be opened."""
        if self.lease is not None:
            self.lease.close(_WITHDRAW_SECONDS)
