"""Flyte 2 as a host of volumes: see `flyteplugins_vol.io.hosts`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from flyteplugins_vol.errors import ConflictError, UsageError, VolumeError
from flyteplugins_vol.integrations.flyte2 import context, mounts
from flyteplugins_vol.integrations.places import volumes_below
from flyteplugins_vol.integrations.running import in_common, the_same
from flyteplugins_vol.integrations.values import sdk
from flyteplugins_vol.io.hosts import Boundary, Drop
from flyteplugins_vol.io.volume import Volume

_ATTEMPT = "FLYTE_ATTEMPT_NUMBER"


class FlyteHost:
    """The SDK ``flyte``."""

    def store(self) -> str | None:
        """Beside the raw data of the task's runs. A local run that has no bucket keeps to the user's own store."""
        return the_same(map(_store, context.task_contexts()), "the store of volumes")

    def store_config(self, scheme: str) -> Mapping[str, str]:
        """``flyte.init(storage=…)`` or the variables ``FLYTE_AWS_*`` and their like."""
        kwargs: dict[str, Any] = sdk("flyte.storage").get_configured_fsspec_kwargs("abfs" if scheme == "az" else scheme)
        config: dict[str, Any] = dict(kwargs.get("config") or {})
        if "virtual_hosted_style_request" in config:
            config["addressing_style"] = "virtual" if config.pop("virtual_hosted_style_request") else "path"
        if kwargs.get("region"):
            config.setdefault("region", kwargs["region"])
        return {name: _text(value) for name, value in config.items() if value not in (None, "")}

    def produced_by(self) -> Mapping[str, Any] | None:
        return in_common(map(_producer, context.task_contexts()))

    def boundary(self) -> Boundary | None:
        return context.boundary()

    def mounted(self, volume: Volume, drop: Drop) -> None:
        tctx = context.task_context()
        key = context.key_of(context.action_of(tctx)) if tctx is not None else None
        late = context.TASKS.add(key, volume, drop)
        if late is not None:
            mounts.end_late(late)

    def as_error(self, error: VolumeError) -> Exception | None:
        """Only the SDK's own errors end a task with a message, where its result is being converted."""
        return sdk_error(error) if context.task_context() is not None else None


def _store(tctx: Any) -> str | None:
    raw_data = tctx.raw_data_path.path or ""
    if "://" not in raw_data or raw_data.startswith("file://"):
        return None
    action = context.action_of(tctx)
    return volumes_below(raw_data, action.run_name, (action.org, action.project, action.domain))


def _producer(tctx: Any) -> dict[str, str]:
    action = context.action_of(tctx)
    task = context.TASKS.find(context.key_of(action))
    said = {
        "org": action.org,
        "project": action.project,
        "domain": action.domain,
        "run": action.run_name,
        "action": action.name,
        "task": task.name if task is not None else None,
        "task_version": tctx.version,
        "attempt": os.environ.get(_ATTEMPT),
        "output": context.output_name(),
    }
    return {"sdk": "flyte", **{name: str(value) for name, value in said.items() if value not in (None, "")}}


def sdk_error(error: VolumeError) -> Exception:
    """The error of ``flyte`` with our message: the user's fault if the call was wrong, else the system's."""
    errors = sdk("flyte.errors")
    users = isinstance(error, (UsageError, ConflictError))
    return (errors.RuntimeUserError if users else errors.RuntimeSystemError)(type(error).__name__, str(error))


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


HOST = FlyteHost()
