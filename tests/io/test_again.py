"""Handles that nobody can reach any more, as a notebook's cell leaves them that is run again, are in nobody's way."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from flyteplugins_vol.errors import VolumeBusyError
from flyteplugins_vol.history.closer import begin_closer, finish, later
from flyteplugins_vol.io import RWVolume, Volume
from tests.io.conftest import World


@pytest.fixture(autouse=True)
def line(world: World) -> None:
    volume = Volume.new("line", world.store)
    volume.write_bytes.sync("a", b"0")
    volume.finalize.sync()


@pytest.fixture
def closer_at_rest() -> Iterator[None]:
    """Nothing is done by the thread that closes what was collected, as long as a test runs."""
    begun, done = threading.Event(), threading.Event()
    begin_closer()
    later(lambda: (begun.set(), done.wait()))
    begun.wait()
    yield
    done.set()
    finish(60.0)


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def write(world: World, content: bytes) -> RWVolume:
    volume = Volume.from_name.sync("line", world.store)
    volume.write_bytes.sync("a", content)
    return volume


def test_a_cell_that_is_run_again_and_again(world: World, closer_at_rest: None) -> None:
    for number in range(5):
        volume = Volume.from_name.sync("line", world.store)
        volume.write_bytes.sync("a", b"%d" % number)
        volume.commit.sync()
    assert volume.read_bytes.sync("a") == b"4"


def test_what_such_a_cell_had_not_committed_is_dropped(world: World, closer_at_rest: None) -> None:
    write(world, b"dropped")
    volume = write(world, b"1")
    assert len(volume.finalize.sync().log.sync()) == 2


def test_one_in_a_circle_is_found(world: World, closer_at_rest: None, no_collector: None) -> None:
    circle: list[object] = [write(world, b"1")]
    circle.append(circle)
    del circle
    assert write(world, b"2").finalize.sync().read_bytes.sync("a") == b"2"


def test_one_that_the_closer_has_last(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a file does that is closed there, since it was collected."""
    held = [write(world, b"1")]
    began, asked = threading.Event(), threading.Event()
    later(lambda: (began.set(), asked.wait(), held.clear()))
    began.wait()
    look = gc.collect

    def collect() -> int:
        asked.set()  # by now the other handle was found to be in use
        return look()

    monkeypatch.setattr(gc, "collect", collect)
    assert write(world, b"2").finalize.sync().read_bytes.sync("a") == b"2"


def test_one_that_is_being_closed(world: World) -> None:
    volume = write(world, b"1")
    session = volume._access.session
    opened = volume._access._opened
    assert session is not None
    assert opened is not None
    with ThreadPoolExecutor(2) as threads:
        with session._lock:
            closing = threads.submit(volume.close.sync)
            while not opened._once.locked():
                pass
            writing = threads.submit(write, world, b"2")
        closing.result()
        assert writing.result().finalize.sync().read_bytes.sync("a") == b"2"


def test_publishing_what_was_not_written_to(world: World, closer_at_rest: None) -> None:
    write(world, b"1").commit.sync()
    assert Volume.from_name.sync("line", world.store).finalize.sync("as it is").message == "as it is"


@pytest.mark.fuse
def test_a_mount(world: World, closer_at_rest: None) -> None:
    write(world, b"1").commit.sync()
    volume = world.keep(Volume.from_name.sync("line", world.store))
    assert (volume.mount.sync(world.path("mnt")) / "a").read_bytes() == b"1"
    volume.finalize.sync()


@pytest.mark.fuse
def test_a_mount_beside_a_handle_that_lives(world: World) -> None:
    live = write(world, b"1")
    volume = world.keep(Volume.from_name.sync("line", world.store))
    with pytest.raises(VolumeBusyError, match="another handle of this process") as caught:
        volume.mount.sync(world.path("mnt"))
    assert f"{__file__}:" in caught.value.message
    assert "close()" in caught.value.hint
    assert live.finalize.sync().read_bytes.sync("a") == b"1"
