"""SIGTERM to a process with mounts that commit by themselves: they publish, within bounds, before it dies of it.

Only where nobody else handles the signal. Without this the process would die at once and leave it to the daemons,
which a container does not outlive; and as a container's first process it would not even notice. Mounts without
autocommit need nothing: their daemons keep what was written, whatever happens.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flyteplugins_vol.mount.client import MountClient

SECONDS = 25.0
"""For all mounts together: Kubernetes kills 30 s after its SIGTERM."""

_clients: weakref.WeakSet[MountClient] = weakref.WeakSet()


def install() -> None:
    """Handle SIGTERM from now on, if this is the main thread and nobody does. Idempotent."""
    here = threading.current_thread() is threading.main_thread()
    if here and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminated)


def publishes(client: MountClient) -> None:
    """Let this mount publish when the process is terminated. Any thread."""
    _clients.add(client)


def _terminated(number: int, _: Any) -> None:
    # In threads of their own: this one may hold whatever a mount's end has to wait for.
    threads = [threading.Thread(target=_leave, args=(client,), daemon=True) for client in list(_clients)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + SECONDS
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    _die(number)


def _leave(client: MountClient) -> None:
    with suppress(Exception):
        client.leave()


def _die(number: int) -> None:
    """As if the signal had never been handled, also for whoever waits for this process."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
