"""The contract through the container's entry point: every leaf task a process of its own, everything on S3."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from flyteplugins_vol.io import ROVolume, StoreOptions, Volume

pytestmark = [
    pytest.mark.fuse,
    pytest.mark.s3,
    pytest.mark.slow,
    pytest.mark.timeout(300),  # each starts a dozen processes that import an SDK
    pytest.mark.filterwarnings("default"),
]

contract: Any = pytest.importorskip("tests.integrations.flyte2.contract", reason="needs the extra flyte")
tasks: Any = pytest.importorskip("tests.integrations.flyte2.tasks")

from tests.integrations.flyte2.pods import Pods, PodError
from tests.servers import S3Server


@pytest.fixture
def pods(s3_server: S3Server, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Pods:
    import flyte

    bucket = s3_server.new_bucket_url()
    pods = Pods(s3_server, bucket, scratch / "home")
    for name, value in pods.variables().items():
        if name.startswith(("FLYTE_AWS", "AWS_")):
            monkeypatch.setenv(name, value)
    flyte.init()
    return pods


def options(pods: Pods) -> StoreOptions:
    return pods.server.options()


async def test_leaves_hand_volumes_over(pods: Pods) -> None:
    dataset = await pods.run(contract.create_dataset)
    assert type(dataset) is ROVolume
    assert dataset.store == f"{pods.bucket}/raw/org/flyte-project/development/volumes"
    assert await pods.run(contract.read_dataset, dataset) == "hello from a volume\n"
    extended = await pods.run(contract.add_file, dataset)
    assert (extended.parents, extended.store) == ((dataset.locator,), dataset.store)
    said = extended.produced_by
    wanted = {
        "sdk": "flyte", "org": "org", "project": "flyte-project", "domain": "development", "run": "run1",
        "action": pods.started[-1], "task": "volumes-demo.add_file", "task_version": "v1",
    }  # fmt: skip
    assert said.items() >= wanted.items()
    first = dataset.produced_by
    assert (first["action"], first.get("output")) == (pods.started[0], "o0")


async def test_a_locator_is_good_in_any_run_and_project(pods: Pods) -> None:
    locator = await pods.run(contract.publish)
    assert locator.startswith(f"{pods.bucket}/raw/org/flyte-project/development/volumes/volumes/my-dataset-")
    pods.project, pods.run_name = "another-project", "another-run"
    assert await pods.run(contract.consume, locator) == 0
    vol = await Volume.from_locator(locator)  # and outside of tasks
    branch = await vol.fork()
    assert branch.store == vol.store


def test_the_whole_graph_with_a_process_for_each_leaf(pods: Pods, scratch: Path) -> None:
    import flyte

    def run(task: Any, *args: Any) -> Any:
        return flyte.with_runcontext(mode="local", raw_data_path=f"{pods.bucket}/raw").run(task, *args).outputs()[0]

    with pods.as_workers():
        assert run(contract.main) == "hello from a volume\n"
        base = run(contract.create_dataset)
        shards = run(contract.fan_out, base)
    assert len(pods.started) == len(set(pods.started)) == 2 + 1 + 8
    assert [shard.name for shard in shards] == [f"shard-{i}" for i in range(8)]
    assert len({shard.produced_by["action"] for shard in shards}) == 8
    with shards[3].mounted() as path:
        assert sorted(p.name for p in path.iterdir()) == ["greeting.txt", "shard-3.bin"]


async def test_types_with_live_volumes(pods: Pods) -> None:
    pair = await pods.run(tasks.make_pair)
    assert await pods.run(tasks.read_pair, pair) == ["left", "right", "more"]
    model = await pods.run(tasks.make_model)
    assert await pods.run(tasks.read_model, model) == ["live", "more", "n"]
    made = await pods.run(tasks.make_list, 2)
    assert await pods.run(tasks.read_list, made) == ["text 0", "text 1"]
    assert await pods.run(tasks.read, made[0].locator) == "text 0"


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("commit_fails", "StoreError", "Not a directory"),
        ("commit_fails_in_dataclass", "StoreError", "Not a directory"),
        ("commit_fails_in_optional", "DataValidationError", "Not a directory"),
        ("commit_fails_in_model", "StoreError", "Not a directory"),
        ("raises", "RuntimeError", "as users do"),
        ("wrong", "DataValidationError", "a volume was expected, got int"),
    ],
)
async def test_failures_leave_an_error(pods: Pods, scratch: Path, name: str, code: str, message: str) -> None:
    arguments = {} if name in ("raises", "wrong") else {"store": str(scratch / "broken")}
    with pytest.raises(PodError, match=message) as caught:
        await pods.run(getattr(tasks, name), **arguments)
    assert caught.value.code == code


async def test_killed_in_the_middle_and_resumed_from_its_last_commit(pods: Pods) -> None:
    base = await pods.run(contract.create_dataset)
    pods.environment["FLYTE_VOL_TEST_SLOW_EPOCHS"] = "0.05"
    prefix = f"{pods.bucket}/metadata/run1/killed"
    from flyte._internal.runtime import convert, io

    await io.upload_inputs(
        await convert.convert_from_native_to_inputs(contract.train.native_interface, base), f"{prefix}/inputs.pb"
    )
    command = pods.command(contract.train, f"{prefix}/inputs.pb", prefix, "killed")
    with subprocess.Popen(command, env=pods.variables(), cwd=pods.home, start_new_session=True) as process:
        found = None
        deadline = time.monotonic() + 60
        while found is None or not found.message.startswith("epoch 2"):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.1)
            found = await last_of("training-run", base.store)
        os.killpg(process.pid, signal.SIGKILL)
    last = await last_of("training-run", base.store)
    assert last.produced_by["action"] == "killed"
    del pods.environment["FLYTE_VOL_TEST_SLOW_EPOCHS"]
    done = await pods.run(contract.train, last)
    with done.mounted() as path:
        epochs = 1 + int(last.message.split()[1])
        assert len((path / "weights").read_text().splitlines()) == epochs + 100


async def last_of(name: str, store: str) -> ROVolume | None:
    from flyteplugins_vol.errors import VersionNotFoundError

    try:
        return await (await Volume.from_name(name, store)).finalize()
    except VersionNotFoundError:
        return None


async def test_no_secret_is_seen_from_outside(pods: Pods, scratch: Path) -> None:
    """Neither in arguments nor in files nor in logs: of the daemon, and of whatever it left."""
    pods.environment["FLYTE_AWS_SECRET_ACCESS_KEY"] = secret = "a-very-secret-word"
    pods.environment["FLYTE_VOL_CACHE_DIR"] = str(scratch / "cache")
    assert await pods.run(tasks.looks_for, secret) == []
    left = [path for path in scratch.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    assert left == []
