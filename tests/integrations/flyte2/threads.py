"""Tasks that use volumes in threads of their own, which know nothing of the task."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Optional

import flyte

from flyteplugins_vol.io import ROVolume, RWVolume, Volume
from tests.integrations.beyond_tasks import KEPT, LATE, filled, in_a_thread

env = flyte.TaskEnvironment(name="threads")

MEANWHILE: list[Callable[[], None]] = []
"""What a task lets happen in the middle of it."""


@env.task
def stores() -> list[str]:
    return [Volume.new("x").store, in_a_thread(lambda: Volume.new("x").store)]


@env.task
def returns() -> RWVolume:
    return in_a_thread(filled)


@env.task
def commits() -> ROVolume:
    return in_a_thread(lambda: filled().finalize.sync())


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
    vol = in_a_thread(lambda: filled(autocommit=3600.0))
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
    return in_a_thread(filled)


@env.task
async def parent_of_a_failure() -> str:
    try:
        await fails()
    except Exception:
        KEPT.clear()
    return "went on"


@env.task
async def fails() -> None:
    in_a_thread(filled)
    raise RuntimeError("as users do")


@env.task
def fails_meanwhile() -> None:
    for happens in MEANWHILE:
        happens()
    raise RuntimeError("as users do")


@env.task
def ends_too_early(vol: Optional[ROVolume], fail: bool) -> None:
    mounted = vol if vol is not None else Volume.new("late")
    LATE[0].begin(mounted.mount.sync)
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
