"""Tasks as a cluster runs them: each in a process of its own, started by the container's entry point ``a0``, over S3.

There is no control plane, so a task that calls others runs in this process: `Pods.as_workers` makes the local
controller start one process for each leaf.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import flyte
import flyte.storage
from flyte._internal.runtime import convert, io
from flyte._internal.runtime.convert import Inputs

from tests.servers import S3Server

ROOT = Path(__file__).parents[3]


@dataclass
class Pods:
    """A bucket, and the processes that were started. ``environment`` is all that a process sees of this machine."""

    server: S3Server
    bucket: str
    home: Path
    environment: dict[str, str] = field(default_factory=dict)
    started: list[str] = field(default_factory=list)
    project: str = "flyte-project"
    run_name: str = "run1"

    def command(self, task: Any, inputs: str, outputs: str, name: str) -> list[str]:
        module, attribute = task.func.__module__, task.func.__name__
        return [
            str(Path(sys.executable).parent / "a0"),
            "--inputs", inputs, "--outputs-path", outputs, "--version", "v1",
            "--raw-data-path", f"{self.bucket}/raw/ab/{self.run_name}/{name}",
            "--checkpoint-path", f"{self.bucket}/checkpoints/{name}", "--prev-checkpoint", "",
            "--run-base-dir", f"{self.bucket}/metadata/{self.run_name}", "--run-name", self.run_name, "--name", name,
            "--project", self.project, "--domain", "development", "--org", "org",
            "--resolver", "flyte._internal.resolvers.default.DefaultTaskResolver",
            "mod", module, "instance", attribute,
        ]  # fmt: skip

    def variables(self) -> dict[str, str]:
        """No credentials but Flyte's own, no cache and no store of the machine's."""
        return {
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": str(self.home),
            "PYTHONPATH": str(ROOT),
            "FLYTE_AWS_ENDPOINT": self.server.endpoint,
            "FLYTE_AWS_ACCESS_KEY_ID": self.server.access_key_id,
            "FLYTE_AWS_SECRET_ACCESS_KEY": self.server.secret_access_key,
            "AWS_REGION": self.server.region,
            "_U_EP_OVERRIDE": "127.0.0.1:9",
            "_U_INSECURE": "1",
            "DO_NOT_TRACK": "1",
            **self.environment,
        }

    async def dispatch(self, task: Any, proto_inputs: Inputs, name: str) -> tuple[Any, Any]:
        """Run a task in a process; its outputs or its error, as protocol buffers."""
        prefix = f"{self.bucket}/metadata/{self.run_name}/{name}"
        await io.upload_inputs(proto_inputs, f"{prefix}/inputs.pb")
        self.started.append(name)
        command = self.command(task, f"{prefix}/inputs.pb", prefix, name)
        process = await asyncio.create_subprocess_exec(
            *command, env=self.variables(), cwd=self.home, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        log, _ = await process.communicate()
        if await flyte.storage.exists(io.error_path(prefix)):
            return None, await io.load_error(io.error_path(prefix))
        assert process.returncode == 0, f"a0 ended with {process.returncode} and left no error.pb\n{log.decode()}"
        return await io.load_outputs(io.outputs_path(prefix)), None

    async def run(self, task: Any, *args: Any, **kwargs: Any) -> Any:
        """Run one leaf task; its result. Raises AssertionError with what its error.pb says."""
        proto_inputs = await convert.convert_from_native_to_inputs(task.native_interface, *args, **kwargs)
        outputs, error = await self.dispatch(task, proto_inputs, uuid4().hex[:8])
        if error is not None:
            raise PodError(error)
        return await convert.convert_outputs_to_native(task.native_interface, outputs)

    @contextmanager
    def as_workers(self) -> Iterator[None]:
        """Local runs send their leaves to processes."""
        from flyte._internal.controllers import _local_controller as controller

        in_process = controller.direct_dispatch

        async def dispatch(task: Any, *, action: Any, inputs: Any = None, **rest: Any) -> Any:
            if _calls_tasks(task):
                return await in_process(task, action=action, inputs=inputs, **rest)
            outputs, error = await self.dispatch(task, inputs, action.name)
            return outputs, error and convert.Error(error)

        controller.direct_dispatch = dispatch
        try:
            yield
        finally:
            controller.direct_dispatch = in_process


class PodError(Exception):
    """What an ``error.pb`` says: ``code``, ``kind`` and the message."""

    def __init__(self, error: Any) -> None:
        error = getattr(error, "err", error)
        super().__init__(error.message)
        self.code = error.code
        self.kind = error.kind


def _calls_tasks(task: Any) -> bool:
    """Whether the task's body names other tasks of its module."""
    module = sys.modules[task.func.__module__]
    tasks = {name for name, value in vars(module).items() if isinstance(value, type(task))}
    return bool(tasks & set(_names(task.func.__code__)))


def _names(code: Any) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if inspect.iscode(constant):
            yield from _names(constant)


def processes_with(text: str) -> list[int]:
    """Processes that have the text in their arguments or in their environment."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        for what in ("cmdline", "environ"):
            try:
                if text in Path(f"/proc/{pid}/{what}").read_bytes().decode(errors="replace"):
                    found.append(int(pid))
            except OSError:
                pass
    return found
