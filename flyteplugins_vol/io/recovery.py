"""What processes that died left on local disk: to mount, publish, fork or discard."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flyteplugins_vol.config import StoreOptions, cache_root
from flyteplugins_vol.errors import LocalDirectoryError, RefMovedError
from flyteplugins_vol.history.local import WorkspaceDirectory, WorkspaceState
from flyteplugins_vol.history.record import VersionRecord, check_name, load_record, parse_locator
from flyteplugins_vol.history.refs import read_ref, ref_key
from flyteplugins_vol.history.unmounted import publish_workspace
from flyteplugins_vol.io import hosts
from flyteplugins_vol.io.dual import dual
from flyteplugins_vol.io.facts import new_id
from flyteplugins_vol.io.mounting import MountOptions
from flyteplugins_vol.model import MountSpec
from flyteplugins_vol.store.open import open_store

if TYPE_CHECKING:
    from flyteplugins_vol.io.volume import ROVolume, RWVolume
    from flyteplugins_vol.mount.leftovers import Leftover


@dataclass(frozen=True)
class Recoverable:
    """A workspace that no process has open, with something in it that may be in no version.

    ``left`` says of which volume it is, what it builds on and how much is in it. Nothing here removes it before what
    it holds is published, but `discard`.
    """

    left: Leftover
    options: StoreOptions | None = None

    @property
    def path(self) -> str:
        """The directory of the workspace."""
        return self.left.path

    @dual
    def volume(self: Any) -> RWVolume:
        """A handle whose `mount` takes the workspace up where it was left. One GET if it builds on a version."""
        from flyteplugins_vol.io.volume import RWVolume

        left: Leftover = self.left
        volume = RWVolume(
            name=left.volume_name, volume_id=left.volume_id, store=left.store_url, options=self.options,
            record=self._base(),
        )  # fmt: skip
        volume.resumes(left.path)
        return volume

    @dual
    def commit(self: Any, message: str | None = None, *, progress: Any = None) -> ROVolume:
        """Publish what is there as the next version of its volume, and remove it from local disk.

        Raises as `RWVolume.commit`: `RefMovedError` if the volume has gone on meanwhile, and then `fork` is left.
        """
        with self._held():
            spec = self._spec(self.left.path, self.left.volume_name, self.left.volume_id)
            return self._publish(spec, message, progress)

    @dual
    def fork(self: Any, name: str | None = None, message: str | None = None, *, progress: Any = None) -> ROVolume:
        """Publish what is there as the first version of a volume of its own, and remove it from local disk.

        Raises as `RWVolume.commit`; it is left as it was then.
        """
        with self._held():
            own = self._spec(self.left.path, check_name(self.left.volume_name if name is None else name), new_id())
            return self._publish(replace(own, resume_of=self.left.volume_id), message, progress)

    @dual
    def check_next(self: Any) -> None:
        """Whether this can be the next version of its volume: `RefMovedError` if not, and then `fork` is left.

        Asked before a mount or a `commit`, which would make a version that no ref names. One GET.
        """
        left: Leftover = self.left
        with self._held() as state:
            store = open_store(left.store_url, hosts.store_options(left.store_url, self.options))
            try:
                ref = read_ref(store, ref_key(left.volume_name, left.volume_id))
            finally:
                store.close()
        if ref is not None and ref.writer == state.writer:
            return  # a commit of its own, whose answer was lost
        base = parse_locator(state.base) if state.base is not None else None
        expected = base.file if base is not None and base.volume_id == left.volume_id else None
        named = ref.version if ref is not None else None
        if named != expected:
            newest, builds_on = (file.removesuffix(".json") if file else "nothing" for file in (named, expected))
            raise RefMovedError(
                f"volume {left.volume_name} has gone on without what was left in {self.path}: its ref names {newest}, "
                f"this builds on {builds_on}",
                hint="fork it: then it is a volume of its own",
            )

    @dual
    def discard(self: Any) -> None:
        """Delete it, and with it what is in no version."""
        with self._held():
            WorkspaceDirectory(self.left.path).remove()

    def _publish(self, spec: MountSpec, message: str | None, progress: Any) -> ROVolume:
        """While it is `_held`."""
        from flyteplugins_vol.io.volume import ROVolume

        record = publish_workspace(spec, message, progress)
        WorkspaceDirectory(spec.meta_dir).remove()
        return ROVolume.of(record, self.options)

    def _spec(self, path: str, name: str, volume_id: str) -> MountSpec:
        spec = MountOptions().spec(
            volume_id=volume_id,
            volume_name=name,
            store_url=self.left.store_url,
            store_options=hosts.store_options(self.left.store_url, self.options).to_wire(),
            base=self.left.base,
            writable=True,
        )
        return replace(spec, meta_dir=path)

    def _base(self) -> VersionRecord | None:
        if self.left.base is None:
            return None
        where = parse_locator(self.left.base)
        with open_store(where.store_url, hosts.store_options(where.store_url, self.options)) as store:
            return load_record(store, where)

    @contextmanager
    def _held(self) -> Generator[WorkspaceState]:
        """For as long as nobody else has it. Raises `VolumeBusyError`, `LocalDirectoryError` if it is gone."""
        from flyteplugins_vol.mount import workspace_lock

        if not os.path.isdir(self.left.path):
            raise _gone(self.left.path)
        spec = self._spec(self.left.path, self.left.volume_name, self.left.volume_id)
        lock = workspace_lock.hold(spec, None)
        try:
            state = WorkspaceDirectory(self.left.path).state()
            if state is None:
                raise _gone(self.left.path)
            yield state
        finally:
            os.close(lock)


def recoverable(meta_dir: str | Path | None, options: StoreOptions | None) -> list[Recoverable]:
    """See `RWVolume.recoverable`."""
    try:
        from flyteplugins_vol.mount.leftovers import leftovers
    except ImportError:  # a platform without file locks has no mounts, so nothing is left by one
        return []
    root = cache_root() if meta_dir is None else os.path.abspath(os.path.expanduser(meta_dir))
    return [Recoverable(left, options) for left in leftovers([root])]


def _gone(path: str) -> LocalDirectoryError:
    return LocalDirectoryError(
        f"{path} holds nothing to recover any more", hint="`flytevol recover` lists what is there"
    )
