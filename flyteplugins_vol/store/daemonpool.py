"""Worker threads that do not hold up the end of the process, as those of `concurrent.futures` do.

A GET from a store that does not answer takes minutes to fail. Whoever quits meanwhile must not wait for it.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

T = TypeVar("T")


class DaemonPool(Executor):
    """An executor of at most ``workers`` threads, started as needed; where none can be, `submit` runs the call."""

    def __init__(self, workers: int, name: str) -> None:
        self._workers = workers
        self._name = name
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._closed = False

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Raises RuntimeError after `shutdown`."""
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("the pool was shut down")
            has_thread = self._idle.acquire(blocking=False) or len(self._threads) >= self._workers
            if has_thread or self._begin_thread() or self._threads:
                self._calls.put((future, lambda: fn(*args, **kwargs)))
                return future
        _run(future, lambda: fn(*args, **kwargs))
        return future

    def _begin_thread(self) -> bool:
        thread = threading.Thread(target=self._work, name=f"{self._name}_{len(self._threads)}", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # since Python 3.12, when the process ends; a last commit is made all the same
            return False
        self._threads.append(thread)
        return True

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; ``wait`` for those under way, ``cancel_futures`` of those that have not begun."""
        with self._lock:
            self._closed = True
            if cancel_futures:
                self._cancel()
            for _ in self._threads:
                self._calls.put(None)
        if wait:
            for thread in self._threads:
                thread.join()

    def _cancel(self) -> None:
        while True:
            try:
                call = self._calls.get_nowait()
            except queue.Empty:
                return
            if call is not None:
                call[0].cancel()

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            _run(*call)
            del call  # an idle thread keeps nothing alive
            self._idle.release()


def _run(future: Future[Any], call: Callable[[], Any]) -> None:
    if future.set_running_or_notify_cancel():
        try:
            result = call()
        except BaseException as error:  # handed over whole to whoever waits
            future.set_exception(error)
        else:
            future.set_result(result)
