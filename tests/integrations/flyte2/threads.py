"""Tasks that use volumes in threads of their own, which know nothing of the task."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Optional, TypeVar

import flyte

from flyteplugins_vol.io import ROVolume, RWVolume, Volume

env = flyte.TaskEnvironment(name="threads")

T = TypeVar("T")

KEPT: list[Volume] = []
"""Handles that somebody holds beyond the task."""

MEANWHILE: list[Callable[[], None]] = []
"""What a task lets happen in the middle of it."""


def in_a_thread(function: Callable[[], T]) -> T:
    """A new one, unlike that of ``loop.run_in_executor``."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def filled(name: str, **options: float) -> RWVolume:
    vol = Volume.new(name)
    KEPT.append(vol)
    (vol.mount.sync(**options) / "file").write_text(name)
    return vol


@env.task
def stores() -> list[str]:
    return [Volume.new("x").store, in_a_thread(lambda: Volume.new("x").store)]


@env.task
def returns() -> RWVolume:
    return in_a_thread(lambda: filled("threads"))


@env.task
def commits() -> ROVolume:
    return in_a_thread(lambda: filled("threads").finalize.sync())


@env.task
def awaits() -> RWVolume:
    """An event loop of its own in a thread: what is awaited there runs in a thread of ours."""

    async def mounted() -> RWVolume:
        vol = Volume.new("threads")
        KEPT.append(vol)
        await vol.mount()
        raise RuntimeError("as users do")

    return in_a_thread(lambda: asyncio.run(mounted()))


@env.task
def raises() -> None:
    """Without inputs and outputs: the SDK converts nothing before the task runs."""
    vol = in_a_thread(lambda: filled("threads", autocommit=3600.0))
    raise RuntimeError(f"as users do with {vol.store}")


@env.task
def raises_with_a_reader(base: ROVolume) -> None:
    def read() -> None:
        KEPT.append(base)
        base.mount.sync()

    in_a_thread(read)
    raise RuntimeError("as users do")


@env.task
def raises_unmounted() -> None:
    def write() -> None:
        vol = Volume.new("threads")
        KEPT.append(vol)
        vol.write_bytes.sync("file", b"text")

    in_a_thread(write)
    raise RuntimeError("as users do")


@env.task
async def parent() -> RWVolume:
    """The child's thread may be one of its parent's, as far as anybody knows."""
    return await child()


@env.task
async def child() -> RWVolume:
    return in_a_thread(lambda: filled("threads"))


@env.task
async def parent_of_a_failure() -> str:
    try:
        await fails()
    except Exception:
        KEPT.clear()
    return "went on"


@env.task
async def fails() -> None:
    in_a_thread(lambda: filled("threads"))
    raise RuntimeError("as users do")


@env.task
def fails_meanwhile() -> None:
    for happens in MEANWHILE:
        happens()
    raise RuntimeError("as users do")


class Late:
    """A thread of a task's that mounts its volume when the task is over."""

    def __init__(self) -> None:
        self._begin = threading.Event()
        self.outcome: Any = None
        self._thread = threading.Thread()

    def begin(self, vol: Volume) -> None:
        """In the task."""
        self._thread = threading.Thread(target=contextvars.copy_context().run, args=(self._run, vol))
        self._thread.start()

    def _run(self, vol: Volume) -> None:
        self._begin.wait()
        try:
            self.outcome = vol.mount.sync()
        except Exception as error:
            self.outcome = error

    def end(self) -> Any:
        """When the task is over: what `mount` said."""
        self._begin.set()
        self._thread.join()
        return self.outcome


LATE: list[Late] = []


@env.task
def ends_too_early(vol: Optional[ROVolume], fail: bool) -> None:
    LATE[0].begin(vol if vol is not None else Volume.new("late"))
    if fail:
        raise RuntimeError("as users do")


class Script:
    """A thread that is there before a task begins, and mounts a volume while it runs."""

    def __init__(self) -> None:
        self.volume = Volume.new("script")
        self._begin, self.mounted = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        self._begin.wait()
        asyncio.run(self._mount())
        self.mounted.set()

    async def _mount(self) -> None:
        data = await self.volume.mount()
        (data / "file").write_text("script")

    def mount(self) -> None:
        self._begin.set()
        self.mounted.wait()
        self._thread.join()
