"""Where a volume comes from: the versions before its last one."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from flyteplugins_vol.history.record import VersionRecord, load_record
from flyteplugins_vol.history.volumes import follow_back
from flyteplugins_vol.io.dual import dual

if TYPE_CHECKING:
    from flyteplugins_vol.io.volume import ROVolume


class Past:
    """Methods of every volume that look back."""

    @dual
    def log(self: Any, limit: int | None = None) -> list[ROVolume]:
        """Its last version and those that it came from, the newest first, also those before a fork.

        At most ``limit`` of them; one GET for each. Where one was deleted, by `prune` for instance, it goes on with the
        next older one of that volume; it ends where one is in another store, and is empty where nothing was ever
        committed. Raises `VersionNotFoundError` if the last one itself is gone, `DamageError`,
        `NewerFormatError`, `StoreError`.
        """
        from flyteplugins_vol.io.volume import ROVolume

        known = self._record
        if known is None:
            return []
        with self._opened() as store:
            record = known if isinstance(known, VersionRecord) else load_record(store, known.locator)
            return [ROVolume.of(one, self._options) for one in islice(follow_back(store, record), limit)]
