"""Volumes wherever Flyte 2 takes a type, in local runs."""

from __future__ import annotations

import dataclasses
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flyteplugins_vol.errors import LocatorError, UsageError, VersionNotFoundError
from flyteplugins_vol.io import ROVolume, Volume
from tests.integrations.conftest import versions_in

pytestmark = [pytest.mark.fuse, pytest.mark.filterwarnings("default")]

tasks: Any = pytest.importorskip("tests.integrations.flyte2.tasks", reason="needs the extra flyte")

Run = Callable[..., Any]


def test_annotations_of_one_kind_take_values_of_the_other(run: Run) -> None:
    made, made_rw = run(tasks.make, text="one"), run(tasks.make_rw, text="two")
    assert type(made) is type(made_rw) is ROVolume
    assert [run(tasks.read_rw, made), run(tasks.read_any, made_rw), run(tasks.read, made_rw)] == ["one", "two", "two"]


def test_sync_tasks(run: Run) -> None:
    assert run(tasks.sync_parent, "in a thread") == "in a thread"


def test_lists(run: Run) -> None:
    made = run(tasks.make_list, 3)
    assert [vol.name for vol in made] == ["item-0", "item-1", "item-2"]
    assert run(tasks.read_list, made) == ["text 0", "text 1", "text 2"]


def test_dicts(run: Run) -> None:
    assert run(tasks.read_dict, run(tasks.make_dict)) == {"a": "text a", "b": "text b"}


def test_tuples_and_one_handle_returned_twice(run: Run, scratch: Path) -> None:
    first, number, again = run(tasks.make_tuple)
    assert (number, first.locator) == (7, again.locator)
    assert len(versions_in(scratch)) == 1


def test_optional(run: Run) -> None:
    assert run(tasks.make_optional, False) is None
    assert run(tasks.read_optional, run(tasks.make_optional, True)) == "text"
    assert run(tasks.read_optional) == "nothing"
    assert run(tasks.read_optional, None) == "nothing"


def test_a_version_as_default_argument(run: Run) -> None:
    made = run(tasks.make, text="by default")

    @tasks.env.task
    async def reads(vol: ROVolume = made) -> str:
        async with vol.mounted() as data:
            return (data / "file").read_text()

    assert run(reads) == "by default"


def test_unions_and_annotations_with_notes(run: Run) -> None:
    assert run(tasks.read_union, 3) == "3"
    assert run(tasks.read_union, run(tasks.make_annotated)) == "text"


def test_dataclasses_with_live_volumes(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    pair = run(tasks.make_pair)
    assert (type(pair.left), type(pair.right), pair.count) == (ROVolume, ROVolume, 3)
    assert run(tasks.read_pair, pair) == ["left", "right", "more"]
    assert "Failed to extract schema" not in caplog.text


def test_pydantic_models_with_live_volumes(run: Run) -> None:
    model = run(tasks.make_model)
    assert type(model.vol) is ROVolume
    assert run(tasks.read_model, model) == ["live", "more", "n"]


def test_models_and_dataclasses_between_tasks(run: Run) -> None:
    assert run(tasks.chain_of_models) == ["live", "more", "n", "left", "right", "more"]


@pytest.mark.logs_warnings  # nor are the volumes in the dataclass
def test_an_argument_is_committed_and_stays_mounted(run: Run, scratch: Path) -> None:
    first, second, final = run(tasks.argument_stays_mounted)
    assert (first, second) == ("before", "after")
    assert run(tasks.read, final) == "at last"
    assert len(versions_in(scratch)) == 3
    assert run(tasks.live_in_a_dataclass_as_argument) == ["left", "right"]


@pytest.mark.logs_warnings  # the fork is not returned
def test_an_argument_that_was_never_mounted(run: Run) -> None:
    assert run(tasks.argument_never_mounted) == "0 base forked"


def test_traced_steps_get_the_live_volume(run: Run) -> None:
    made = run(tasks.with_traces)
    assert run(tasks.read, made) == "text 2"


def test_equal_content_hits_the_cache(run: Run) -> None:
    tasks.CALLS.clear()
    vol = run(tasks.make, text="cache me")
    again = Volume.from_locator.sync(vol.locator)
    assert run(tasks.cached_parent, vol, again) == [1, 1]
    renamed = again.fork.sync("other").finalize.sync("other name, other message, equal files")
    assert run(tasks.cached, renamed) == 1
    assert run(tasks.cached, run(tasks.make, text="other")) == 2


def test_a_cached_volume_whose_data_is_gone(run: Run, scratch: Path) -> None:
    tasks.CALLS.clear()
    vol = run(tasks.cached_volume, "gone")
    assert run(tasks.cached_volume, "gone").locator == vol.locator
    assert tasks.CALLS == ["gone"]
    versions_in(scratch)[0].unlink()
    again = run(tasks.cached_volume, "gone")
    with pytest.raises(VersionNotFoundError, match="no version at") as caught:
        again.mount.sync()
    assert "deleted" in caught.value.hint


def test_locators_and_json_as_inputs(run: Run) -> None:
    vol = run(tasks.make, text="by locator")
    assert run(tasks.read, vol.locator) == "by locator"
    assert run(tasks.read, {"locator": vol.locator}) == "by locator"
    with pytest.raises(Exception, match="is not a locator"):
        run(tasks.read, "s3://bucket/file.txt")
    with pytest.raises(Exception, match="no version at"):
        run(tasks.read, vol.locator[:-20] + "0" * 15 + ".json")


def test_what_a_value_says(run: Run) -> None:
    vol = run(tasks.make, name="lineage")
    assert vol.stats["files"] >= 1
    assert vol.author
    assert vol.created
    said = vol.produced_by
    assert said["sdk"] == "flyte"
    assert said["task"] == "volume-types.make"
    assert said["run"]
    assert said["action"]
    record = Volume.from_locator.sync(vol.locator)
    assert record.produced_by == said
    assert (record.stats, record.content) == (vol.stats, vol.content)


def test_handles_travel_outside_of_tasks_too(run: Run) -> None:
    vol = run(tasks.make, text="plain")
    same = pickle.loads(pickle.dumps(vol))
    assert (same.locator, same.stats) == (vol.locator, vol.stats)
    model = tasks.Model(vol=vol)
    again = tasks.Model.model_validate_json(model.model_dump_json())
    assert again.vol.locator == vol.locator
    assert model.model_dump()["vol"]["locator"] == vol.locator
    assert tasks.Model(vol=vol.locator).vol.content == vol.content
    assert json.loads(model.model_dump_json())["vol"]["locator"] == vol.locator
    with pytest.raises(ValueError, match="a volume was expected"):
        tasks.Model(vol=3)
    assert dataclasses.replace(tasks.Pair(vol), count=4).left is vol
    assert "locator" in tasks.Model.model_json_schema()["properties"]["vol"]["properties"]


def test_serialising_commits_nothing_outside_of_tasks(scratch: Path) -> None:
    vol = Volume.new("plain")
    (vol.mount.sync() / "file").write_text("x")
    with pytest.raises(Exception, match="changes that no version has"):
        tasks.Model(vol=vol).model_dump_json()
    with pytest.raises(UsageError, match="commit") as caught:
        vol._serialize()
    assert "finalize" in caught.value.hint
    assert versions_in(scratch) == []
    writer = pickle.loads(pickle.dumps(vol))
    assert (writer.name, writer.id, writer.mount_path) == ("plain", vol.id, None)
    vol.finalize.sync()
    assert tasks.Model(vol=vol).model_dump_json()


def test_types_are_recognised_without_the_code(run: Run) -> None:
    from flyte.types import TypeEngine

    for annotation in (ROVolume, Volume, list[ROVolume], dict[str, ROVolume]):
        guessed = TypeEngine.guess_python_type(TypeEngine.to_literal_type(annotation))
        assert "ROVolume" in str(guessed)
    guessed = TypeEngine.guess_python_type(TypeEngine.to_literal_type(tasks.Pair))
    assert guessed.__dataclass_fields__["left"].type is not None


def test_malformed_payloads() -> None:
    from flyteplugins_vol.io.payload import volume_from

    for value in ({}, {"name": "x"}, 3, "{", "[]", '{"locator": 3}'):
        with pytest.raises(LocatorError):
            volume_from(value)
