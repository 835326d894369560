"""The tasks that run in this process, and what is mounted in each of them, for both SDKs.

An SDK knows its task by a context variable, which a thread that the task starts does not inherit: one of a
``ThreadPoolExecutor``, a ``threading.Thread``, but for `asyncio.to_thread`. What such a thread asks is answered by the
tasks that run here. In a container that is one, and the process is its own. A local run may have several at once, and a
script around them with threads of its own: there a mount ends when it can be nobody's any more, and keeps its bytes.

| a thread without a context          | its mounts                                                                 |
|-------------------------------------|----------------------------------------------------------------------------|
| while one task runs                 | are of that task                                                           |
| while several run                   | end with the last of these; a warning says so                              |
| older than the task, in a local run | are not of that task                                                       |
"""

from __future__ import annotations

import functools
import logging
import threading
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from cachetools import LRUCache

from flyteplugins_vol.errors import UsageError
from flyteplugins_vol.forked import Lock
from flyteplugins_vol.integrations.ending import end_mount
from flyteplugins_vol.io.dual import calling_thread
from flyteplugins_vol.io.hosts import Drop
from flyteplugins_vol.io.volume import RWVolume, Volume

T = TypeVar("T")

_HINT = "use asyncio.to_thread, or submit contextvars.copy_context().run with the function that the thread is to run"

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Task:
    """One that runs, or ran. ``context``: what its SDK knows of it. ``is_local``: others may use this process too."""

    name: str
    context: Any
    is_local: bool
    mounts: list[Mount] = field(default_factory=lambda: [])
    failed: bool | None = None
    """None while it runs."""
    elders: weakref.WeakSet[threading.Thread] = field(default_factory=lambda: weakref.WeakSet(threading.enumerate()))
    """Threads that were there when it began."""


@dataclass(eq=False)
class Mount:
    """Of a task, or of one of several. ``is_guessed``: the thread that made it did not know its task."""

    volume: Volume
    drop: Drop
    owners: set[Task]
    is_guessed: bool = False
    failed: bool = True
    """Whether all of its owners that have ended failed."""

    @property
    def writable(self) -> bool:
        return isinstance(self.volume, RWVolume)

    def ending(self, *, is_lost: bool) -> Callable[[], None]:
        """What ends it, without holding the handle. ``is_lost``: that is worth a warning.

        In a local run a guess may be wrong: then what was written is not dropped, but kept for a resume.
        """
        keep = self.writable and self.is_guessed and any(task.is_local for task in self.owners)
        return functools.partial(end_mount, self.volume.name, self.drop, is_lost=is_lost, keep=keep)


class Tasks:
    """Those of one SDK in this process."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._running: dict[object, Task] = {}
        self._ended: LRUCache[object, Task] = LRUCache(1024)  # their results are converted a moment later

    def begin(self, key: object, task: Task) -> None:
        with self._lock:
            self._running[key] = task

    def end(self, key: object, *, failed: bool) -> list[Mount]:
        """The task has ended; the mounts that end with it."""
        with self._lock:
            task = self._running.pop(key)
            task.failed = failed
            self._ended[key] = task
            ending: list[Mount] = []
            for mount in task.mounts:
                mount.failed = mount.failed and failed
                if all(owner.failed is not None for owner in mount.owners):
                    ending.append(mount)
            task.mounts, task.context = [], None
        return ending

    def find(self, key: object) -> Task | None:
        """The task with this key that runs, or ran a moment ago."""
        with self._lock:
            return self._running.get(key) or self._ended.get(key)

    def add(self, key: object | None, volume: Volume, drop: Drop) -> Mount | None:
        """The volume was mounted in the task with this key; None: in a thread that is in no task that it knows.

        Returned is a mount that comes late, since its task has ended: end it. A session without a mount ends with its
        handle.
        """
        with self._lock:
            over = self._ended.get(key) if key is not None and key not in self._running else None
            if over is not None:
                return Mount(volume, drop, {over}, failed=bool(over.failed)) if volume.mount_path is not None else None
            owners = self._around() if key is None else [task for task in (self._running.get(key),) if task]
            if not owners:
                return None
            mount = Mount(volume, drop, set(owners), is_guessed=key is None)
            for owner in owners:
                owner.mounts.append(mount)
        if len(owners) > 1:
            names = ", ".join(owner.name for owner in owners)
            log.warning(
                "volume %s is used in a thread that does not know of which task it is (%s): it is let go with the last"
                " of them. For the thread to know, %s",
                volume.name, names, _HINT,
            )  # fmt: skip
        return None

    def _around(self) -> list[Task]:
        """Tasks that the thread which calls may be of."""
        thread = calling_thread()
        return [task for task in self._running.values() if not (task.is_local and thread in task.elders)]

    def running(self) -> list[Task]:
        with self._lock:
            return list(self._running.values())


def the_same(values: Iterable[T], what: str) -> T | None:
    """What all tasks that run say; None if there are none. Raises `UsageError` if they do not agree."""
    found = list(values)
    if any(value != found[0] for value in found):
        raise UsageError(
            f"{what} is another one in each task that runs here, and this thread does not know of which it is",
            hint=f"{_HINT}; or name the store: Volume.new(store=…)",
        )
    return found[0] if found else None


def in_common(said: Iterable[dict[str, Any]]) -> dict[str, Any] | None:
    """What all of them say; None if there are none."""
    first, *others = [*said] or [None]
    if first is None:
        return None
    return {name: value for name, value in first.items() if all(other and other.get(name) == value for other in others)}
