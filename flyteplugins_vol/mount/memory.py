"""The daemon's memory: what is freed is kept for the next pack, and goes back to the machine when all is quiet.

Blocks and packs are pieces of 4 to 16 MiB. By default glibc returns such a piece to the kernel when it is freed, and
the next one has its pages zeroed and mapped anew: 200,000 page faults in a commit of 512 MB, a quarter of its time.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable

import trio

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # mallopt(3)
_LARGEST = 32 << 20  # pieces up to this size come from the heap: a pack and what is around it
_KEPT = 128 << 20  # free bytes at its end from which on the heap shrinks
_LOOK = 2.0  # seconds between two looks
_QUIET = 0.01  # share of a processor below which nothing is going on


def keep_freed() -> None:
    """Have freed memory stay with this process. Before the first thread: all of them then share one heap."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # musl has none, and nothing to say here
        mallopt(_MMAP_THRESHOLD, _LARGEST)
        mallopt(_TRIM_THRESHOLD, _KEPT)
        mallopt(_ARENA_MAX, 1)


async def give_back_when_quiet(let_go: Callable[[], None]) -> None:
    """Whenever a time of work is over: `let_go` of what is held only to be quick, and return free memory."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
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
