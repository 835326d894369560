"""Volumes in tasks of flytekit, in local runs."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from flyteplugins_vol.io import ROVolume, Volume
from tests.conftest import fuse_mounts
from tests.integrations.conftest import sessions_in, versions_in

pytest.importorskip("flytekit", reason="needs the extra flytekit, which is for Python below 3.13")
pytestmark = [pytest.mark.fuse, pytest.mark.filterwarnings("default"), pytest.mark.usefixtures("scratch")]

tasks: Any = pytest.importorskip("tests.integrations.flytekit1.tasks")


def test_the_contract_under_eager(scratch: Path) -> None:
    assert asyncio.run(tasks.main()) == "hello from a volume\n"
    base = asyncio.run(tasks.create_dataset())
    assert type(base) is ROVolume
    extended = asyncio.run(tasks.add_file(vol=base))
    assert (extended.message, extended.parents) == ("add extra.txt", (base.locator,))
    shards = asyncio.run(tasks.fan_out(base=base))
    assert [shard.name for shard in shards] == [f"shard-{i}" for i in range(8)]
    trained = asyncio.run(tasks.train(base=base))
    assert trained.message == "training complete"
    assert asyncio.run(tasks.consume(addr=asyncio.run(tasks.publish()))) == 0
    assert asyncio.run(tasks.consume(addr=trained.locator)) == 2


def test_sync_tasks_in_a_workflow(scratch: Path) -> None:
    first, second, locator = tasks.flow(text="sync")
    assert (first, second) == ("sync", "sync")
    assert Volume.from_locator.sync(locator).name == "made"


def test_dynamic_workflows() -> None:
    assert [vol.message for vol in tasks.dynamic_flow()] == ["shard 0", "shard 1", "shard 2"]


def test_mapped_tasks() -> None:
    assert [tasks.text_of(vol) for vol in tasks.map_flow()] == ["text 0", "text 1", "text 2"]


def test_dataclasses_and_models_with_live_volumes(caplog: pytest.LogCaptureFixture) -> None:
    assert tasks.models() == ("leftright", "livenamed", "left")
    assert "Failed to extract schema" not in caplog.text


def test_a_model_that_a_task_serialises_itself_publishes_nothing(scratch: Path) -> None:
    refused, vol = tasks.logs_a_model()
    assert "serialise what commit() or finalize() returns" in refused
    assert tasks.text_of(vol) == "after"
    assert len(versions_in(scratch)) == 1


def test_optional() -> None:
    assert tasks.maybe(there=False) is None
    assert tasks.text_of(tasks.maybe(there=True)) == "there"


def test_a_version_as_default_argument() -> None:
    from flytekit import task

    made = tasks.make(text="by default")

    @task
    def reads(vol: ROVolume = made) -> str:
        return tasks.text_of(vol)

    assert reads() == "by default"


def test_equal_versions_hit_the_cache() -> None:
    from flytekit.core.local_cache import LocalTaskCache

    LocalTaskCache.initialize()
    LocalTaskCache.clear()
    tasks.CALLS.clear()
    locator = tasks.make(text="cache me").locator
    assert tasks.cached_flow(locator=locator) == (1, 1)
    assert [locator] == tasks.CALLS


def test_two_empty_volumes_are_two(scratch: Path) -> None:
    """flytekit keeps a literal for each pickle: equal ones would make it skip the second commit."""
    volumes = [Volume.new("twin") for _ in range(2)]
    assert len({tasks.takes_a_volume(vol=volume) for volume in volumes}) == 2
    growing = Volume.new("growing")
    fork = growing
    locators = set()
    for number in range(3):
        (fork.mount.sync() / "file").write_text(str(number))
        locators.add(tasks.takes_a_volume(vol=fork))
        fork = fork.fork.sync()
    assert len(locators) == 3


def test_failures(scratch: Path) -> None:
    with pytest.raises(Exception, match="Not a directory"):
        tasks.fails(store=str(scratch / "broken"))
    (left,) = sessions_in(scratch)  # kept: `flytevol recover` has it
    assert left.name.startswith("fails-")
    shutil.rmtree(left)
    with pytest.raises(Exception, match="a volume was expected, got int"):
        tasks.wrong()
    with pytest.raises(RuntimeError, match="as users do"):
        tasks.raises()
    with pytest.raises(RuntimeError, match="as users do"):
        tasks.raises_unmounted()
    assert fuse_mounts(scratch) == []
    assert sessions_in(scratch) == []
    assert versions_in(scratch) == []


@pytest.mark.logs_warnings
def test_mounts_end_with_their_task(scratch: Path) -> None:
    assert tasks.forgets(vol=tasks.make(text="x")) == 2
    assert fuse_mounts(scratch) == []


@pytest.mark.logs_warnings
def test_so_do_sessions_without_a_mount(scratch: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert tasks.forgets_unmounted() == 2
    assert sessions_in(scratch) == []
    assert "volume forgotten was neither returned nor finalized" in caplog.text


def test_versions_say_what_made_them() -> None:
    first, pair = tasks.two()
    said = [vol.produced_by for vol in (first, pair.left, pair.right)]
    assert [made["task"] for made in said] == ["tests.integrations.flytekit1.tasks.two"] * 3
    assert [made.get("output") for made in said] == ["o0", "o1", None]  # the last was finalized before it was returned


def test_types_are_recognised_without_the_code() -> None:
    from flytekit.core.type_engine import TypeEngine

    assert TypeEngine.guess_python_type(TypeEngine.to_literal_type(Volume)) is ROVolume
    guessed = TypeEngine.guess_python_type(TypeEngine.to_literal_type(tasks.Pair))
    assert "left" in guessed.__dataclass_fields__
