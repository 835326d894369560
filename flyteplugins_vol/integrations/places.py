"""From where a task may write to where its project's volumes are."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

_SHARD = 2  # characters of the prefixes over which Flyte spreads runs


def volumes_below(raw_data: str, run: str | None, owners: Sequence[str | None]) -> str:
    """URL of the store for volumes, given a task's raw-data prefix, its run, and who owns it (org, project, domain).

    Volumes outlive runs and are shared between them, so the part of the prefix that is of one run is cut off, with the
    shard before it; below what is left come the owners that it does not name already, and ``volumes``.
    """
    scheme, _, path = raw_data.partition("://")
    bucket, *parts = [part for part in path.split("/") if part]
    kept = _before(parts, run)
    below = [quote(owner, safe="") for owner in owners if owner and quote(owner, safe="") not in kept]
    return f"{scheme}://" + "/".join([bucket, *kept, *below, "volumes"])


def _before(parts: list[str], run: str | None) -> list[str]:
    """What precedes the run; nothing if it is not there: what follows the bucket may then change with each run."""
    for place, part in enumerate(parts):
        if run and (part == run or part.startswith(f"{run}-")):
            kept = parts[:place]
            return kept[:-1] if kept and len(kept[-1]) == _SHARD else kept
    return []
