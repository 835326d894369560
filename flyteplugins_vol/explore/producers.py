"""From what a version record says of its producer to a name and an address. Blocks; never fails."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit


def action_name(produced_by: Mapping[str, Any]) -> str:
    """``run/action``, or as much of it as is known."""
    return "/".join(str(produced_by[key]) for key in ("run", "action") if produced_by.get(key))


def find_url(produced_by: Mapping[str, Any]) -> str | None:
    """The action's page: as the record says, else as Flyte does, if it is installed and knows its cluster."""
    said = produced_by.get("url")
    if isinstance(said, str):
        return said if urlsplit(said).scheme in ("http", "https") else None  # a record comes from elsewhere
    run = produced_by.get("run")
    if not isinstance(run, str):
        return None
    from flyteplugins_vol.explore.flyte_runs import run_url

    return run_url(run)
