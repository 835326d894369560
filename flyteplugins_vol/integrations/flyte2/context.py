"""What the running task is, for volumes. Private names of the SDK are read here only, and pinned by tests."""

from __future__ import annotations

from typing import Any

from flyteplugins_vol.integrations.running import Tasks
from flyteplugins_vol.integrations.values import sdk
from flyteplugins_vol.io.hosts import Boundary

TASKS = Tasks()
"""Those that run in this process, as the observer in `flyteplugins_vol.integrations.flyte2.mounts` hears of them."""


def task_context() -> Any:
    """The SDK's ``TaskContext`` of this thread; None outside a task."""
    return sdk("flyte._context").internal_ctx().data.task_context


def task_contexts() -> list[Any]:
    """That of this thread; of a thread without one, those of all tasks that it may be of."""
    own = task_context()
    return [own] if own is not None else [task.context for task in TASKS.running() if task.context is not None]


def boundary() -> Boundary | None:
    """An argument of a sub-task or of a traced step; a result of the task; nothing."""
    tctx = task_context()
    if tctx is None:
        return None
    if getattr(tctx, "in_driver_literal_conversion", False):
        return "argument"
    return "result" if _converted_output() is not None else None


def output_name() -> str | None:
    """Name of the output that is being converted."""
    return _converted_output() if boundary() == "result" else None


def _converted_output() -> str | None:
    return sdk("flyte._internal.runtime.convert").current_output_name()


def action_of(tctx: Any) -> Any:
    """The task's own action: a traced step has another one for a while."""
    return getattr(tctx, "task_action", None) or tctx.action


def key_of(action: Any) -> tuple[Any, Any]:
    """What tells a task from others that run in this process."""
    return action.run_name, action.name
