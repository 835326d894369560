"""Worker threads that nobody has to wait for."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from flyteplugins_vol.store.daemonpool import DaemonPool


def test_calls_run_and_answer() -> None:
    with DaemonPool(3, "test") as pool:
        assert list(pool.map(lambda n: n * n, range(100))) == [n * n for n in range(100)]
        with pytest.raises(ZeroDivisionError):
            pool.submit(lambda: 1 // 0).result()
    with pytest.raises(RuntimeError, match="shut down"):
        pool.submit(int)


def test_no_more_threads_than_needed_or_allowed() -> None:
    barrier = threading.Barrier(4)
    with DaemonPool(3, "test") as pool:
        assert pool.submit(threading.active_count).result() == pool.submit(threading.active_count).result()
        for waiting in [pool.submit(barrier.wait) for _ in range(3)]:
            assert not waiting.done()
        barrier.wait()
        names = {thread.name for thread in threading.enumerate() if thread.name.startswith("test_")}
        assert names <= {"test_0", "test_1", "test_2"}


def test_what_has_not_begun_can_be_cancelled() -> None:
    begun, end = threading.Event(), threading.Event()
    pool = DaemonPool(1, "test")
    first = pool.submit(lambda: (begun.set(), end.wait()))
    second = pool.submit(int)
    begun.wait()
    pool.shutdown(wait=False, cancel_futures=True)
    assert second.cancelled()
    end.set()
    pool.shutdown(wait=True)
    assert first.done()


def test_the_process_ends_without_them() -> None:
    code = """
import time
from flyteplugins_vol.store.daemonpool import DaemonPool
DaemonPool(1, "x").submit(time.sleep, 1000)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def no_thread(_: threading.Thread) -> None:
    raise RuntimeError("can't create new thread at interpreter shutdown")


def test_where_no_thread_can_be_had_the_call_runs_in_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch, DaemonPool(2, "test") as pool:
        patch.setattr(threading.Thread, "start", no_thread)
        assert pool.submit(threading.current_thread).result(10) is threading.current_thread()
        with pytest.raises(ZeroDivisionError):
            pool.submit(lambda: 1 // 0).result(10)
    with DaemonPool(2, "test") as pool:
        begun, end = threading.Event(), threading.Event()
        first = pool.submit(lambda: (begun.set(), end.wait()))
        begun.wait()
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", no_thread)
            second = pool.submit(threading.current_thread)
        end.set()
        assert (second.result(10).name, first.done()) == ("test_0", True), "there is one: it does both"
