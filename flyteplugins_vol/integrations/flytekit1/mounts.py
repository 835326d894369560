"""What is known of the task that runs, and its mounts, which end with it: when its results are converted, or it raised.

flytekit has no hook for either, so the method that runs a task is wrapped, and those in it that convert its outputs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from flyteplugins_vol.integrations.ending import end_mount
from flyteplugins_vol.integrations.values import sdk
from flyteplugins_vol.io.volume import RWVolume, Volume

Drop = Callable[[], bool]


@dataclass
class _Running:
    task: str
    handles: list[tuple[Volume, Drop]] = field(default_factory=lambda: [])


_running: ContextVar[_Running | None] = ContextVar("flytevol_running", default=None)
_output: ContextVar[str | None] = ContextVar("flytevol_output", default=None)
"""Name of the output that is being converted; '' before the first, None when nothing is."""

_MARK = "_flyteplugins_vol"


def belongs_to_task(volume: Volume, drop: Drop) -> None:
    """The volume was mounted in the task that runs here, if one does; ``drop`` ends the mount."""
    running = _running.get()
    if running is not None:
        running.handles.append((volume, drop))


def task_name() -> str | None:
    """Name of the task that runs here."""
    running = _running.get()
    return running.task if running is not None else None


def output_name() -> str | None:
    """Name of the output of the task that is being converted here."""
    return _output.get() or None


def watch_tasks() -> None:
    """Stand around every task. Idempotent."""
    base = sdk("flytekit.core.base_task").PythonTask
    if getattr(base, _MARK, False):
        return
    base.dispatch_execute = _ending_mounts(base.dispatch_execute)
    base._output_to_literal_map = _converting(base._output_to_literal_map)  # noqa: SLF001
    base.get_type_for_output_var = _naming_the_output(base.get_type_for_output_var)
    setattr(base, _MARK, True)


def _ending_mounts(plain: Any) -> Any:
    @functools.wraps(plain)
    def dispatch_execute(self: Any, *args: Any, **kwargs: Any) -> Any:
        running = _Running(self.name)
        token = _running.set(running)
        returned = False
        try:
            result = plain(self, *args, **kwargs)
            returned = True
        finally:
            _running.reset(token)
            for volume, drop in running.handles:
                end_mount(volume.name, drop, is_lost=returned and isinstance(volume, RWVolume))
        return result

    return dispatch_execute


def _converting(plain: Any) -> Any:
    @functools.wraps(plain)
    async def output_to_literal_map(self: Any, *args: Any, **kwargs: Any) -> Any:
        token = _output.set("")
        try:
            return await plain(self, *args, **kwargs)
        finally:
            _output.reset(token)

    return output_to_literal_map


def _naming_the_output(plain: Any) -> Any:
    """It is asked for an output's type just before it starts the asyncio task that converts it, which inherits this."""

    @functools.wraps(plain)
    def get_type_for_output_var(self: Any, k: str, v: Any) -> Any:
        if _output.get() is not None:
            _output.set(k)
        return plain(self, k, v)

    return get_type_for_output_var
