"""A version that is open: its reader, and its contents once somebody asks for bytes."""

from __future__ import annotations

import asyncio
import os
import shutil
from dataclasses import dataclass, field

from flyteplugins_vol.errors import UsageError
from flyteplugins_vol.explore.contents import Contents
from flyteplugins_vol.explore.queries import IndexReader
from flyteplugins_vol.explore.sources import Shown
from flyteplugins_vol.explore.threads import in_thread
from flyteplugins_vol.explore.versions import Versions

_PATIENCE = 0.1  # seconds: closing what nobody reads from takes less


@dataclass
class OpenVersion:
    shown: Shown
    reader: IndexReader
    _contents: Contents | None = None
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @classmethod
    async def open(cls, shown: Shown) -> OpenVersion:
        """Bring the index to this machine if it is not here, and open it. Raises `VolumeError`."""
        index = shown.index
        if index is None:
            assert shown.versions is not None
            assert shown.record is not None
            index = await in_thread(shown.versions.index, shown.record)
        return cls(shown, await IndexReader.open(index))

    @property
    def locator(self) -> str:
        """Empty for what is no version: an index file, a workspace."""
        record = self.shown.record
        return str(record.locator) if record is not None and not self.shown.note else ""

    async def contents(self) -> Contents:
        """Raises `UsageError` when nobody knows where the bytes are."""
        async with self._lock:
            if self._contents is None:
                if self.shown.versions is None:
                    raise UsageError(
                        "an index file does not say where the bytes of its files are",
                        hint="name the store with --store to read files",
                    )
                self._contents = await in_thread(self._open_contents, self.shown.versions)
            return self._contents

    def _open_contents(self, versions: Versions) -> Contents:
        index = self.reader.path
        if self.shown.record is not None and not os.path.exists(index):  # the cache keeps a few indexes only
            index = versions.index(self.shown.record)
        return versions.contents(index)

    async def close(self) -> None:
        """Let go of files and threads. A read that waits for the store is not waited for, or not for long."""
        await self.reader.close()
        if self._contents is not None:
            closing = asyncio.ensure_future(in_thread(self._contents.close))
            await asyncio.wait({closing}, timeout=_PATIENCE)
        if self.shown.owned is not None:
            shutil.rmtree(self.shown.owned, ignore_errors=True)
