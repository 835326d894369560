"""Delete a volume, or one version."""

from __future__ import annotations

from flyteplugins_vol.config import StoreOptions
from flyteplugins_vol.history.deletion import delete_version, delete_volume
from flyteplugins_vol.history.record import Locator, parse_locator
from flyteplugins_vol.history.volumes import list_versions
from flyteplugins_vol.io import hosts
from flyteplugins_vol.io.dual import dual_class
from flyteplugins_vol.io.encryption import KeySource, with_secret
from flyteplugins_vol.io.finding import version_at, volume_at
from flyteplugins_vol.store.base import ObjectStore
from flyteplugins_vol.store.open import open_store
from flyteplugins_vol.store.url import parse_store_url


class Deleting:
    """What `Volume` has of it."""

    @dual_class
    def delete(
        cls,  # noqa: N805
        address: str,
        store: str | None = None,
        *,
        force: bool = False,
        store_options: StoreOptions | None = None,
        encryption: KeySource | None = None,
    ) -> tuple[str, ...]:
        """Delete a volume with all its versions, or one version; the locators of what is deleted, the oldest first.

        ``address``, ``store`` and the rest: as of `find`. A name, or name and id, means the volume; ``NAME@VERSION`` or
        a locator that version alone. Forks, merges and copies keep all that they need; locators of what is deleted lead
        nowhere, and its space comes back by a later `gc`.

        A volume that somebody writes to, on whatever machine, is not deleted: `VolumeBusyError`, unless ``force``,
        after which that writer's commits fail. A holder that may be dead is watched first, for as long as his lease
        lasts. Nor is a version that a ref or a tag names, or that is not older than the newest: `ConflictError`. Raises
        `VersionNotFoundError`, `UsageError` if several are meant, `LocatorError`, `EncryptionKeyError`, `StoreError`.
        """
        one = parse_locator(address) if "://" in address else None
        url = parse_store_url(one.store_url if one is not None else hosts.store_url(store)).text
        options = hosts.store_options(url, with_secret(url, store_options, encryption))
        with open_store(url, options) as opened:
            if one is not None:
                return _version(opened, one)
            if "@" in address:
                return _version(opened, version_at(opened, address))
            volume = volume_at(opened, address)
            versions = list_versions(opened, volume)
            delete_volume(opened, volume, force=force)
            return tuple(map(str, versions))


def _version(store: ObjectStore, locator: Locator) -> tuple[str]:
    delete_version(store, locator)
    return (str(locator),)
