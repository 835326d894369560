"""Find a volume by its name: a label, never an identity."""

from __future__ import annotations

import re

from flyteplugins_vol.errors import UsageError
from flyteplugins_vol.store.base import ObjectStore

_DIRECTORY = re.compile(r"(?P<name>.+)-(?P<id>[0-9a-f]{16})")


def find_volume(store: ObjectStore, name: str) -> str | None:
    """Id of the one volume with this name; None if there is none. Raises `UsageError` if there are several."""
    found = [_DIRECTORY.fullmatch(directory) for directory in store.list_dirs("volumes/")]
    ids = [match["id"] for match in found if match is not None and match["name"] == name]
    if len(ids) > 1:
        raise UsageError(
            f"{len(ids)} volumes are named {name!r} in {store.url}: {', '.join(ids[:10])}",
            hint="load the one that you mean by the locator of a version",
        )
    return ids[0] if ids else None
