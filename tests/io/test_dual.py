"""Awaiting a blocking method, and cancelling that: the body ends, and what it did is undone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest

from flyteplugins_vol.errors import StoreError
from flyteplugins_vol.io.dual import Dual, calling_thread

WAIT = 60.0  # seconds for what must happen


class Body:
    """A method that takes as long as the test likes. It is undone likewise."""

    def __init__(self) -> None:
        self.begun, self.may_end = threading.Event(), threading.Event()
        self.undoing, self.may_be_undone, self.undone = threading.Event(), threading.Event(), threading.Event()
        self.may_be_undone.set()
        self.result: str | Exception = "result"
        self.undo_of: list[str] = []

    @property
    def dual(self) -> Dual[[], str]:
        return Dual(self._run, self._undo)

    def _run(self) -> str:
        self.begun.set()
        assert self.may_end.wait(WAIT)
        if isinstance(self.result, Exception):
            raise self.result
        return self.result

    def _undo(self, result: str) -> None:
        self.undoing.set()
        assert self.may_be_undone.wait(WAIT)
        self.undo_of.append(result)
        self.undone.set()
        if result == "stays":
            raise StoreError("cannot be undone")

    async def begin(self) -> asyncio.Task[str]:
        task = asyncio.ensure_future(self.dual())
        await asyncio.to_thread(self.begun.wait, WAIT)
        return task


async def passes(turns: int = 5) -> None:
    """Some turns of the loop."""
    for _ in range(turns):
        await asyncio.sleep(0)


async def cancelled(task: asyncio.Task[str]) -> bool:
    try:
        await task
    except asyncio.CancelledError:
        return True
    return False


async def test_the_result() -> None:
    body = Body()
    body.may_end.set()
    assert await body.dual() == body.dual.sync() == "result"
    body.result = StoreError("no")
    with pytest.raises(StoreError, match="no"):
        await body.dual()
    assert body.undo_of == []


async def test_a_cancelled_wait_lasts_until_all_is_undone() -> None:
    body = Body()
    task = await body.begin()
    task.cancel()
    await passes()
    assert not task.done()
    body.may_end.set()
    assert await cancelled(task)
    assert body.undo_of == ["result"]


async def test_one_that_is_cancelled_again_is_over_and_all_is_undone() -> None:
    body = Body()
    task = await body.begin()
    for _ in range(2):
        task.cancel()
        await passes()
    assert task.cancelled()
    body.may_end.set()
    assert body.undone.wait(WAIT)


def test_so_it_is_when_the_loop_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    body = Body()

    async def main() -> None:
        task = await body.begin()
        for _ in range(2):
            task.cancel()
            await passes()

    asyncio.run(main())
    body.may_end.set()
    assert body.undone.wait(WAIT)
    assert caplog.text == ""


async def test_the_loop_goes_on_while_it_is_undone() -> None:
    body = Body()
    body.may_be_undone.clear()
    task = await body.begin()
    task.cancel()
    await passes()
    body.may_end.set()

    async def goes_on() -> None:
        await asyncio.to_thread(body.undoing.wait, WAIT)
        body.may_be_undone.set()

    going_on = asyncio.ensure_future(goes_on())
    assert await cancelled(task)
    await going_on
    assert body.undo_of == ["result"]


async def test_nothing_is_undone_of_a_body_that_failed() -> None:
    body = Body()
    body.result = StoreError("no")
    task = await body.begin()
    task.cancel()
    await passes()
    body.may_end.set()
    assert await cancelled(task)
    assert body.undo_of == []


@pytest.mark.logs_warnings
async def test_what_cannot_be_undone_is_said(caplog: pytest.LogCaptureFixture) -> None:
    body = Body()
    body.result = "stays"
    task = await body.begin()
    task.cancel()
    await passes()
    body.may_end.set()
    assert await cancelled(task)
    assert "could not be undone: cannot be undone" in caplog.text


async def test_the_thread_that_calls() -> None:
    here: Callable[[], Awaitable[threading.Thread]] = Dual(calling_thread)
    assert await here() is threading.current_thread() is Dual(calling_thread).sync()
