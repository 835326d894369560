"""Mounts end with the task that made them.

| the task                      | its read-only mounts | its read-write mounts                                  |
|-------------------------------|----------------------|--------------------------------------------------------|
| returned                      | unmounted at once    | finalized as its results are converted, a moment later |
| returned, and forgot a volume |                      | dropped, with a warning, once nobody holds the handle  |
| raised, or was cancelled      | unmounted at once    | abandoned at once: nothing is published                |

Observers are the SDK's hook for this: it calls them around the task's body, also in a local run, where many tasks share
one process.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from flyteplugins_vol.integrations.flyte2.context import TASKS, key_of, task_context
from flyteplugins_vol.integrations.running import Mount, Task
from flyteplugins_vol.integrations.values import sdk


def watch_tasks() -> None:
    """Be told when a task begins and ends. Idempotent."""
    sdk("flyte._observe").register_observer(_OBSERVER)


class Observer:
    """Stands around the body of every task, see ``flyte._observe.Observer``."""

    @contextmanager
    def task_span(self, info: Any, recorder: Any) -> Generator[None]:
        key, tctx = key_of(info.action), task_context()
        TASKS.begin(key, Task(info.name, tctx, is_local=getattr(tctx, "mode", None) != "remote"))
        try:
            yield
        finally:
            # The SDK hands exceptions over in the recorder; a cancellation is only seen as what is being raised.
            failed = recorder.error is not None or sys.exc_info()[0] is not None
            for mount in TASKS.end(key, failed=failed):
                end(mount)

    def step_span(self, info: Any, recorder: Any) -> AbstractContextManager[None]:
        return nullcontext()


def end(mount: Mount) -> None:
    """Its task has ended."""
    if mount.failed or not mount.writable:
        mount.ending(is_lost=False)()
    else:
        _end_with_its_handle(mount)


def end_late(mount: Mount) -> None:
    """Its task had ended when it was made. While its results are converted, somebody may mount what is in them."""
    if mount.failed:
        mount.ending(is_lost=False)()
    else:
        _end_with_its_handle(mount)


def _end_with_its_handle(mount: Mount) -> None:
    forgotten = mount.ending(is_lost=mount.writable)
    weakref.finalize(mount.volume, _forgotten, mount.volume.name, forgotten).atexit = False


def _forgotten(name: str, end: Callable[[], None]) -> None:
    """Nobody holds the handle any more. Whoever collects the garbage must not wait for a mount to end."""
    threading.Thread(target=end, name=f"end of {name}").start()


_OBSERVER = Observer()
