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

import functools
import sys
import threading
import weakref
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from cachetools import LRUCache

from flyteplugins_vol.forked import Lock
from flyteplugins_vol.integrations.ending import end_mount
from flyteplugins_vol.integrations.flyte2.context import key_of
from flyteplugins_vol.integrations.values import sdk
from flyteplugins_vol.io.volume import RWVolume, Volume

Key = tuple[Any, Any]
Drop = Callable[[], bool]

_lock = Lock()
_mounted: dict[Key, list[tuple[Volume, Drop]]] = {}  # of the tasks that run now
_names: LRUCache[Key, str] = LRUCache(1024)  # a task's results are converted when it runs no more


def watch_tasks() -> None:
    """Be told when a task begins and ends. Idempotent."""
    sdk("flyte._observe").register_observer(_OBSERVER)


def belongs_to(key: Key, volume: Volume, drop: Drop) -> None:
    """The volume was mounted in this task; ``drop`` ends the mount."""
    with _lock:
        if key in _mounted:
            _mounted[key].append((volume, drop))


def task_name(key: Key) -> str | None:
    """Name of the task that runs, or ran a moment ago."""
    with _lock:
        return _names.get(key)


class Observer:
    """Stands around the body of every task, see ``flyte._observe.Observer``."""

    @contextmanager
    def task_span(self, info: Any, recorder: Any) -> Generator[None]:
        key = key_of(info.action)
        with _lock:
            _names[key] = info.name
            _mounted[key] = []
        try:
            yield
        finally:
            # The SDK hands exceptions over in the recorder; a cancellation is only seen as what is being raised.
            failed = recorder.error is not None or sys.exc_info()[0] is not None
            with _lock:
                handles = _mounted.pop(key, [])
            for volume, drop in handles:
                if failed or not isinstance(volume, RWVolume):
                    end_mount(volume.name, drop, is_lost=False)
                else:
                    weakref.finalize(volume, _forgotten, volume.name, drop).atexit = False

    def step_span(self, info: Any, recorder: Any) -> AbstractContextManager[None]:
        return nullcontext()


def _forgotten(name: str, drop: Drop) -> None:
    """Nobody holds the handle any more. Whoever collects the garbage must not wait for a mount to end."""
    job = functools.partial(end_mount, name, drop, is_lost=True)
    threading.Thread(target=job, name=f"end of {name}").start()


_OBSERVER = Observer()
