"""Extents of one 4 MiB window of a file, as values: cut, put, and the bytes that they cover.

An extent is ``(start, end, block, source)`` with file offsets. ``block`` > 0: bytes of that block from ``source`` on;
``block`` = 0: bytes of Staging from position ``source`` on. Lists are sorted by start and never overlap.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

Extent = tuple[int, int, int, int]
STAGED = 0


def cut(extents: list[Extent], start: int, end: int) -> list[Extent]:
    """Remove what lies in [start, end) from the list, in place; returns what was removed."""
    if not extents or extents[-1][1] <= start or extents[0][0] >= end:
        return []
    # (start,) sorts before any extent that begins there
    first = bisect_right(extents, (start,))
    if first and extents[first - 1][1] > start:
        first -= 1
    last = bisect_left(extents, (end,))
    removed: list[Extent] = []
    kept: list[Extent] = []
    for a, b, block, source in extents[first:last]:
        if a < start:
            kept.append((a, start, block, source))
        if b > end:
            kept.append((end, b, block, source + end - a))
        lo, hi = max(a, start), min(b, end)
        removed.append((lo, hi, block, source + lo - a))
    extents[first:last] = kept
    return removed


def put(extents: list[Extent], new: Extent) -> list[Extent]:
    """Lay an extent over the list, in place, joined with one that it continues; returns what it replaced."""
    start, end, block, source = new
    if not extents or extents[-1][1] <= start:
        replaced: list[Extent] = []
        where = len(extents)
        extents.append(new)
    else:
        # as `cut`, with the new one in the gap at once: this is what every random write does
        where = bisect_right(extents, (start,))
        if where and extents[where - 1][1] > start:
            where -= 1
        last = bisect_left(extents, (end,), where)
        replaced = extents[where:last]
        laid = [new]
        if replaced:
            a, b, before, origin = replaced[-1]
            if b > end:
                laid.append((end, b, before, origin + end - a))
                replaced[-1] = (a, end, before, origin)
            a, b, before, origin = replaced[0]
            if a < start:
                laid.insert(0, (a, start, before, origin))
                replaced[0] = (start, b, before, origin + start - a)
        extents[where:last] = laid
        if len(laid) > 1 and laid[0][0] < start:
            where += 1
    if where:
        a, b, before, origin = extents[where - 1]
        if b == start and before == block and origin + b - a == source:
            extents[where - 1 : where + 1] = ((a, end, block, origin),)
    return replaced


def within(extents: list[Extent], start: int, end: int) -> list[Extent]:
    """The parts of extents that lie in [start, end)."""
    first = bisect_right(extents, (start,))
    if first and extents[first - 1][1] > start:
        first -= 1
    found: list[Extent] = []
    for a, b, block, source in extents[first:]:
        if a >= end:
            break
        lo, hi = max(a, start), min(b, end)
        found.append((lo, hi, block, source + lo - a))
    return found


def covered(extents: list[Extent]) -> int:
    """Bytes that the extents cover."""
    return sum(extent[1] - extent[0] for extent in extents)
