"""The end of a mount that its task did not end."""

from __future__ import annotations

import logging

from flyteplugins_vol.errors import VolumeError
from flyteplugins_vol.io.hosts import Drop

log = logging.getLogger(__name__)


def end_mount(name: str, drop: Drop, *, is_lost: bool, keep: bool = False) -> None:
    """End what ``drop`` ends, and ``keep`` what was written. ``is_lost``: if there was any, that is worth a warning.

    A failure is logged only: the task's own outcome counts, and the daemon ends with this process at the latest.
    """
    try:
        if drop(keep=keep) and is_lost:
            left = "kept, as `flytevol recover` lists them" if keep else "dropped"
            log.warning("volume %s was neither returned nor finalized: its uncommitted changes are %s", name, left)
    except (VolumeError, OSError) as error:
        log.warning("the mount of volume %s could not be ended: %s", name, error)
