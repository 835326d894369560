"""Refreshing with options: a part of a volume, a mount that follows, and what is warmed again."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from flyteplugins_vol.errors import UsageError
from tests.io.two_mounts import Pair
from tests.waiting import wait_for

pytestmark = pytest.mark.fuse

MIB = 1 << 20


def test_a_part_of_a_volume(pair: Pair) -> None:
    part = pair.w / "some" / "part"
    part.mkdir(parents=True)
    (part / "a").write_text("old")
    (pair.w / "beside").write_text("x")
    r = pair.look(subdir="some/part")
    assert os.listdir(r) == ["a"]
    assert not (r / "b").exists()
    held = (r / "a").open("rb", buffering=0)

    (part / "a").write_text("new!")
    (part / "b").write_text("b")
    pair.step()
    assert {name: (r / name).read_text() for name in os.listdir(r)} == {"a": "new!", "b": "b"}

    os.rename(part, pair.w / "some" / "before")  # another directory in its place
    part.mkdir()
    (part / "c").write_text("c")
    pair.step()
    assert {name: (r / name).read_text() for name in os.listdir(r)} == {"c": "c"}
    assert not (r / "a").exists()
    assert held.read() == b"old"
    held.close()

    os.rename(part, pair.w / "elsewhere")
    shown = pair.reader.locator
    pair.publish()
    with pytest.raises(UsageError, match="subdir"):
        pair.reader.refresh.sync()
    assert pair.reader.locator == shown
    assert os.listdir(r) == ["c"]


def test_a_mount_that_follows(pair: Pair) -> None:
    (pair.w / "a").write_text("old")
    r = pair.look(follow=0.1)
    assert (r / "a").read_text() == "old"
    (pair.w / "a").write_text("new!")
    locator = pair.publish().locator
    wait_for(lambda: (r / "a").read_text() == "new!")
    assert pair.reader.locator != locator  # a handle learns of it when it is asked
    assert pair.reader.refresh.sync()
    assert pair.reader.locator == locator
    refs = pair.world.root / "store" / "volumes"
    shutil.move(refs, pair.world.root / "away")
    log = Path(pair.reader.status()["log_path"])
    wait_for(lambda: "the one before stays" in log.read_text())
    time.sleep(0.5)
    assert log.read_text().count("the one before stays") == 1
    shutil.move(pair.world.root / "away", refs)
    (pair.w / "a").write_text("newest")
    pair.publish()
    wait_for(lambda: (r / "a").read_text() == "newest")
    with pytest.raises(UsageError, match="follow=0 is not positive"):
        pair.world.load(locator).mount.sync(pair.world.path("never"), follow=0)


def test_what_is_warmed_is_warmed_again(pair: Pair) -> None:
    (pair.w / "data").write_bytes(os.urandom(3 * MIB))
    pair.look(warmup=("/",))
    (pair.w / "data").write_bytes(os.urandom(5 * MIB))
    pair.publish()
    fetched = pair.reader.status()["fetched_bytes"]
    assert pair.reader.refresh.sync()
    wait_for(lambda: pair.reader.status()["fetched_bytes"] >= fetched + 5 * MIB)
