"""The thread `close`: it does what finalizers have to do, which may run in any thread, whatever locks that has."""

from __future__ import annotations

import ctypes
import logging
import os
import queue
import threading
import time
from collections.abc import Callable

from flyteplugins_vol.errors import ForkedHandleError

log = logging.getLogger(__name__)

_gone: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()  # its put may interrupt itself
_closer: threading.Thread | None = None


def later(action: Callable[[], object]) -> None:
    """From a finalizer: in a thread that has no locks."""
    _gone.put(action)


def begin_closer() -> None:
    """Before the first finalizer: what runs in one starts no thread."""
    global _closer
    if _closer is None or not _closer.is_alive():
        _closer = threading.Thread(target=_close_gone, name="close", daemon=True)
        _closer.start()


def finish(seconds: float) -> None:
    """Return when all that `later` was given is done, and what that gave it, or after so many seconds.

    At the end of the process no thread can be begun any more: if there is none, it is done in this one. The thread
    itself waits for nothing.
    """
    if threading.current_thread() is _closer:
        return
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        if _closer is None or not _closer.is_alive():
            try:
                action = _gone.get_nowait()
            except queue.Empty:
                return
            _do(action)
            continue
        done = threading.Event()
        _gone.put(done.set)
        if done.wait(left) and _gone.empty():
            return


def _close_gone() -> None:
    while True:
        _do(_gone.get())


def _do(action: Callable[[], object]) -> None:
    try:
        action()
    except ForkedHandleError:
        pass  # a copy of what the parent closes
    except Exception:
        log.exception("a session could not be closed")


def _begin_afresh() -> None:
    """In a forked child: what is in the queue is the parent's to do, and its thread is not there."""
    global _gone, _closer
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(_gone))  # what is in it would go, and do what it does when it goes
    _gone, _closer = queue.SimpleQueue(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_afresh)
