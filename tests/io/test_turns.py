"""Several threads use one handle: it has one mount, and none that nobody ends."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from flyteplugins_vol.errors import AlreadyMountedError, HandleClosedError
from tests.conftest import fuse_mounts
from tests.io.conftest import World

pytestmark = pytest.mark.fuse


@pytest.mark.parametrize("writable", [False, True])
async def test_of_two_mounts_at_once_one_is_refused(world: World, writable: bool) -> None:
    volume = world.new()
    if not writable:
        volume = world.keep(await volume.finalize())
    outcomes = await asyncio.gather(volume.mount(), volume.mount(), return_exceptions=True)
    (path,) = (outcome for outcome in outcomes if isinstance(outcome, Path))
    (refusal,) = (outcome for outcome in outcomes if not isinstance(outcome, Path))
    assert isinstance(refusal, AlreadyMountedError)
    assert fuse_mounts(world.root) == [str(path)]
    await volume.abandon()
    assert fuse_mounts(world.root) == []


async def test_a_volume_that_is_finalized_while_it_is_mounted(world: World) -> None:
    volume = world.new()
    mounted, final = await asyncio.gather(volume.mount(), volume.finalize(), return_exceptions=True)
    assert isinstance(mounted, (Path, HandleClosedError))  # whichever came first
    assert (await volume.finalize()).locator == final.locator
    assert fuse_mounts(world.root) == []


async def test_a_volume_that_is_abandoned_while_it_is_mounted(world: World) -> None:
    volume = world.new()
    mounted, _ = await asyncio.gather(volume.mount(), volume.abandon(), return_exceptions=True)
    assert isinstance(mounted, (Path, HandleClosedError))  # whichever came first
    assert fuse_mounts(world.root) == []
