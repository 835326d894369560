from __future__ import annotations

from collections.abc import Sequence

import pytest

from flyteplugins_vol.model import Inode
from flyteplugins_vol.mount.directory_handle import STEP, WINDOW, DirectoryHandle, ReadNames

INODE = Inode(2, 0o100644, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, None)


def reader(names: Sequence[bytes]) -> ReadNames:
    def read(after: bytes | None, limit: int) -> list[tuple[bytes, Inode]]:
        return [(name, INODE) for name in names if after is None or name > after][:limit]

    return read


def no_reading(after: bytes | None, limit: int) -> list[tuple[bytes, Inode]]:
    raise AssertionError("the window has it")


NAMES = [b"%07d" % number for number in range(3 * WINDOW)]


@pytest.fixture(scope="module")
def listed() -> DirectoryHandle:
    handle = DirectoryHandle(1)
    for ordinal, name in enumerate(NAMES):
        handle.passed(ordinal, name)
    return handle


def test_a_plain_listing_never_counts() -> None:
    handle = DirectoryHandle(1)
    assert handle.name_before(0, no_reading) is None
    for ordinal, name in enumerate(NAMES[:100]):
        handle.passed(ordinal, name)
        assert handle.name_before(ordinal + 1, no_reading) == name


@pytest.mark.parametrize("back", [1, 2, 100, WINDOW - 1, WINDOW])
def test_inside_the_window_places_are_exact_without_counting(listed: DirectoryHandle, back: int) -> None:
    count = len(NAMES) - back + 1
    assert listed.name_before(count, no_reading) == NAMES[count - 1]


@pytest.mark.parametrize("count", [1, STEP - 1, STEP, STEP + 1, 5 * STEP, WINDOW, 2 * WINDOW])
def test_before_the_window_places_are_counted_from_a_checkpoint(listed: DirectoryHandle, count: int) -> None:
    read_in_all = 0

    def read(after: bytes | None, limit: int) -> Sequence[tuple[bytes, Inode]]:
        nonlocal read_in_all
        read_in_all += limit
        return reader(NAMES)(after, limit)

    assert listed.name_before(count, read) == NAMES[count - 1]
    assert read_in_all < STEP


def test_a_place_beyond_what_was_listed_is_counted() -> None:
    assert DirectoryHandle(1).name_before(5, reader(NAMES)) == NAMES[4]
    assert DirectoryHandle(1).name_before(5, reader(NAMES[:3])) == NAMES[2]


def test_listing_again_from_the_middle_follows_what_is_there_now() -> None:
    handle = DirectoryHandle(1)
    for ordinal, name in enumerate((b"a", b"b", b"c", b"d")):
        handle.passed(ordinal, name)
    handle.passed(1, b"b")  # unchanged: what comes after stays known
    assert handle.name_before(4, no_reading) == b"d"
    handle.passed(2, b"x")  # c is gone
    assert handle.name_before(3, no_reading) == b"x"
    handle.passed(3, b"y")
    assert handle.name_before(4, no_reading) == b"y"


def test_rewind_forgets_all() -> None:
    handle = DirectoryHandle(1)
    handle.passed(0, b"old")
    handle.rewind()
    handle.passed(0, b"new")
    assert handle.name_before(1, no_reading) == b"new"
