"""Tags: names that people give to versions."""

from __future__ import annotations

from typing import Any

from flyteplugins_vol.errors import NothingCommittedError
from flyteplugins_vol.history.tags import delete_tag, list_tags, set_tag
from flyteplugins_vol.history.volumes import VolumeEntry
from flyteplugins_vol.io.dual import dual


class Tagging:
    """Methods of every volume that are about its tags."""

    @dual
    def tag(self: Any, name: str, *, force: bool = False) -> None:
        """Let a name stand for its last version. Versions with a tag are not pruned.

        ``name``: letters, digits, ``.``, ``_`` and ``-``; not digits alone. ``force``: also one that names another
        version of this volume. Raises `TagExistsError`, `UsageError`, `NothingCommittedError`, `VersionNotFoundError`
        if the version was deleted, `ConflictError`, `StoreError`.
        """
        if self.locator is None:
            raise NothingCommittedError(f"volume {self.name!r} has no version to tag", hint="commit first")
        with self._opened() as store:
            set_tag(store, self._record.locator, name, force=force)

    @dual
    def tags(self: Any) -> dict[str, str]:
        """Locators of the versions that tags of this volume name, by tag. Each tag is read. Raises `StoreError`."""
        with self._opened() as store:
            return {name: str(locator) for name, locator in list_tags(store, self._entry(store.url)).items()}

    @dual
    def untag(self: Any, name: str) -> None:
        """Delete a tag of this volume; the version stays.

        Raises `VersionNotFoundError` if there is no such tag, `UsageError`, `StoreError`.
        """
        with self._opened() as store:
            delete_tag(store, self._entry(store.url), name)

    def _entry(self: Any, store_url: str) -> VolumeEntry:
        return VolumeEntry(store_url, self.name, self.id)
