"""Version records that were seen before, on local disk: they never change, so history works without the store."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress

from flyteplugins_vol.errors import VolumeError
from flyteplugins_vol.history.record import Locator, VersionRecord, decode_record, parse_locator

_KEPT = 2000
_TRIM_EVERY = 100


class RecordBook:
    """Records by the hash in their locators. Shared by processes; a record that does not match its name is no record.

    Nothing here may fail: what cannot be kept is asked for again.
    """

    def __init__(self, cache_dir: str) -> None:
        self._root = os.path.join(cache_dir, "records")
        self._added = 0

    def get(self, locator: Locator) -> VersionRecord | None:
        record = self._load(os.path.join(self._root, locator.hash))
        return record if record is not None and record.locator == locator else None

    def keep(self, record: VersionRecord) -> None:
        with suppress(OSError):
            os.makedirs(self._root, mode=0o700, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self._root, prefix="new-", delete=False) as file:
                file.write(f"{record.store_url}\n".encode() + record.encode())
            os.replace(file.name, os.path.join(self._root, record.locator.hash))
            self._added += 1
            if self._added % _TRIM_EVERY == 0:
                self._trim()

    def latest(self, store_url: str, volume_name: str) -> VersionRecord | None:
        """The newest version of a volume that this machine has seen."""
        found = [self._load(path) for path in self._paths()]
        fitting = [r for r in found if r is not None and (r.store_url, r.volume_name) == (store_url, volume_name)]
        return max(fitting, key=lambda record: (record.created, record.sequence), default=None)

    def _load(self, path: str) -> VersionRecord | None:
        try:
            with open(path, "rb") as file:
                store_url, _, data = file.read().partition(b"\n")
            record = decode_record(data, store_url.decode())
            parse_locator(str(record.locator))
            return record if record.locator.hash == os.path.basename(path) else None
        except (OSError, ValueError, VolumeError):
            return None

    def _paths(self) -> list[str]:
        with suppress(OSError):
            return [entry.path for entry in os.scandir(self._root)]
        return []

    def _trim(self) -> None:
        aged = sorted((os.path.getmtime(path), path) for path in self._paths())
        for _, path in aged[:-_KEPT]:
            os.unlink(path)
