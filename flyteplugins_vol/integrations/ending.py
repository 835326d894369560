"""The end of a mount that its task did not end."""

from __future__ import annotations

import logging
from collections.abc import Callable

from flyteplugins_vol.errors import VolumeError

log = logging.getLogger(__name__)


def end_mount(name: str, end: Callable[[], object], *, is_lost: bool) -> None:
    """Call ``end``, which says whether there was something to end. ``is_lost``: that is worth a warning.

    A failure is logged only: the task's own outcome counts, and the daemon ends with this process at the latest.
    """
    try:
        if end() and is_lost:
            log.warning("volume %s was neither returned nor finalized: its uncommitted changes are dropped", name)
    except (VolumeError, OSError) as error:
        log.warning("the mount of volume %s could not be ended: %s", name, error)
