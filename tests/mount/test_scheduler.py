from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from flyteplugins_vol.mount import scheduler as scheduler_module
from flyteplugins_vol.mount.scheduler import ReadingEnded, Scheduler, SchedulerClosedError, Task


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    yield read, write
    os.close(read)
    os.close(write)


class Running:
    """A scheduler in a thread, with a coroutine that reads one byte after the other from a pipe and notes them."""

    def __init__(self, scheduler: Scheduler, fd: int) -> None:
        self.scheduler = scheduler
        self.read: list[bytes] = []
        self.some = threading.Event()
        self.error: BaseException | None = None
        self._fd = fd
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        try:
            self.scheduler.call(self.scheduler.stop_reading)
        except SchedulerClosedError:
            pass
        self._thread.join()

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        try:
            self.scheduler.run(self._reader())
        except BaseException as error:
            self.error = error

    async def _reader(self) -> None:
        try:
            while True:
                await self.scheduler.readable(self._fd)
                self.read.append(os.read(self._fd, 1))
                self.some.set()
        except ReadingEnded:
            pass


@pytest.fixture
def running(pipe: tuple[int, int]) -> Iterator[Running]:
    running = Running(Scheduler(), pipe[0])
    yield running
    running.stop()


def test_reads_what_arrives(running: Running, pipe: tuple[int, int]) -> None:
    os.write(pipe[1], b"a")
    assert running.some.wait(10)
    assert running.read == [b"a"]


def test_call_runs_in_the_owners_thread_and_returns_its_result(running: Running) -> None:
    owner = running.scheduler.call(threading.get_ident)
    assert owner != threading.get_ident()
    assert running.scheduler.call(lambda a, b: a + b, 1, 2) == 3
    assert running.scheduler.call(lambda: running.scheduler.call(threading.get_ident)) == owner  # from itself


def test_call_raises_what_the_function_raises(running: Running) -> None:
    with pytest.raises(ZeroDivisionError):
        running.scheduler.call(lambda: 1 // 0)
    assert running.scheduler.call(int) == 0


def test_calls_of_many_threads_all_run(running: Running) -> None:
    total = 0

    def add() -> None:
        nonlocal total
        total += 1

    threads = [threading.Thread(target=lambda: [running.scheduler.call(add) for _ in range(200)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert total == 1600


def test_call_after_the_end_is_refused(running: Running) -> None:
    running.stop()
    with pytest.raises(SchedulerClosedError):
        running.scheduler.call(int)


def test_a_parked_coroutine_does_not_hold_up_the_reader(running: Running, pipe: tuple[int, int]) -> None:
    future: Future[int] = Future()
    results: list[int] = []
    done = threading.Event()

    async def waits() -> None:
        results.append(await running.scheduler.result_of(future))
        done.set()

    running.scheduler.call(lambda: running.scheduler.spawn(waits()))
    os.write(pipe[1], b"x")
    assert running.some.wait(10)
    assert results == []
    future.set_result(7)
    assert done.wait(10)
    assert results == [7]


def test_an_error_of_a_future_reaches_who_waits(running: Running) -> None:
    future: Future[int] = Future()
    raised: list[BaseException] = []
    done = threading.Event()

    async def waits() -> None:
        try:
            await running.scheduler.result_of(future)
        except ValueError as error:
            raised.append(error)
        done.set()

    running.scheduler.call(lambda: running.scheduler.spawn(waits()))
    future.set_exception(ValueError("no"))
    assert done.wait(10)
    assert len(raised) == 1


def test_abort_ends_every_wait_with_enotconn_also_later_ones(running: Running) -> None:
    scheduler = running.scheduler
    lot: list[Task] = []
    numbers: list[int | None] = []
    done = threading.Event()

    async def waits() -> None:
        for wait in (scheduler.park, scheduler.park):
            try:
                await wait(lot)
            except OSError as error:
                numbers.append(error.errno)
        try:
            await scheduler.result_of(Future())
        except OSError as error:
            numbers.append(error.errno)
        done.set()

    scheduler.call(lambda: scheduler.spawn(waits()))
    scheduler.call(scheduler.abort_parked)
    assert done.wait(10)
    assert numbers == [errno.ENOTCONN] * 3
    assert lot == []


def test_calls_are_served_while_everything_is_parked_and_nothing_reads() -> None:
    scheduler = Scheduler()
    lot: list[Task] = []
    thread = threading.Thread(target=lambda: scheduler.run(scheduler.wait_in(lot)))
    thread.start()
    assert scheduler.call(lambda: 5) == 5
    scheduler.call(lambda: scheduler.wake_all(lot))
    thread.join()


def test_an_error_of_a_coroutine_ends_the_run_and_is_raised(running: Running) -> None:
    async def fails() -> None:
        raise ZeroDivisionError

    scheduler = running.scheduler
    scheduler.call(lambda: scheduler.spawn(fails()))
    running.join()
    assert isinstance(running.error, ZeroDivisionError)


def test_ticks_come_while_dirty_and_stop_when_clean(
    running: Running, monkeypatch: pytest.MonkeyPatch, pipe: tuple[int, int]
) -> None:
    monkeypatch.setattr(scheduler_module, "TICK_SECONDS", 0.005)
    ticks = 0
    third = threading.Event()

    def tick() -> None:
        nonlocal ticks
        ticks += 1
        if ticks == 3:
            third.set()

    scheduler = running.scheduler
    scheduler.call(lambda: scheduler.tend(lambda: ticks < 3, tick, lambda: None))
    assert third.wait(10)
    scheduler.call(int)
    assert ticks == 3
    assert scheduler.call(scheduler._until_tick) is None  # clean: it sleeps until somebody wants something


def test_what_is_posted_is_followed_by_after_posts(running: Running) -> None:
    seen: list[str] = []
    scheduler = running.scheduler
    scheduler.call(lambda: scheduler.tend(lambda: False, lambda: None, lambda: seen.append("after")))
    scheduler.call(lambda: seen.append("posted"))
    scheduler.call(int)
    assert seen[:2] in (["posted", "after"], ["after", "posted"])
    assert "after" in seen
