"""Find a version by what people call it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flyteplugins_vol.config import StoreOptions
from flyteplugins_vol.errors import UsageError, VersionNotFoundError
from flyteplugins_vol.history.finding import versions_meant
from flyteplugins_vol.history.record import Locator, load_record
from flyteplugins_vol.history.volumes import VolumeEntry, find_volumes, head
from flyteplugins_vol.human import shown
from flyteplugins_vol.io import hosts
from flyteplugins_vol.io.dual import dual_class
from flyteplugins_vol.io.encryption import KeySource, with_secret
from flyteplugins_vol.store.base import ObjectStore
from flyteplugins_vol.store.open import open_store
from flyteplugins_vol.store.url import parse_store_url

if TYPE_CHECKING:
    from flyteplugins_vol.io.volume import ROVolume

_SHOWN = 10  # candidates in a message


class Finding:
    """What `Volume` has of it."""

    @dual_class
    def find(
        cls,  # noqa: N805
        address: str,
        store: str | None = None,
        *,
        store_options: StoreOptions | None = None,
        encryption: KeySource | None = None,
    ) -> ROVolume:
        """The version that an address names, to read or to fork.

        ``address``: ``data``, the newest version of the volume of this name; ``data@3``, ``data@9f3c``, ``data@v1.0``:
        one by its number, by four or more digits of its hash, or by a tag, which goes first. Instead of the name also
        name and id, as `list` says them; or a locator, whose store is its own. ``store`` and the rest: as of `new`.

        A listing, and some GETs. Raises `VersionNotFoundError`, `UsageError` if several are meant, `LocatorError`,
        `RecordDamagedError`, `NewerFormatError`, `EncryptionKeyError`, `StoreError`.
        """
        from flyteplugins_vol.io.volume import ROVolume, Volume

        if "://" in address:
            return Volume.from_locator.sync(address, store_options=store_options, encryption=encryption)
        url = parse_store_url(hosts.store_url(store)).text
        options = with_secret(url, store_options, encryption)
        with open_store(url, hosts.store_options(url, options)) as opened:
            return ROVolume.of(load_record(opened, version_at(opened, address)), options)


def version_at(store: ObjectStore, address: str) -> Locator:
    """The version that ``NAME`` or ``NAME@VERSION`` means. Raises as `Finding.find`."""
    name, at, version = address.partition("@")
    volume = volume_at(store, name)
    if not at:
        newest = head(store, volume)
        if newest is None:
            raise VersionNotFoundError(
                f"volume {volume} in {store.url} has no newest version", hint=f"name one, as {name}@VERSION"
            )
        return newest
    found = versions_meant(store, volume, version)
    if not found:
        raise VersionNotFoundError(
            f"volume {volume} has no version {shown(version)!r}",
            hint="give a number, the beginning of a hash, or a tag; log() of the newest one lists what led to it",
        )
    if len(found) > 1:
        names = ", ".join(locator.file.removesuffix(".json") for locator in found[:_SHOWN])
        raise UsageError(
            f"{len(found)} versions of {volume} are meant by {shown(version)!r}: {names}",
            hint="give more of the version",
        )
    return found[0]


def volume_at(store: ObjectStore, name: str) -> VolumeEntry:
    """The one volume that a name, or name and id, means. Raises as `Finding.find`."""
    found = find_volumes(store, name)
    if not found:
        raise VersionNotFoundError(
            f"no volume {shown(name)!r} in {store.url}", hint="check name and store; Volume.list has what is there"
        )
    if len(found) > 1:
        raise UsageError(
            f"{len(found)} volumes in {store.url} are named {shown(name)!r}: {', '.join(map(str, found[:_SHOWN]))}",
            hint="give one of these instead of the name",
        )
    return found[0]
