"""Tasks that use volumes in threads of their own, which know nothing of the task."""

import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, List

from flytekit import task

from flyteplugins_vol.io import ROVolume, RWVolume, Volume

KEPT: List[Volume] = []
"""Handles that somebody holds beyond the task."""


def in_a_thread(function: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def filled(**options: float) -> RWVolume:
    vol = Volume.new("threads")
    KEPT.append(vol)
    (vol.mount.sync(**options) / "file").write_text("threads")
    return vol


@task
def stores() -> str:
    return f"{Volume.new('x').store} {in_a_thread(lambda: Volume.new('x').store)}"


@task
def returns() -> RWVolume:
    return in_a_thread(filled)


@task
def commits() -> ROVolume:
    return in_a_thread(lambda: filled().finalize.sync())


@task
def raises() -> RWVolume:
    vol = in_a_thread(lambda: filled(autocommit=3600.0))
    if vol.mount_path:
        raise RuntimeError(f"as users do with {vol.store}")
    return vol


@task
def forgets() -> int:
    in_a_thread(filled)
    return 2


class Late:
    """A thread of a task's that mounts a volume when the task is over."""

    def __init__(self) -> None:
        self._begin = threading.Event()
        self.outcome: Any = None
        self._thread = threading.Thread()

    def begin(self) -> None:
        """In the task."""
        self._thread = threading.Thread(target=contextvars.copy_context().run, args=(self._run,))
        self._thread.start()

    def _run(self) -> None:
        self._begin.wait()
        try:
            filled()
        except Exception as error:
            self.outcome = error

    def end(self) -> Any:
        """When the task is over: why there is no mount."""
        self._begin.set()
        self._thread.join()
        return self.outcome


LATE: List[Late] = []


@task
def ends_too_early(fail: bool) -> int:
    LATE[0].begin()
    if fail:
        raise RuntimeError("as users do")
    return 2
