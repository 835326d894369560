"""What a store holds: its volumes, each with its newest version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flyteplugins_vol.config import StoreOptions
from flyteplugins_vol.errors import StoreError, VolumeError
from flyteplugins_vol.history.record import load_record
from flyteplugins_vol.history.roots import in_parallel
from flyteplugins_vol.history.volumes import VolumeEntry, head, list_volumes
from flyteplugins_vol.io import hosts
from flyteplugins_vol.io.dual import dual_class
from flyteplugins_vol.io.encryption import KeySource, with_secret
from flyteplugins_vol.store.base import ObjectStore
from flyteplugins_vol.store.open import open_store
from flyteplugins_vol.store.url import parse_store_url

if TYPE_CHECKING:
    from flyteplugins_vol.io.volume import ROVolume


@dataclass(frozen=True)
class VolumeInfo:
    """A volume of a store. ``str()`` of it names it and no other.

    ``newest``: the version that its ref ``main`` names; None if there is none, or if it cannot be read: then ``error``
    says why.
    """

    name: str
    id: str
    store: str
    newest: ROVolume | None
    error: VolumeError | None = None

    def __str__(self) -> str:
        return f"{self.name}-{self.id}"


def _list(
    _: Any, store: str | None = None, *, store_options: StoreOptions | None = None, encryption: KeySource | None = None
) -> list[VolumeInfo]:
    """The volumes of a store that have a version, by name; ``store`` and the rest as of `Volume.new`.

    A listing, and for each volume another one and two GETs. One that is damaged does not hide the others. Raises
    `StoreError`, `EncryptionKeyError`.
    """
    url = parse_store_url(hosts.store_url(store)).text
    options = with_secret(url, store_options, encryption)
    with open_store(url, hosts.store_options(url, options)) as opened:
        return in_parallel(lambda volume: _info(opened, volume, options), list_volumes(opened))


class Listing:
    """What `Volume` has of it; apart from other methods, since in its class `list` is no type any more."""

    list = dual_class(_list)


def _info(store: ObjectStore, volume: VolumeEntry, options: StoreOptions | None) -> VolumeInfo:
    from flyteplugins_vol.io.volume import ROVolume

    newest, error = None, None
    try:
        locator = head(store, volume)
        newest = ROVolume.of(load_record(store, locator), options) if locator is not None else None
    except StoreError:
        raise
    except VolumeError as caught:
        error = caught
    return VolumeInfo(volume.name, volume.id, volume.store_url, newest, error)
