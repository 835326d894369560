"""Extents, compared with an array that knows for each byte where it comes from."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from flyteplugins_vol.index.extents import Extent, covered, cut, put, within

SIZE = 40
RANGE = st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)).map(sorted).filter(lambda r: r[0] < r[1])
PUT = st.tuples(RANGE, st.integers(0, 3), st.integers(0, 100))
CUT = st.tuples(RANGE)
Bytes = dict[int, tuple[int, int]]


def as_bytes(extents: list[Extent]) -> Bytes:
    return {at: (block, source + at - start) for start, end, block, source in extents for at in range(start, end)}


def check(extents: list[Extent]) -> None:
    assert extents == sorted(extents)
    assert all(start < end for start, end, _, _ in extents)
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(extents)), "they overlap"


@given(st.lists(st.one_of(PUT, CUT), max_size=20), RANGE)
def test_cut_and_put_do_what_they_do_to_bytes(steps: list[tuple[object, ...]], look: list[int]) -> None:
    extents: list[Extent] = []
    expected: Bytes = {}
    for step in steps:
        start, end = step[0]  # type: ignore[misc]
        here = {at: expected[at] for at in range(start, end) if at in expected}
        if len(step) == 1:
            removed = cut(extents, start, end)
            expected = {at: source for at, source in expected.items() if at not in here}
        else:
            block, source = step[1], step[2]
            removed = put(extents, (start, end, block, source))  # type: ignore[arg-type]
            expected.update({at: (block, source + at - start) for at in range(start, end)})  # type: ignore[misc, operator]
        assert as_bytes(removed) == here
        check(removed)
        check(extents)
        assert as_bytes(extents) == expected
        assert covered(extents) == len(expected)
    found = within(extents, *look)
    check(found)
    assert as_bytes(found) == {at: expected[at] for at in range(*look) if at in expected}


def test_what_continues_an_extent_joins_it() -> None:
    extents: list[Extent] = []
    for i in range(100):
        put(extents, (i * 10, i * 10 + 10, 0, 500 + i * 10))
    assert extents == [(0, 1000, 0, 500)]
    put(extents, (1000, 1010, 0, 9999))
    assert len(extents) == 2
