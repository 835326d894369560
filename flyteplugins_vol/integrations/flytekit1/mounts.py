"""Mounts end with the task that made them: when it has returned and its results are converted, or when it has raised.

flytekit has no hook for that, so the method that runs a task, conversions included, is wrapped.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from flyteplugins_vol.integrations.ending import end_mount
from flyteplugins_vol.integrations.values import sdk
from flyteplugins_vol.io.volume import RWVolume, Volume

Drop = Callable[[], bool]

_mounted: ContextVar[list[tuple[Volume, Drop]] | None] = ContextVar("flytevol_mounted", default=None)
_MARK = "_flyteplugins_vol"


def belongs_to_task(volume: Volume, drop: Drop) -> None:
    """The volume was mounted in the task that runs here, if one does; ``drop`` ends the mount."""
    handles = _mounted.get()
    if handles is not None:
        handles.append((volume, drop))


def watch_tasks() -> None:
    """Stand around every task. Idempotent."""
    base = sdk("flytekit.core.base_task").PythonTask
    plain = base.dispatch_execute
    if getattr(plain, _MARK, False):
        return

    @functools.wraps(plain)
    def dispatch_execute(self: Any, *args: Any, **kwargs: Any) -> Any:
        handles: list[tuple[Volume, Drop]] = []
        token = _mounted.set(handles)
        returned = False
        try:
            result = plain(self, *args, **kwargs)
            returned = True
        finally:
            _mounted.reset(token)
            for volume, drop in handles:
                end_mount(volume.name, drop, is_lost=returned and isinstance(volume, RWVolume))
        return result

    setattr(dispatch_execute, _MARK, True)
    base.dispatch_execute = dispatch_execute
