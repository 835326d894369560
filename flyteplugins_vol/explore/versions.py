"""The versions of one store, as the explorer needs them: records, indexes, contents, history. Everything blocks."""

from __future__ import annotations

import heapq
import os
import threading
from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from flyteplugins_vol.config import StoreOptions, cache_root
from flyteplugins_vol.errors import (
    DamageError,
    LocalDirectoryError,
    NewerFormatError,
    StoreError,
    StoreUnavailableError,
    UsageError,
    VersionNotFoundError,
)
from flyteplugins_vol.explore.contents import Contents, StoreContents
from flyteplugins_vol.explore.records import RecordBook
from flyteplugins_vol.history.checkout import IndexCache
from flyteplugins_vol.history.finding import versions_meant
from flyteplugins_vol.history.record import Locator, VersionRecord, load_record, parse_locator
from flyteplugins_vol.history.refs import read_ref, ref_key
from flyteplugins_vol.history.tags import list_tags
from flyteplugins_vol.history.volumes import VolumeEntry, find_volumes, list_versions, list_volumes, older
from flyteplugins_vol.io.hosts import store_options
from flyteplugins_vol.store.open import open_store

_RETRIES = 2  # a person waits: say soon that the store is away, and let them ask again
_TIMEOUT = 10.0


class Versions:
    """Thread-safe. ``latest_error`` is why the store could not be reached when it was last asked, or None."""

    def __init__(self, store_url: str, options: StoreOptions | None = None) -> None:
        options = options or replace(store_options(store_url, None), retries=_RETRIES, timeout=_TIMEOUT)
        self.store = open_store(store_url, options)
        self.store_url = self.store.url
        self._book = RecordBook(os.path.join(cache_root(), "explore"))
        self._cache = os.path.join(cache_root(), "cache")
        self._lock = threading.Lock()

    def record(self, locator: str) -> VersionRecord:
        """From this machine if it was here before, else one GET."""
        where = parse_locator(locator)
        return self.known(locator) or self._keep(load_record(self.store, where))

    def known(self, locator: str) -> VersionRecord | None:
        """The record if this machine has it."""
        return self._book.get(parse_locator(locator))

    def index(self, record: VersionRecord) -> str:
        """Path of the version's index, checked, brought from the store if it is not in the cache."""
        try:
            with self._lock:  # two screens may want one index
                return IndexCache(self._cache).checkout(self.store, record)[0]
        except OSError as error:
            raise LocalDirectoryError(
                f"{error.filename or self._cache}: {error.strerror}",
                hint="free some space there, or set FLYTE_VOL_CACHE_DIR to a directory that you can write to",
            ) from error

    def contents(self, index: str) -> Contents:
        return StoreContents(index, self.store)

    def head(self, name: str, volume_id: str) -> Locator | None:
        """The version that the ref ``main`` names. Always asks the store."""
        ref = read_ref(self.store, ref_key(name, volume_id))
        return None if ref is None else Locator(self.store_url, name, volume_id, ref.version)

    def newest(self, address: str) -> VersionRecord:
        """The version to show for ``NAME``, ``NAME-ID`` or ``NAME@VERSION`` (a number, a hash, a ref).

        Without the store, the newest version of a name that this machine has seen. Raises `VersionNotFoundError`,
        `UsageError` (several are meant), `StoreError`.
        """
        name, at, version = address.partition("@")
        try:
            volume = self._volume(name)
            locator = self._version(volume, version) if at else self.head(volume.name, volume.id)
        except StoreError:
            seen = self._book.latest(self.store_url, name) if not at else None
            if seen is None:
                raise
            return seen
        if locator is None:
            raise VersionNotFoundError(f"the volume {name!r} has no version yet", hint="commit one, or name another")
        return self.record(str(locator))

    def check_reachable(self, record: VersionRecord) -> None:
        """Ask the store for this version.

        Raises `VersionNotFoundError` if it has been deleted, `StoreError` if the store does not answer or has nothing.
        """
        if self.store.get(record.locator.key) is None:
            if list_volumes(self.store):
                raise VersionNotFoundError(
                    f"{record.locator} has been deleted", hint="2 shows the history: open another version"
                )
            raise StoreUnavailableError(
                f"the store no longer has {record.locator}", hint="is its disk mounted? has the version been deleted?"
            )

    def older(self, gone: Locator) -> list[Locator]:
        """What is taken for the parent of a version that was deleted."""
        return older(list_versions(self.store, VolumeEntry(self.store_url, gone.volume_name, gone.volume_id)), gone)

    def tags(self, volumes: Iterable[VolumeEntry]) -> dict[str, list[str]]:
        """Tags of these volumes, by the locator of the version that they name."""
        tags: dict[str, list[str]] = {}
        for volume in volumes:
            for name, locator in list_tags(self.store, volume).items():
                tags.setdefault(str(locator), []).append(name)
        return tags

    def volumes(self) -> list[VolumeEntry]:
        return list_volumes(self.store)

    def _volume(self, name: str) -> VolumeEntry:
        found = find_volumes(self.store, name)
        if len(found) > 1:
            raise UsageError(
                f"{len(found)} volumes in {self.store_url} are named {name!r}",
                hint=f"name one of {', '.join(map(str, found[:5]))}{' …' if len(found) > 5 else ''}",
            )
        if not found:
            raise VersionNotFoundError(
                f"no volume {name!r} in {self.store_url}", hint="check the name, or name another store with --store"
            )
        return found[0]

    def _version(self, volume: VolumeEntry, text: str) -> Locator:
        found = versions_meant(self.store, volume, text)
        if len(found) != 1:
            raise UsageError(
                f"{len(found) or 'no'} versions of {volume} are meant by {text!r}",
                hint="give a number, the beginning of a hash, a ref, or the locator",
            )
        return found[0]

    def close(self) -> None:
        self.store.close()

    def _keep(self, record: VersionRecord) -> VersionRecord:
        self._book.keep(record)
        return record


class Gone(NamedTuple):
    """A parent whose record cannot be had: deleted, or damaged."""

    locator: str
    why: str


class History:
    """Versions from some on back through all their parents, the newest first. One thread at a time.

    Where a parent was deleted, the next older version of that volume is gone on with, as `history.volumes` does.
    """

    def __init__(self, versions: Versions, starts: Iterable[str]) -> None:
        self._versions = versions
        self._seen: set[str] = set()
        self._to_load: list[str] = []
        self._loaded: list[tuple[str, int, str, VersionRecord]] = []  # a heap, the newest on top
        self.add(starts)

    def add(self, starts: Iterable[str]) -> None:
        for locator in starts:
            if locator not in self._seen:
                self._seen.add(locator)
                self._to_load.append(locator)

    @property
    def done(self) -> bool:
        return not self._to_load and not self._loaded

    def more(self, limit: int) -> list[VersionRecord | Gone]:
        """At most ``limit`` more, each loaded by one GET. A `StoreError` loses nothing: call it again later."""
        found: list[VersionRecord | Gone] = []
        while len(found) < limit and not self.done:
            try:
                found.extend(self._load_all())
            except StoreError:
                if found:
                    break  # these first; the next call meets the error
                raise
            if self._loaded:
                record = heapq.heappop(self._loaded)[3]
                found.append(record)
                self.add(record.parents)
        return found

    def _load_all(self) -> list[Gone]:
        """All that may be newer must be known before the newest is told."""
        gone: list[Gone] = []
        while self._to_load:
            locator = self._to_load[-1]
            found = self._load(locator)
            self._to_load.remove(locator)
            if found is not None:
                gone.append(found)
        return gone

    def _load(self, locator: str) -> Gone | None:
        try:
            record = self._versions.record(locator)
        except VersionNotFoundError as error:
            where = parse_locator(locator)
            if where.store_url == self._versions.store_url:
                self.add(map(str, self._versions.older(where)))
            return Gone(locator, error.message)
        except (DamageError, NewerFormatError, UsageError) as error:
            return Gone(locator, error.message)
        # Two versions of one second: the child has the greater sequence. Negated, letter by letter, for the heap.
        newest_first = "".join(chr(0xFFFF - ord(letter)) for letter in record.created)
        heapq.heappush(self._loaded, (newest_first, -record.sequence, locator, record))
        return None
