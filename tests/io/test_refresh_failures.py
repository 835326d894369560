"""Refreshing that fails, is refused or is cut off: the version before stays, and nothing hangs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from contextlib import suppress
from functools import partial

import pytest

from flyteplugins_vol.errors import (
    LocatorError,
    MountFailedError,
    NotMountedError,
    ObjectMissingError,
    OtherVolumeError,
    SetupError,
    VersionNotFoundError,
    WritableMountError,
)
from flyteplugins_vol.mount import kernel_mounts
from tests.io.two_mounts import Pair, is_over
from tests.mount.conftest import DRIVERS
from tests.waiting import wait_for

pytestmark = pytest.mark.fuse

KILLS = [float(delay) for delay in os.environ.get("REFRESH_KILLS", "0.01,0.03").split(",")]
"""Seconds after which a daemon that refreshes is killed."""


async def test_a_refresh_that_cannot_be(pair: Pair) -> None:
    (pair.w / "a").write_text("old")
    r = pair.look()
    world, reader = pair.world, pair.reader
    shown = reader.locator
    assert shown is not None
    other = world.new("other")
    other.write_bytes.sync("/a", b"x")
    absent = shown.replace("00000001-", "00000009-")
    for to, error, hint in (
        (absent, VersionNotFoundError, ""),
        (other.commit.sync(), OtherVolumeError, "path of its own"),
        ("nonsense", LocatorError, "address of a version"),
    ):
        with pytest.raises(error) as failed:
            await reader.refresh(to)
        assert hint in failed.value.hint
        assert failed.value.hint
    assert reader.locator == shown
    assert (r / "a").read_text() == "old"
    with pytest.raises(WritableMountError) as writable:
        pair.writer._live().client.refresh()  # which a writer's handle has no method for
    assert "read-only" in writable.value.hint
    reader.unmount.sync()
    with pytest.raises(NotMountedError):
        await reader.refresh()


def test_a_store_that_fails_in_the_middle_leaves_the_old_version(pair: Pair) -> None:
    (pair.w / "a").write_text("old")
    r = pair.look()
    shown = pair.reader.locator
    (pair.w / "a").write_text("new!")
    pair.publish()
    objects = pair.world.root / "store" / "index"
    shutil.move(objects, pair.world.root / "away")
    with pytest.raises(ObjectMissingError):
        pair.reader.refresh.sync()
    assert (pair.reader.locator, (r / "a").read_text()) == (shown, "old")
    assert pair.reader.status()["refreshes"] == 0
    shutil.move(pair.world.root / "away", objects)
    assert pair.reader.refresh.sync()
    assert (r / "a").read_text() == "new!"


@pytest.mark.logs_warnings
def test_a_daemon_that_is_killed_in_the_middle_leaves_nothing_that_hangs(pair: Pair) -> None:
    for number in range(400):
        (pair.w / f"{number}").write_bytes(b"old")
    r = pair.look()
    first = pair.reader.locator
    for number in range(400):
        (pair.w / f"{number}").write_bytes(b"new")
    second = pair.publish().locator
    reader = pair.reader
    for delay in KILLS:
        os.listdir(r)
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        busy = [subprocess.Popen(["ls", "-lR", r], **quiet) for _ in range(2)]
        killer = threading.Timer(delay, os.kill, (reader.status()["pid"], signal.SIGKILL))
        killer.start()
        with suppress(MountFailedError, NotMountedError):
            reader.refresh.sync(second)
        killer.join()
        wait_for(partial(is_over, reader))
        reader.abandon.sync()
        for program in busy:
            program.wait(20)
        assert kernel_mounts.mount_at(str(r)) is None
        reader = pair.world.load(first)
        assert reader.mount.sync(r, **pair.options) == r
        assert (r / "1").read_bytes() == b"old"


@pytest.mark.skipif("pyfuse3" not in DRIVERS, reason="pyfuse3 is not installed")
def test_the_driver_pyfuse3_refuses(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYTE_VOL_DRIVER", "pyfuse3")
    (pair.w / "a").write_text("old")
    r = pair.look()
    (pair.w / "a").write_text("new!")
    pair.publish()
    with pytest.raises(SetupError, match="through pyfuse3 cannot be refreshed") as refused:
        pair.reader.refresh.sync()
    assert "FLYTE_VOL_DRIVER" in refused.value.hint
    assert (r / "a").read_text() == "old"
    pair.reader.unmount.sync()
    with pytest.raises(SetupError, match="cannot be refreshed"):
        pair.reader.mount.sync(r, follow=1)


def test_an_unmount_while_it_is_refreshed(pair: Pair) -> None:
    for number in range(200):
        (pair.w / f"{number}").write_bytes(b"old")
    r = pair.look(follow=0.01)
    for round_ in range(3):
        (pair.w / f"{round_}").write_bytes(b"new")
        pair.publish()
        list(r.iterdir())
        started = time.monotonic()
        pair.reader.unmount.sync()
        assert time.monotonic() - started < 10
        pair.reader.mount.sync(r, **pair.options)
