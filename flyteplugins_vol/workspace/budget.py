"""How much memory this process may take: of the machine's, and of its control groups (a container's limits)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

_UNLIMITED = 1 << 60  # what version 1 of control groups says where there is no limit is beyond it
_GROUPS = "/sys/fs/cgroup"


def memory_there(root: str = "/") -> int | None:
    """Bytes that could be used without swapping; None where nobody tells. ``root``: where proc and sys are."""
    told = [_available(root), *_limits(root)]
    known = [size for size in told if size is not None and size < _UNLIMITED]
    return min(known, default=None)


def _available(root: str) -> int | None:
    with suppress(OSError, ValueError, IndexError), open(os.path.join(root, "proc/meminfo"), encoding="ascii") as lines:
        for line in lines:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def _limits(root: str) -> Iterator[int | None]:
    """Of the process's own group and of all above it; a container mostly sees its own as the topmost."""
    groups = os.path.join(root, _GROUPS[1:])
    with suppress(OSError), open(os.path.join(root, "proc/self/cgroup"), encoding="utf-8", errors="replace") as lines:
        for line in lines:
            number, _, rest = line.strip().partition(":")
            controllers, _, path = rest.partition(":")
            if number == "0":
                top, file = groups, "memory.max"
            elif "memory" in controllers.split(","):
                top, file = os.path.join(groups, "memory"), "memory.limit_in_bytes"
            else:
                continue
            while True:
                yield _number(os.path.join(top, path.strip("/"), file))
                if path.strip("/") == "":
                    break
                path = os.path.dirname(path)


def _number(path: str) -> int | None:
    with suppress(OSError, ValueError), open(path, encoding="ascii") as file:
        return int(file.read())
    return None  # "max", or there is none
