from __future__ import annotations

from collections.abc import Sequence

import pytest

from flyteplugins_vol.model import Inode
from flyteplugins_vol.mount.listings import KEPT, STEP, WINDOW, Listing, Listings, ReadNames

INODE = Inode(2, 0o100644, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, None)


def reader(names: Sequence[bytes]) -> ReadNames:
    def read(after: bytes | None, limit: int) -> list[tuple[bytes, Inode]]:
        return [(name, INODE) for name in names if after is None or name > after][:limit]

    return read


def no_reading(after: bytes | None, limit: int) -> list[tuple[bytes, Inode]]:
    raise AssertionError("the window has it")


NAMES = [b"%07d" % number for number in range(3 * WINDOW)]


@pytest.fixture(scope="module")
def listed() -> Listing:
    handle = Listing(1)
    for ordinal, name in enumerate(NAMES):
        handle.passed(ordinal, name)
    return handle


def test_a_plain_listing_never_counts() -> None:
    handle = Listing(1)
    assert handle.name_before(0, no_reading) is None
    for ordinal, name in enumerate(NAMES[:100]):
        handle.passed(ordinal, name)
        assert handle.name_before(ordinal + 1, no_reading) == name


@pytest.mark.parametrize("back", [1, 2, 100, WINDOW - 1, WINDOW])
def test_inside_the_window_places_are_exact_without_counting(listed: Listing, back: int) -> None:
    count = len(NAMES) - back + 1
    assert listed.name_before(count, no_reading) == NAMES[count - 1]


@pytest.mark.parametrize("count", [1, STEP - 1, STEP, STEP + 1, 5 * STEP, WINDOW, 2 * WINDOW])
def test_before_the_window_places_are_counted_from_a_checkpoint(listed: Listing, count: int) -> None:
    read_in_all = 0

    def read(after: bytes | None, limit: int) -> Sequence[tuple[bytes, Inode]]:
        nonlocal read_in_all
        read_in_all += limit
        return reader(NAMES)(after, limit)

    assert listed.name_before(count, read) == NAMES[count - 1]
    assert read_in_all < STEP


def test_a_place_beyond_what_was_listed_is_counted() -> None:
    assert Listing(1).name_before(5, reader(NAMES)) == NAMES[4]
    assert Listing(1).name_before(5, reader(NAMES[:3])) == NAMES[2]


def test_listing_again_from_the_middle_follows_what_is_there_now() -> None:
    handle = Listing(1)
    for ordinal, name in enumerate((b"a", b"b", b"c", b"d")):
        handle.passed(ordinal, name)
    handle.passed(1, b"b")  # unchanged: what comes after stays known
    assert handle.name_before(4, no_reading) == b"d"
    handle.passed(2, b"x")  # c is gone
    assert handle.name_before(3, no_reading) == b"x"
    handle.passed(3, b"y")
    assert handle.name_before(4, no_reading) == b"y"


def test_place_0_begins_a_listing_and_others_go_on_with_theirs() -> None:
    listings = Listings()
    first, place = listings.at(0, 1)
    assert place == 0
    second, _ = listings.at(0, 1)
    assert second is not first
    assert listings.at(first.base + 7, 1) == (first, 7)
    assert listings.at(second.base + 9, 1) == (second, 9)


def test_a_cookie_of_a_forgotten_listing_is_counted_from_the_start() -> None:
    listings = Listings()
    first, _ = listings.at(0, 1)
    for _ in range(KEPT):
        listings.at(0, 2)
    again, place = listings.at(first.base + 2 + 5, 1)
    assert again is not first
    assert again.base == first.base
    assert again.name_before(place - 2, reader(NAMES)) == NAMES[4]


def test_the_cookie_of_another_directory_is_not_believed() -> None:
    listings = Listings()
    first, _ = listings.at(0, 1)
    other, place = listings.at(first.base + 3, 2)
    assert (other.ino, place) == (2, 3)
