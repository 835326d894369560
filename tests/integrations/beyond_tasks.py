"""What users do beside and beyond their tasks, of both SDKs: threads, and handles that are kept."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from flyteplugins_vol.io import RWVolume, Volume

T = TypeVar("T")

KEPT: list[Volume] = []
"""Handles that somebody holds beyond the task."""


def in_a_thread(function: Callable[[], T]) -> T:
    """A new one, unlike that of ``loop.run_in_executor``."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def filled(**options: float) -> RWVolume:
    """A mounted volume with a file."""
    vol = Volume.new("threads")
    KEPT.append(vol)
    (vol.mount.sync(**options) / "file").write_text("threads")
    return vol


class Late:
    """A thread of a task's that mounts a volume when the task is over."""

    def __init__(self) -> None:
        self._begin = threading.Event()
        self._outcome: Any = None
        self._thread = threading.Thread()

    def begin(self, mount: Callable[[], Any]) -> None:
        """In the task."""
        self._thread = threading.Thread(target=contextvars.copy_context().run, args=(self._run, mount))
        self._thread.start()

    def _run(self, mount: Callable[[], Any]) -> None:
        self._begin.wait()
        try:
            self._outcome = mount()
        except Exception as error:
            self._outcome = error

    def end(self) -> Any:
        """When the task is over: what ``mount`` returned or raised."""
        self._begin.set()
        self._thread.join()
        return self._outcome


LATE: list[Late] = []
"""For the task that ends too early: what its thread does then."""
