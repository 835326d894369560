"""The contract's examples in local runs of Flyte 2, as they are written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flyteplugins_vol.io import ROVolume, Volume
from tests.integrations.conftest import versions_in

pytestmark = [pytest.mark.fuse, pytest.mark.filterwarnings("default")]

contract: Any = pytest.importorskip("tests.integrations.flyte2.contract", reason="needs the extra flyte")

Run = Callable[..., Any]


def files_of(volume: ROVolume) -> dict[str, str]:
    with volume.mounted() as path:
        return {str(p.relative_to(path)): p.read_text() for p in sorted(path.rglob("*")) if p.is_file()}


def test_create_and_read(run: Run) -> None:
    assert run(contract.main) == "hello from a volume\n"


def test_a_returned_writer_is_published_and_the_next_task_reads_it(run: Run, scratch: Path) -> None:
    dataset = run(contract.create_dataset)
    assert type(dataset) is ROVolume
    assert dataset.name == "my-dataset"
    assert len(versions_in(scratch)) == 1
    assert run(contract.read_dataset, dataset) == "hello from a volume\n"


def test_finalize_with_a_message(run: Run) -> None:
    assert run(contract.create_with_a_message).message == "initial dataset"


def test_update_by_forking(run: Run) -> None:
    dataset = run(contract.create_dataset)
    extended = run(contract.add_file, dataset)
    assert (extended.name, extended.message) == ("my-dataset-v2", "add extra.txt")
    assert extended.parents == (dataset.locator,)
    assert files_of(extended) == {"greeting.txt": "hello from a volume\n", "extra.txt": "added in a later run\n"}
    assert files_of(dataset) == {"greeting.txt": "hello from a volume\n"}


def test_eight_shards_at_once(run: Run) -> None:
    base = run(contract.create_dataset)
    shards = run(contract.fan_out, base)
    assert [shard.name for shard in shards] == [f"shard-{i}" for i in range(8)]
    assert {shard.parents for shard in shards} == {(base.locator,)}
    assert files_of(shards[5])["shard-5.bin"] == "\x05" * 1000


def test_checkpoints(run: Run, scratch: Path) -> None:
    base = run(contract.create_dataset)
    trained = run(contract.train, base)
    assert trained.message == "training complete"
    assert len(files_of(trained)["weights"].splitlines()) == 100
    assert len(versions_in(scratch)) == 1 + 10 + 1
    messages = []
    while trained.name == "training-run":
        messages.append(trained.message)
        trained = Volume.from_locator.sync(trained.parents[0])
    assert messages == ["training complete", *(f"epoch {epoch}" for epoch in range(90, -1, -10))]


def test_a_locator_across_runs(run: Run) -> None:
    locator = run(contract.publish)
    assert locator.startswith("file:///")
    assert run(contract.consume, locator) == 0
    dataset = run(contract.create_dataset)
    assert run(contract.consume, dataset.locator) == 1


def test_tuning(run: Run, scratch: Path) -> None:
    assert files_of(run(contract.tuned, str(scratch / "data"))) == {"greeting.txt": "tuned\n"}
