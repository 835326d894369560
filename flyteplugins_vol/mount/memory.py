"""The daemon's memory goes back to the machine when all is quiet.

Blocks and packs are pieces of 4 to 16 MiB. The allocator is told to keep those that were freed (`config`), so that the
next one need not have its pages zeroed and mapped anew: that was 200,000 page faults and a quarter of the time of a
commit of 512 MB.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable

import trio

_LOOK = 2.0  # seconds between two looks
_QUIET = 0.01  # share of a processor below which nothing is going on


async def give_back_when_quiet(let_go: Callable[[], None]) -> None:
    """Whenever a time of work is over: `let_go` of what is held only to be quick, and return free memory."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
    seen = time.process_time()
    worked = True  # the mount itself was work
    while True:
        await trio.sleep(_LOOK)
        before, seen = seen, time.process_time()
        quiet = seen - before < _QUIET * _LOOK
        if quiet and worked:
            let_go()
            if trim is not None:
                await trio.to_thread.run_sync(trim, 0)
        worked = not quiet
