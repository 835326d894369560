"""What is known of the task that runs, and its mounts, which end with it: when its results are converted, or it raised.

flytekit has no hook for either, so the method that runs a task is wrapped, and those in it that convert its outputs.
"""

from __future__ import annotations

import functools
from contextvars import ContextVar
from typing import Any

from flyteplugins_vol.integrations.running import Mount, Task, Tasks
from flyteplugins_vol.integrations.values import sdk
from flyteplugins_vol.io.hosts import Drop
from flyteplugins_vol.io.volume import Volume

TASKS = Tasks()

_running: ContextVar[object | None] = ContextVar("flytevol_running", default=None)
"""The key of the task that runs here."""
_output: ContextVar[str | None] = ContextVar("flytevol_output", default=None)
"""Name of the output that is being converted; '' before the first, None when nothing is."""

_converts: ContextVar[bool] = ContextVar("flytevol_converts", default=False)
"""Whether flytekit makes a literal of a value at this moment: an argument or a result."""

_MARK = "_flyteplugins_vol"


def belongs_to_task(volume: Volume, drop: Drop) -> None:
    """The volume was mounted in the task that runs here, or in a thread that may be of one; ``drop`` ends the mount."""
    late = TASKS.add(_running.get(), volume, drop)
    if late is not None:
        _end(late)


def task_name() -> str | None:
    """Name of the task that runs here."""
    task = TASKS.find(_running.get())
    return task.name if task is not None else None


def output_name() -> str | None:
    """Name of the output of the task that is being converted here."""
    return _output.get() or None


def is_converting() -> bool:
    """Whether what is serialised here is handed over; otherwise a task does so for a purpose of its own."""
    return _converts.get()


def watch_tasks() -> None:
    """Stand around every task, and every conversion to a literal. Idempotent."""
    base = sdk("flytekit.core.base_task").PythonTask
    if getattr(base, _MARK, False):
        return
    base.dispatch_execute = _ending_mounts(base.dispatch_execute)
    base._output_to_literal_map = _converting(base._output_to_literal_map)  # noqa: SLF001
    base.get_type_for_output_var = _naming_the_output(base.get_type_for_output_var)
    engine = sdk("flytekit.core.type_engine").TypeEngine
    engine.to_literal = classmethod(_noting(engine.to_literal.__func__))
    engine.async_to_literal = classmethod(_noting_async(engine.async_to_literal.__func__))
    setattr(base, _MARK, True)


def _ending_mounts(plain: Any) -> Any:
    @functools.wraps(plain)
    def dispatch_execute(self: Any, ctx: Any, *args: Any, **kwargs: Any) -> Any:
        key = object()
        TASKS.begin(key, Task(self.name, ctx, is_local=ctx.execution_state.is_local_execution()))
        token = _running.set(key)
        returned = False
        try:
            result = plain(self, ctx, *args, **kwargs)
            returned = True
        finally:
            _running.reset(token)
            for mount in TASKS.end(key, failed=not returned):
                _end(mount)
        return result

    return dispatch_execute


def _end(mount: Mount) -> None:
    mount.ending(is_lost=not mount.failed and mount.writable)()


def _converting(plain: Any) -> Any:
    @functools.wraps(plain)
    async def output_to_literal_map(self: Any, *args: Any, **kwargs: Any) -> Any:
        token = _output.set("")
        try:
            return await plain(self, *args, **kwargs)
        finally:
            _output.reset(token)

    return output_to_literal_map


def _noting(plain: Any) -> Any:
    @functools.wraps(plain)
    def to_literal(cls: Any, *args: Any, **kwargs: Any) -> Any:
        token = _converts.set(True)
        try:
            return plain(cls, *args, **kwargs)
        finally:
            _converts.reset(token)

    return to_literal


def _noting_async(plain: Any) -> Any:
    @functools.wraps(plain)
    async def async_to_literal(cls: Any, *args: Any, **kwargs: Any) -> Any:
        token = _converts.set(True)
        try:
            return await plain(cls, *args, **kwargs)
        finally:
            _converts.reset(token)

    return async_to_literal


def _naming_the_output(plain: Any) -> Any:
    """It is asked for an output's type just before it starts the asyncio task that converts it, which inherits this."""

    @functools.wraps(plain)
    def get_type_for_output_var(self: Any, k: str, v: Any) -> Any:
        if _output.get() is not None:
            _output.set(k)
        return plain(self, k, v)

    return get_type_for_output_var
