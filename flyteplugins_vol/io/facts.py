"""What is known of a volume without looking at its store: name, place, and the record of its last version."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flyteplugins_vol.config import StoreOptions
from flyteplugins_vol.io.payload import Handle, Known, content_of


class Facts(Handle):
    """Name, id and store of a volume, and what its record says. No property does I/O."""

    if TYPE_CHECKING:
        name: str
        id: str
        store: str
        _options: StoreOptions | None
        _record: Known | None

    @property
    def locator(self) -> str | None:
        """Address of its last version; None before the first commit."""
        return str(self._record.locator) if self._own and self._record is not None else None

    @property
    def version(self) -> str | None:
        """Name of its last version: sequence number and hash."""
        return self._record.locator.file.removesuffix(".json") if self._own and self._record is not None else None

    @property
    def stats(self) -> Mapping[str, int]:
        """Counts and bytes of the version that it is, or builds on. Empty before the first commit.

        ``files`` (and directories, the root as well), ``bytes`` (logical), ``packs``, ``pack_bytes``, ``index_bytes``;
        and what its commit added: ``new_pack_bytes``, ``new_index_bytes``.
        """
        return dict(self._record.stats) if self._record is not None else {}

    @property
    def message(self) -> str | None:
        return self._record.message if self._own and self._record is not None else None

    @property
    def parents(self) -> tuple[str, ...]:
        """Locators of the versions that its last version builds on, or that it will build on."""
        if self._record is None:
            return ()
        return self._record.parents if self._own else (str(self._record.locator),)

    @property
    def produced_by(self) -> Mapping[str, Any] | None:
        """Run, action and task that made its last version, if one did."""
        return self._record.produced_by if self._own and self._record is not None else None

    @property
    def author(self) -> str | None:
        """Who made its last version, as far as that machine knew."""
        return self._record.author if self._own and self._record is not None else None

    @property
    def created(self) -> str:
        """When its last version was made, RFC 3339, UTC; '' before the first commit."""
        return self._record.created if self._own and self._record is not None else ""

    @property
    def content(self) -> str:
        """A name for the files of its last version; versions with equal names have equal files. '' before the first."""
        return content_of(self._record) if self._own and self._record is not None else ""

    @property
    def _own(self) -> bool:
        """Whether the record is a version of this volume, not of the one that it was forked from."""
        return self._record is not None and self._record.volume_id == self.id


def new_id() -> str:
    """The id of a volume to be."""
    return uuid.uuid4().hex[:16]
