"""From what a person says of a version, ``data@3``, to its locator.

data                       the volume of this name, at its newest version
data-0123456789abcdef      the same by name and id, where several have the name
data@3, data@00000003      one version of it, by number
data@9f3c                  by four or more digits of its hash
data@v1.0, data@main       by a tag, or the ref `main`: they go first
"""

from __future__ import annotations

from flyteplugins_vol.history.record import Locator
from flyteplugins_vol.history.volumes import VolumeEntry, list_refs, list_versions
from flyteplugins_vol.store.base import ObjectStore

_LEAST_HASH = 4  # digits of a hash that name a version


def versions_meant(store: ObjectStore, volume: VolumeEntry, text: str) -> list[Locator]:
    """The versions of a volume that the text behind an ``@`` may mean, the oldest first; one if it is a ref."""
    ref = list_refs(store, volume).get(text)
    if ref is not None:
        return [Locator(store.url, volume.name, volume.id, ref.version)]
    return [locator for locator in list_versions(store, volume) if is_meant(locator, text)]


def is_meant(locator: Locator, text: str) -> bool:
    """Whether a version has this number, or a name or hash that begins so."""
    version = locator.file.removesuffix(".json")
    number, _, digest = version.partition("-")
    by_hash = len(text) >= _LEAST_HASH and digest.startswith(text)  # one in twenty begins with six decimal digits
    if text.isdecimal() and len(text) <= len(number):
        return int(text) == int(number) or by_hash
    return (bool(text) and version.startswith(text)) or by_hash
