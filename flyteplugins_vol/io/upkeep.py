"""Upkeep of volumes: verify a version, see what each takes, prune old ones, collect a store's garbage."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from flyteplugins_vol.config import StoreOptions, cache_root
from flyteplugins_vol.errors import NothingCommittedError
from flyteplugins_vol.history.checkout import disk_error
from flyteplugins_vol.history.collect import ABANDONED, GRACE, Collection, collect
from flyteplugins_vol.history.prune import Kept, Pruning, Retention, plan_pruning, prune
from flyteplugins_vol.history.space import Space, VersionSpace, measure
from flyteplugins_vol.history.verify import BrokenFile, Problem, Verification, verify
from flyteplugins_vol.history.volumes import VolumeEntry
from flyteplugins_vol.io import hosts
from flyteplugins_vol.io.dual import dual, dual_class
from flyteplugins_vol.io.encryption import KeySource, with_secret
from flyteplugins_vol.portable import make_private
from flyteplugins_vol.store.base import ObjectStore
from flyteplugins_vol.store.open import open_store
from flyteplugins_vol.store.url import parse_store_url

if TYPE_CHECKING:
    from flyteplugins_vol.io.payload import Known

__all__ = [
    "BrokenFile", "Collection", "Kept", "Problem", "Pruning", "Retention", "Space", "Upkeep", "Verification",
    "VersionSpace",
]  # fmt: skip

Progress = Callable[[Mapping[str, Any]], None]


class Upkeep:
    """Methods of every volume that look after what lies in its store."""

    if TYPE_CHECKING:
        name: str
        id: str
        store: str
        _options: StoreOptions | None
        _record: Known | None

    @dual
    def verify(self: Any, deep: bool = False, *, progress: Progress | None = None) -> Verification:
        """Whether all that the last version needs is in the store; the files that cannot be read whole, by path.

        Reads the record, the whole index, and the end of each pack; ``deep``: every block as well, against its hash.
        What is damaged or missing is in the result. ``progress``: called with dicts of ``done`` and ``total``, bytes
        of packs. Raises `NothingCommittedError`, `VersionNotFoundError`, `NewerFormatError`, `EncryptionKeyError`,
        `StoreError`.
        """
        if self._record is None:
            raise NothingCommittedError("there is no version yet to verify", hint="commit first")
        with self._opened() as store, local_scratch() as directory:
            return verify(store, self._record.locator, deep=deep, scratch=directory, progress=progress)

    @dual
    def space(self: Any, *, progress: Progress | None = None) -> Space:
        """How much space each version of this volume takes, has for itself alone, and would free if it were deleted.

        Reads the indexes of all versions in the store, of each what differs from the one before, and no data: forks
        and others may share packs. ``progress``: called with dicts of ``done`` and ``total``, in versions of this
        volume and other volumes. Raises `DamageError`, `NewerFormatError`, `EncryptionKeyError`, `StoreError`.
        """
        with self._opened() as store:
            volume = VolumeEntry(store.url, self.name, self.id)
            return measure(store, volume, scratch=scratch(), progress=progress)

    @dual
    def prune(
        self: Any, policy: Retention, *, dry_run: bool = False, progress: Progress | None = None
    ) -> Pruning:  # fmt: skip
        """Delete the versions of this volume that the policy does not keep, and say which those are.

        What a ref names is never deleted, nor what is not older than the newest version. Forks keep all that they
        need. Space comes back by a later `gc`. ``dry_run``: only say. Raises `UsageError` for a policy that keeps
        nothing, `ConflictError`, `StoreError`.
        """
        with self._opened() as store:
            volume = VolumeEntry(store.url, self.name, self.id)
            plan = plan_pruning(store, volume, policy)
            if not dry_run:
                deleted = set(prune(store, volume, plan, progress))
                plan = Pruning(tuple(one for one in plan.removed if one.locator in deleted), plan.kept)
            return plan

    @dual_class
    def gc(
        cls,  # noqa: N805
        store: str | None = None,
        *,
        dry_run: bool = False,
        grace: timedelta = GRACE,
        abandoned: timedelta = ABANDONED,
        store_options: StoreOptions | None = None,
        encryption: KeySource | None = None,
        progress: Progress | None = None,
    ) -> Collection:
        """Delete what no version of any volume in a store refers to, once it was marked ``grace`` before.

        The first call only marks; one after the grace time deletes: run it every day or week. ``grace``: at least a
        day. ``abandoned``: how old what no version has named must be, at least a week: it may be all that is left of
        what a killed workspace wrote. ``dry_run``: write nothing, and say what would be done. Nothing is deleted if
        anything cannot be read: `DamageError`, `NewerFormatError`, `EncryptionKeyError`; `ConflictError`: another
        collection began meanwhile.
        """
        url = parse_store_url(hosts.store_url(store)).text
        options = hosts.store_options(url, with_secret(url, store_options, encryption))
        with open_store(url, options) as opened, local_scratch() as directory:
            return collect(
                opened, grace=grace, abandoned=abandoned, dry_run=dry_run, scratch=directory, progress=progress
            )

    def _opened(self) -> ObjectStore:
        return open_store(self.store, hosts.store_options(self.store, self._options))


@contextmanager
def local_scratch() -> Generator[str]:
    """`scratch`, and its disk's errors as ours: for what touches no other local files."""
    directory = os.path.join(cache_root(), "scratch")
    try:
        yield scratch()
    except OSError as error:
        raise disk_error(error, directory) from error


def scratch() -> str:
    """A directory of this user's for indexes that are looked at and dropped."""
    directory = os.path.join(cache_root(), "scratch")
    make_private(directory)
    return directory
