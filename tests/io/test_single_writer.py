"""One writer at a time, with real processes: one that is alive, one that is stopped and goes on, one that is dead."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from flyteplugins_vol.errors import LeaseLostError, RefMovedError, VolumeBusyError
from flyteplugins_vol.io import RWVolume, Volume
from tests.io.conftest import World

pytestmark = pytest.mark.fuse


@pytest.fixture
def elsewhere(world: World, monkeypatch: pytest.MonkeyPatch):
    """A mount of the volume from another directory for local files: there the lease alone keeps writers apart."""

    def mount(name: str = "line") -> tuple[RWVolume, Path]:
        volume = world.keep(Volume.from_name.sync(name, world.store))
        with monkeypatch.context() as patch:
            patch.setenv("FLYTE_VOL_CACHE_DIR", str(world.path("elsewhere")))
            return volume, volume.mount.sync(world.path("mnt-elsewhere"))

    return mount


def mounted(world: World) -> tuple[RWVolume, Path]:
    first = world.new("line")
    first.write_bytes.sync("a", b"1")
    first.finalize.sync()
    volume = world.keep(Volume.from_name.sync("line", world.store))
    return volume, volume.mount.sync(world.path("mnt"))


def test_a_second_writer_is_refused_and_comes_in_when_the_first_ends(world: World, elsewhere) -> None:
    volume, path = mounted(world)
    (path / "mine").write_text("1")
    with pytest.raises(VolumeBusyError, match=rf"process {volume.status()['pid']} on ") as caught:
        elsewhere()
    assert "since 20" in caught.value.message
    assert not world.path("mnt-elsewhere").exists()
    assert volume.status()["lease"]["fence"] > 0
    volume.finalize.sync()
    other, path = elsewhere()
    assert (path / "mine").read_text() == "1"
    other.abandon.sync()


def test_a_killed_writer_is_succeeded_at_once(world: World, elsewhere) -> None:
    volume, path = mounted(world)
    os.kill(volume.status()["pid"], signal.SIGKILL)
    while volume.mount_path is not None:
        time.sleep(0.01)
    other, path = elsewhere()
    (path / "theirs").write_text("2")
    other.finalize.sync()
    volume.abandon.sync()


def of_another_machine(world: World, milliseconds: int) -> None:
    """Let the lease of the store's only volume be held by a process elsewhere, which never renews it."""
    (path,) = world.path("store").glob("volumes/*/lease.json")
    lease = {**json.loads(path.read_text()), "released": False, "machine": "elsewhere", "host": "node-7"}
    path.write_text(json.dumps({**lease, "milliseconds": milliseconds}))


@pytest.mark.logs_warnings
def test_whoever_waits_for_a_lease_is_told_whose_it_is_and_for_how_long(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    volume, _ = mounted(world)
    volume.finalize.sync()
    of_another_machine(world, 400)
    events: list[dict[str, Any]] = []
    volume = world.keep(Volume.from_name.sync("line", world.store))
    volume.mount.sync(world.path("mnt"), progress=events.append)
    volume.abandon.sync()
    waits = [event for event in events if event.get("phase") == "lease"]
    assert "on node-7 since 20" in waits[0]["holder"]
    assert 0.3 < waits[0]["left"] <= 0.4
    assert waits[-1]["left"] == 0

    of_another_machine(world, 400)
    volume = world.keep(Volume.from_name.sync("line", world.store))
    volume.mount.sync(world.path("mnt"))
    volume.abandon.sync()
    of_another_machine(world, 400)
    volume = world.keep(Volume.from_name.sync("line", world.store))
    volume.write_bytes.sync("b", b"without a mount")
    volume.finalize.sync()
    told = [record.message for record in caplog.records if "watching for up to" in record.message]
    assert len(told) == 2, "once each, in the log of this process"
    assert all("volume line is held by" in text and "on node-7 since 20" in text for text in told)


@pytest.mark.slow
def test_a_stopped_writer_cannot_publish_over_its_successor(
    world: World, elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLYTE_VOL_LEASE_SECONDS", "2")
    volume, path = mounted(world)
    (path / "mine").write_text("not committed")
    daemon = volume.status()["pid"]
    os.kill(daemon, signal.SIGSTOP)
    try:
        other = _when_it_has_ended(elsewhere)
        (world.path("mnt-elsewhere") / "theirs").write_text("2")
        theirs = other.commit.sync("theirs")
    finally:
        os.kill(daemon, signal.SIGCONT)
    with pytest.raises(LeaseLostError) as caught:
        volume.commit.sync("mine")
    assert (path / "mine").read_text() == "not committed"
    saved = world.load(caught.value.hint.split("version ")[1].split(";")[0])
    assert saved.read_bytes.sync("mine") == b"not committed"
    assert Volume.from_name.sync("line", world.store).locator == theirs.locator
    last = other.finalize.sync("theirs, too")
    assert last.parents == (theirs.locator,)
    with pytest.raises((LeaseLostError, RefMovedError)):
        volume.finalize.sync()


def _when_it_has_ended(elsewhere) -> RWVolume:
    deadline = time.monotonic() + 30
    while True:
        try:
            return elsewhere()[0]
        except VolumeBusyError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
