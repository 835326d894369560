"""Blocking calls in threads that nobody has to wait for: quitting works also while a store does not answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar, cast

T = TypeVar("T")


async def in_thread(call: Callable[..., T], *args: Any) -> T:
    """The result of a blocking call. Unlike asyncio's own executor, its thread does not hold up the process's end."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():  # whoever waited was cancelled
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(cast("T", result))

    def work() -> None:
        try:
            result, error = call(*args), None
        except BaseException as caught:  # handed over whole to whoever waits
            result, error = None, caught
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=work, name="explore", daemon=True).start()
    return await future
