"""Waiting in trio for what other threads do."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

import trio

T = TypeVar("T")


async def in_thread(function: Callable[..., T], *args: Any) -> T:
    """The result of a blocking call in a worker thread, which goes on when whoever waits is cancelled."""
    return await trio.to_thread.run_sync(function, *args, abandon_on_cancel=True)


async def done(future: Future[Any]) -> None:
    """Wait for the end of a future that another thread settles."""
    event = trio.Event()
    token = trio.lowlevel.current_trio_token()

    def settled(_: Future[Any]) -> None:
        with suppress(trio.RunFinishedError):
            token.run_sync_soon(event.set)

    future.add_done_callback(settled)
    await event.wait()
