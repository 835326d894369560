"""Ctrl-C ends a command also while a call into a library does not return: a store that is away takes minutes to fail.

Python's own handler runs when the main thread is back in Python. So a thread waits a moment for the command to end, and
else ends the process. Nothing is half published then: a version is there from its record on, or not.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Any

from flyteplugins_vol.cli.errors import INTERRUPTED

_MOMENT = 2.0  # seconds for the command to end by itself
_CLEANING = 1.0

_told = threading.Event()
_left_alone = threading.Event()


def end_in_a_moment() -> None:
    """From now on a SIGINT ends this process, unless it has ended by itself. For its main thread, once."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reading,), name="interrupt", daemon=True).start()


def leave_signals_alone() -> None:
    """For the rest of a command that knows what signals mean to it (mount, exec), and may take its time to publish.

    To be called before its handlers are there: whoever looks only later, may find that they are gone again.
    """
    _left_alone.set()


@contextmanager
def handled(numbers: Iterable[int], handler: Callable[[int, Any], None]) -> Generator[None, None, None]:
    """Meanwhile ``handler`` has these signals, but for those that are ignored: nohup and a shell's ``&`` mean that.

    A program that is started meanwhile ignores the same ones then, since exec(2) resets what is handled.
    """
    leave_signals_alone()
    wanted = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in wanted}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


def say_interrupted() -> None:
    """Say it once, whoever comes first."""
    if not _told.is_set():
        _told.set()
        sys.stderr.write("\ninterrupted\n")
        sys.stderr.flush()


def _watch(reading: int) -> None:
    while numbers := os.read(reading, 64):
        if signal.SIGINT in numbers and not _left_alone.is_set():
            time.sleep(_MOMENT)
            _end()


def _end() -> None:
    cleaning = threading.Thread(target=_clean, daemon=True)
    cleaning.start()
    cleaning.join(_CLEANING)
    say_interrupted()
    os._exit(INTERRUPTED)


def _clean() -> None:
    access = sys.modules.get("flyteplugins_vol.io.access")
    if access is not None:  # a command that failed to import has nothing to clean
        access.remove_directories()
