"""Flyte 1 as a host of volumes: see `flyteplugins_vol.io.hosts`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from flyteplugins_vol.errors import VolumeError
from flyteplugins_vol.integrations.flytekit1 import mounts
from flyteplugins_vol.integrations.places import volumes_below
from flyteplugins_vol.integrations.running import in_common, the_same
from flyteplugins_vol.integrations.values import sdk
from flyteplugins_vol.io.hosts import Boundary, Drop
from flyteplugins_vol.io.volume import Volume

_ATTEMPT = "FLYTE_ATTEMPT_NUMBER"


class FlytekitHost:
    """The SDK ``flytekit``."""

    def store(self) -> str | None:
        """Beside the raw data of the task's runs. A local run that has no bucket keeps to the user's own store."""
        return the_same((_store(context) for _, context in _tasks()), "the store of volumes")

    def store_config(self, scheme: str) -> Mapping[str, str]:
        """``flytekit.configuration.DataConfig``: a configuration file, or ``FLYTE_AWS_*`` and their like."""
        tasks = _tasks()
        config = (tasks[0][1] if tasks else _context()).file_access.data_config
        found: Mapping[str, Any] = {}
        if scheme == "s3":
            found = {
                "endpoint": config.s3.endpoint,
                "access_key_id": config.s3.access_key_id,
                "secret_access_key": config.s3.secret_access_key,
                "addressing_style": getattr(config.s3, "addressing_style", None),
            }
        elif scheme in ("az", "abfs", "abfss"):
            names = ("account_name", "account_key", "tenant_id", "client_id", "client_secret")
            found = {name: getattr(config.azure, name, None) for name in names}
        return {name: str(value) for name, value in found.items() if value and value != "auto"}

    def produced_by(self) -> Mapping[str, Any] | None:
        return in_common(_producer(name, context) for name, context in _tasks())

    def boundary(self) -> Boundary | None:
        """Arguments and results look alike to the type engine: a volume that a task hands over is always finalized."""
        return "result" if mounts.is_converting() and _in_task(_context()) else None

    def mounted(self, volume: Volume, drop: Drop) -> None:
        mounts.belongs_to_task(volume, drop)

    def as_error(self, error: VolumeError) -> Exception | None:
        """Any exception will do: flytekit puts its message into ``error.pb``."""
        return None


def _store(context: Any) -> str | None:
    raw_data: str = context.file_access.raw_output_prefix or ""
    if "://" not in raw_data or raw_data.startswith("file://"):
        return None
    execution = context.user_space_params.execution_id
    return volumes_below(raw_data, execution.name, (execution.project, execution.domain))


def _producer(name: str | None, context: Any) -> dict[str, str]:
    parameters = context.user_space_params
    execution, task = parameters.execution_id, parameters.task_id
    said = {
        "project": execution.project,
        "domain": execution.domain,
        "run": execution.name,
        # what a local run says of its task is "local"
        "task": (context.execution_state.is_local_execution() and name) or task.name,
        "task_version": task.version,
        "attempt": os.environ.get(_ATTEMPT),
        "output": mounts.output_name(),
    }
    return {"sdk": "flytekit", **{name: str(value) for name, value in said.items() if value}}


def _tasks() -> list[tuple[str | None, Any]]:
    """Name and context of the task of this thread; of a thread without one, of all tasks that it may be of."""
    context = _context()
    if _in_task(context):
        return [(mounts.task_name(), context)]
    return [(task.name, task.context) for task in mounts.TASKS.running()]


def _context() -> Any:
    return sdk("flytekit.core.context_manager").FlyteContextManager.current_context()


def _in_task(context: Any) -> bool:
    return context.execution_state is not None and context.execution_state.mode is not None


HOST = FlytekitHost()
