"""The history of what is open, as a screen watches it grow: loaded piece by piece, gone on with after a failure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from flyteplugins_vol.errors import StoreError
from flyteplugins_vol.explore.threads import in_thread
from flyteplugins_vol.explore.versions import Gone, History, Versions
from flyteplugins_vol.history.record import Locator, VersionRecord, parse_locator
from flyteplugins_vol.history.volumes import VolumeEntry, older

_AT_ONCE = 8  # records; each is a GET of its own
_MOST = 2000


class Feed:
    """``items`` has the newest version first; ``head`` is the locator that ``main`` names, once that is known.

    ``tags``: by locator, once all of the history is here.
    """

    def __init__(self, versions: Versions, record: VersionRecord) -> None:
        self._versions = versions
        self._record = record
        self._history: History | None = None
        self._lock = asyncio.Lock()
        self.items: list[VersionRecord | Gone] = []
        self.head = ""
        self.tags: dict[str, list[str]] = {}

    async def load(self) -> AsyncIterator[None]:
        """Yields whenever there is more. After a `StoreError` what is known stays, and it can be called again."""
        async with self._lock:
            if self._history is None:
                await self._begin()
            history = self._history
            assert history is not None
            while not history.done and len(self.items) < _MOST:
                self.items += await in_thread(history.more, _AT_ONCE)
                yield
            volumes = dict.fromkeys(VolumeEntry(at.store_url, at.volume_name, at.volume_id) for at in self._locators())
            self.tags = await in_thread(self._versions.tags, volumes)
            yield

    async def _begin(self) -> None:
        """From the head of the line as well, so that what came after the open version is there."""
        starts = [str(self._record.locator)]
        try:
            head = await in_thread(self._versions.head, self._record.volume_name, self._record.volume_id)
        except StoreError:
            # offline: the versions that this machine knows; the next call begins again, with the head
            known = History(self._versions, starts)
            self.items = await in_thread(_as_far_as_known, known)
            raise
        if head is not None:
            self.head = str(head)
            starts.append(self.head)
        self.items = []
        self._history = History(self._versions, starts)

    def parent(self, record: VersionRecord) -> VersionRecord | None:
        """The version before, as far as it is loaded; of one whose parent was deleted, the next older one."""
        if not record.parents:
            return None
        parent = next((item for item in self._records() if str(item.locator) == record.parents[0]), None)
        if parent is not None or not any(item.locator == record.parents[0] for item in self._gone()):
            return parent
        where = parse_locator(record.parents[0])
        behind = older((at for at in self._locators() if at.volume_id == where.volume_id), where)
        return next((item for item in self._records() if item.locator in behind), None)

    def child(self, record: VersionRecord) -> VersionRecord | None:
        """A version that was made from this one: of its own volume rather than a fork, the newest of several."""
        locator = str(record.locator)
        children = [item for item in self._records() if locator in item.parents]
        if not children:
            gone = {item.locator for item in self._gone()}
            before_gap = [item for item in self._records() if item.parents[:1] and item.parents[0] in gone]
            children = [item for item in before_gap if self.parent(item) == record]
        own = [item for item in children if item.volume_id == record.volume_id]
        return next(iter(own or children), None)

    def _records(self) -> list[VersionRecord]:
        return [item for item in self.items if isinstance(item, VersionRecord)]

    def _gone(self) -> list[Gone]:
        return [item for item in self.items if isinstance(item, Gone)]

    def _locators(self) -> list[Locator]:
        return [item.locator for item in self._records()]


def _as_far_as_known(history: History) -> list[VersionRecord | Gone]:
    found: list[VersionRecord | Gone] = []
    try:
        while not history.done and len(found) < _MOST:
            found += history.more(_AT_ONCE)
    except StoreError:
        pass
    return found
