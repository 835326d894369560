"""Open files, without a mount and through one: modes, threads, and how long they stay open."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from flyteplugins_vol.io import RWVolume, Volume
from tests.io.conftest import World
from tests.waiting import wait_for


def test_open_files(volume: RWVolume) -> None:
    with volume.open.sync("log", "w") as file:
        assert file.write(b"one\n") == 4
    with volume.open.sync("log", "at") as file:
        file.write("zwö\n")
    with volume.open.sync("log", "rt") as file:
        assert list(file) == ["one\n", "zwö\n"]
    with volume.open.sync("log", "rb+") as file:
        file.seek(-2, os.SEEK_END)
        file.truncate()
        file.seek(0)
        file.write(b"ONE")
        file.seek(2)
        assert file.read(4) == b"E\nzw"
    with volume.open.sync("new", "xb") as file:
        file.write(bytes(9_000_000))
        assert file.tell() == 9_000_000
    assert volume.stat.sync("new").size == 9_000_000
    with volume.open.sync("new", "w+b") as file:
        file.write(b"short")
        file.seek(0)
        assert file.read() == b"short"
    with volume.open.sync("new") as file:
        assert (file.seek(2), file.read()) == (2, b"ort")
        with pytest.raises(io.UnsupportedOperation):
            file.write(b"")
    with pytest.raises(FileExistsError):
        volume.open.sync("new", "x")
    for mode in ("", "rw", "bt", "rr", "z"):
        with pytest.raises(ValueError, match="invalid mode"):
            volume.open.sync("new", mode)


def held_off(volume: RWVolume, verb: Callable[[int], Any]) -> list[Any]:
    """What two threads get by this, which both come to their first change while a commit holds them off."""
    session = volume._access.session
    assert session is not None
    with ThreadPoolExecutor(2) as threads:
        session._freeze()
        try:
            pending = [threads.submit(verb, number) for number in range(2)]
            wait_for(lambda: len(session._thawed._waiters) == 2)  # type: ignore[attr-defined]
        finally:
            session._thaw()
        return [future.result(30) for future in pending]


def test_threads_that_append_overwrite_nothing(world: World) -> None:
    volume = world.new("files")
    volume.write_bytes.sync("log", b"begin\n")
    with volume.open.sync("log", "ab") as one, volume.open.sync("log", "ab") as other:
        held_off(volume, lambda number: (one, other)[number].write(b"%d\n" % number) and (one, other)[number].flush())
        assert (one.tell(), other.tell()) in {(8, 10), (10, 8)}
    assert sorted(volume.read_bytes.sync("log").split()) == [b"0", b"1", b"begin"]
    volume.abandon.sync()


def test_threads_that_open_one_new_file_both_get_it(world: World) -> None:
    volume = world.new("files")
    volume.write_bytes.sync("other", b"")
    for file in held_off(volume, lambda _: volume.open.sync("new", "a")):
        with file:
            file.write(b"x")
    assert volume.read_bytes.sync("new") == b"xx"
    held_off(volume, lambda _: volume.mkdir.sync("d", exist_ok=True))
    assert volume.stat.sync("d").is_dir
    volume.abandon.sync()


def test_an_open_file_keeps_its_volume(world: World) -> None:
    volume = world.new()
    volume.write_bytes.sync("a", b"12345")
    locator = volume.finalize.sync().locator
    file = Volume.from_locator.sync(locator).open.sync("a", buffering=1)
    assert [file.read(1) for _ in range(6)] == [b"1", b"2", b"3", b"4", b"5", b""]
    file.close()


def test_a_file_that_is_read_stays_open_when_the_first_write_comes(world: World) -> None:
    first = world.new("line")
    first.write_bytes.sync("a", b"0123456789")
    first.finalize.sync()
    volume = Volume.from_name.sync("line", world.store)
    with volume.open.sync("a", buffering=1) as file:
        assert file.read(2) == b"01"
        session = volume._access.session
        assert session is not None
        volume.write_bytes.sync("a", b"other")
        assert file.read() == b"23456789"
        assert volume.read_bytes.sync("a") == b"other"
    assert not session._closed
    del file
    wait_for(lambda: session._closed)
    volume.abandon.sync()


def test_what_is_collected_in_the_middle_of_anything_waits_for_no_lock(world: World) -> None:
    volume = world.new()
    volume.write_bytes.sync("a", b"1")
    version = volume.finalize.sync()
    file: Any = version.open.sync("a")
    session = version._access.session
    assert session is not None
    with ThreadPoolExecutor(1) as threads, session._lock:
        session.close_when_unused(session.close)
        holder = [file]
        del file
        threads.submit(holder.clear).result(10)  # the last reference goes in another thread
    version._access.session = None
    wait_for(lambda: session._closed)
