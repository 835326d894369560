"""flytekit's container entry point: each task a process of its own, everything on S3."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flyteplugins_vol.io import ROVolume, Volume
from tests.servers import S3Server

pytest.importorskip("flytekit", reason="needs the extra flytekit, which is for Python below 3.13")
pytestmark = [
    pytest.mark.fuse,
    pytest.mark.s3,
    pytest.mark.slow,
    pytest.mark.timeout(300),  # each starts a dozen processes that import the SDK
    pytest.mark.filterwarnings("default"),
]

tasks: Any = pytest.importorskip("tests.integrations.flytekit1.tasks")

ROOT = Path(__file__).parents[3]


class Pods:
    """A bucket, and the processes that work on it."""

    def __init__(self, server: S3Server, home: Path) -> None:
        self.server = server
        self.home = home
        self.bucket = server.new_bucket_url()
        self.count = 0
        self.environment: dict[str, str] = {}

    def variables(self, name: str) -> dict[str, str]:
        both = {"PROJECT": "p", "DOMAIN": "d", "NAME": f"tasks.{name}", "VERSION": "v1"}
        return {
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": str(self.home),
            "PYTHONPATH": str(ROOT),
            "FLYTE_AWS_ENDPOINT": self.server.endpoint,
            "FLYTE_AWS_ACCESS_KEY_ID": self.server.access_key_id,
            "FLYTE_AWS_SECRET_ACCESS_KEY": self.server.secret_access_key,
            "AWS_REGION": self.server.region,
            "FLYTE_INTERNAL_EXECUTION_ID": "e1",
            "FLYTE_INTERNAL_EXECUTION_PROJECT": "p",
            "FLYTE_INTERNAL_EXECUTION_DOMAIN": "d",
            "FLYTE_ATTEMPT_NUMBER": "0",
            **{f"FLYTE_INTERNAL_TASK_{key}": value for key, value in both.items()},
            **{f"FLYTE_INTERNAL_{key}": value for key, value in both.items()},
            **self.environment,
        }

    def run(self, task: Any, **arguments: Any) -> Any:
        """Run a task, one of `tasks` by name; its one result. Raises AssertionError with what its error.pb says."""
        from flyteidl.core import errors_pb2, literals_pb2
        from flytekit import FlyteContextManager
        from flytekit.core.type_engine import TypeEngine
        from flytekit.models.literals import LiteralMap

        task = getattr(tasks, task) if isinstance(task, str) else task
        module, _, name = task.name.rpartition(".")
        context = FlyteContextManager.current_context()
        inputs = TypeEngine.dict_to_literal_map(context, arguments, task.python_interface.inputs)
        self.count += 1
        here = f"metadata/e1/{self.count}-{name}"
        self.put(f"{here}/inputs.pb", inputs.to_flyte_idl().SerializeToString())
        command = [
            str(Path(sys.executable).parent / "pyflyte-execute"),
            "--inputs", f"{self.bucket}/{here}/inputs.pb", "--output-prefix", f"{self.bucket}/{here}",
            "--raw-output-data-prefix", f"{self.bucket}/data/x7/e1-n0-0",
            "--checkpoint-path", f"{self.bucket}/checkpoints/{self.count}", "--prev-checkpoint", '""',
            "--resolver", "flytekit.core.python_auto_container.default_task_resolver",
            "--", "task-module", module, "task-name", name,
        ]  # fmt: skip
        done = subprocess.run(command, env=self.variables(name), cwd=self.home, capture_output=True, text=True)
        error = self.get(f"{here}/error.pb")
        if error is not None:
            raise AssertionError(errors_pb2.ErrorDocument.FromString(error).error.message)
        assert done.returncode == 0, done.stdout + done.stderr
        data = self.get(f"{here}/outputs.pb")
        assert data is not None, done.stdout + done.stderr
        outputs = LiteralMap.from_flyte_idl(literals_pb2.LiteralMap.FromString(data))
        (output,) = task.python_interface.outputs.values()
        return TypeEngine.to_python_value(context, outputs.literals["o0"], output)

    def put(self, key: str, data: bytes) -> None:
        from flyteplugins_vol.store.open import open_store

        with open_store(self.bucket, self.server.options()) as store:
            store.create(key, data)

    def get(self, key: str) -> bytes | None:
        from flyteplugins_vol.store.open import open_store

        with open_store(self.bucket, self.server.options()) as store:
            return store.get(key)


@pytest.fixture
def pods(s3_server: S3Server, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Pods:
    pods = Pods(s3_server, scratch / "home")
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return pods


def test_the_contract(pods: Pods) -> None:
    base = pods.run("create_dataset")
    assert type(base) is ROVolume
    assert base.store == f"{pods.bucket}/data/p/d/volumes"
    said = {"sdk": "flytekit", "project": "p", "domain": "d", "run": "e1", "task": "tasks.create_dataset"}
    assert base.produced_by.items() >= {**said, "output": "o0"}.items()
    assert pods.run("read_dataset", vol=base) == "hello from a volume\n"
    extended = pods.run("add_file", vol=base)
    assert extended.parents == (base.locator,)
    shard = pods.run("process_shard", base=base, i=3)
    assert (shard.name, shard.message) == ("shard-3", "shard 3")
    assert pods.run("train", base=base).message == "training complete"
    locator = pods.run("publish")
    assert locator.startswith(f"{pods.bucket}/data/p/d/volumes/volumes/my-dataset-")
    assert pods.run("consume", addr=extended.locator) == 2
    assert asyncio.run(_load(locator)).message == "v1"


async def _load(locator: str) -> ROVolume:
    return await Volume.from_locator(locator)


def test_sync_tasks_and_types(pods: Pods) -> None:
    assert pods.run("read", vol=pods.run("make", text="sync")) == "sync"
    assert pods.run("read_pair", pair=pods.run("make_pair")) == "leftright"
    assert pods.run("read_model", model=pods.run("make_model")) == "livenamed"
    assert pods.run("maybe", there=False) is None


def test_failures_leave_an_error(pods: Pods, scratch: Path) -> None:
    with pytest.raises(AssertionError, match="Not a directory"):
        pods.run("fails", store=str(scratch / "broken"))
    with pytest.raises(AssertionError, match="as users do"):
        pods.run("raises")
    with pytest.raises(AssertionError, match="a volume was expected, got int"):
        pods.run("wrong")
    assert not os.path.exists(scratch / "home/.local/share/flytevol")


def test_no_secret_is_seen_from_outside(pods: Pods, scratch: Path) -> None:
    """Neither in arguments nor in files nor in logs: of the daemon, and of whatever it left."""
    secret = "another-very-secret-word"
    pods.environment = {"FLYTE_AWS_SECRET_ACCESS_KEY": secret, "FLYTE_VOL_CACHE_DIR": str(scratch / "cache")}
    assert pods.run("looks_for", secret=secret) == []
    left = [path for path in scratch.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    assert left == []
