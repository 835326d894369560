"""Find a volume by its name: a label, never an identity."""

from __future__ import annotations

from flyteplugins_vol.errors import UsageError
from flyteplugins_vol.history.volumes import find_volumes
from flyteplugins_vol.store.base import ObjectStore


def find_volume(store: ObjectStore, name: str) -> str | None:
    """Id of the one volume with this name; None if there is none. Raises `UsageError` if there are several."""
    ids = [volume.id for volume in find_volumes(store, name) if volume.name == name]
    if len(ids) > 1:
        raise UsageError(
            f"{len(ids)} volumes are named {name!r} in {store.url}: {', '.join(ids[:10])}",
            hint="load the one that you mean by the locator of a version; `flytevol list` shows what each of them has, "
            f"`flytevol delete {name}-{ids[0]}` removes the first",
        )
    return ids[0] if ids else None
