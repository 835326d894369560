"""The volumes that a Flyte run produced: a local run's from its store on this machine, else the cluster's.

Flyte is imported when this is asked, by name: the explorer does without it.
"""

from __future__ import annotations

import ast
import asyncio
import importlib
import inspect
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple, cast

from flyteplugins_vol.errors import LocatorError, SetupError, UsageError, VolumeError
from flyteplugins_vol.history.record import parse_locator

_MOST_ACTIONS = 500
_MOST_SHOWN = 20
_DEEPEST = 12
_LOCATOR = re.compile(r"[a-z][a-z0-9+.-]*://[^\s\"']+/versions/[0-9]{8,16}-[0-9a-f]{40}\.json")


class Output(NamedTuple):
    """A volume in an action's output; ``name`` leads to it: ``o0``, ``o1[2]``, ``o0.weights``."""

    action: str
    name: str
    locator: str


def volume_of_run(config: Any, run: str, action: str | None, op_name: str | None) -> str:
    """Locator of the volume that a run, or one of its actions, produced.

    ``config`` is what Flyte's command line hands to its plug-ins. Raises `UsageError`, with the candidates if several
    are meant, and `SetupError` if Flyte is missing or cannot be asked.
    """
    found = _local(run, action)
    if found is None:
        found = _remote(config, run, action)
    return choose(found, f"action {action} of run {run}" if action else f"run {run}", op_name)


def choose(found: Iterable[Output], whose: str, op_name: str | None) -> str:
    """The one that is meant."""
    outputs = list(found)
    named = [
        item for item in outputs if op_name is None or op_name in (item.name, item.name.split("[")[0].split(".")[0])
    ]
    locators = {item.locator: item for item in named}
    if len(locators) == 1:
        return next(iter(locators))
    shown = [f"{item.action} {item.name}: {item.locator}" for item in list(locators.values())[:_MOST_SHOWN]]
    if locators:
        raise UsageError(
            "\n".join([f"{len(locators)} volumes are outputs of {whose}:", *(f"  {line}" for line in shown)]),
            hint="name the action, and the output with --op-name",
        )
    names = ", ".join(sorted({item.name for item in outputs}))
    raise UsageError(
        f"{whose} has no volume {f'named {op_name!r} ' if op_name else ''}among its outputs",
        hint=f"its volumes are {names}" if names else "has it ended? flyte get action shows what a run did",
    )


def run_url(run: str) -> str | None:
    """The run's page, if Flyte is installed and configured here; None for anything that goes wrong."""
    try:
        _module("flyte").init_from_config()
        return str(_module("flyte.remote").Run.get(name=run).url)
    except Exception:  # a courtesy: whatever Flyte says, the name alone does as well
        return None


def volumes_in(value: Any, name: str, depth: int = 0) -> Iterator[tuple[str, str]]:
    """``(name, locator)`` of every volume in a value: a handle, its payload, JSON of it, or what holds them."""
    if depth > _DEEPEST:
        return
    if isinstance(value, str):
        yield from _in_text(value, name, depth)
    elif isinstance(value, Mapping):
        fields = cast("Mapping[str, Any]", value)
        if isinstance(fields.get("locator"), str):
            yield from _in_text(fields["locator"], name, depth)
            return
        for key, item in fields.items():
            yield from volumes_in(item, f"{name}.{key}" if name else str(key), depth + 1)
    elif isinstance(value, list | tuple | set):
        for number, item in enumerate(cast("Iterable[Any]", value)):
            yield from volumes_in(item, f"{name}[{number}]", depth + 1)
    elif isinstance(locator := getattr(value, "locator", None), str):
        yield name, locator
    elif hasattr(value, "__dict__") and not isinstance(value, type):
        for key, item in cast("dict[str, Any]", vars(value)).items():
            yield from volumes_in(item, f"{name}.{key}", depth + 1)


def _in_text(text: str, name: str, depth: int) -> Iterator[tuple[str, str]]:
    """A locator, or a value written down: local runs keep JSON inside of Python's notation."""
    if text.lstrip().startswith(("{", "[", "(")):
        for parse in (json.loads, ast.literal_eval):
            try:
                yield from volumes_in(parse(text), name, depth + 1)
                return
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
        for locator in _LOCATOR.findall(text):  # among what neither can read
            yield name or "output", locator
    elif "/versions/" in text:
        try:
            yield name, str(parse_locator(text))
        except LocatorError:
            return


def _local(run: str, action: str | None) -> list[Output] | None:
    """None: this machine knows no such local run."""
    try:
        store: Any = _module("flyte._persistence._run_store").RunStore
        store.initialize_sync()
        records: list[Any] = store.list_actions_for_run_sync(run)
    except SetupError:
        raise
    except Exception:  # not a public part of Flyte: another release may keep local runs elsewhere
        return None
    if not records:
        return None
    top = next((record.task_name for record in records if record.action_name == "a0"), None)
    groups = [
        [record for record in records if record.action_name == action]
        if action
        else [record for record in records if record.task_name == top],
        [] if action else records,
    ]
    for group in groups:
        found = [Output(r.action_name, *item) for r in group for item in volumes_in(_outputs(r), "")]
        if found:
            return found
    return []


def _outputs(record: Any) -> Any:
    return record.outputs if record.outputs is not None else {}


def _remote(config: Any, run: str, action: str | None) -> list[Output]:
    try:
        if hasattr(config, "init"):
            config.init()
        else:
            _module("flyte").init_from_config()
        remote = _module("flyte.remote")
        if action is not None:
            return _outputs_of(remote.ActionDetails.get(run_name=run, name=action), action)
        found = _outputs_of(remote.Run.get(name=run), "a0")
        if found:
            return found
        actions = islice(remote.Action.listall(for_run_name=run), _MOST_ACTIONS)
        names = [item.name for item in actions]
        return [
            output for name in names for output in _outputs_of(remote.ActionDetails.get(run_name=run, name=name), name)
        ]
    except VolumeError:
        raise
    except Exception as error:  # whatever Flyte raises: not configured, not logged in, no such run, no network
        raise UsageError(
            f"run {run} is no local run, and the cluster does not tell of it: {error}",
            hint="check the name, and Flyte's configuration: flyte get run",
        ) from error


def _outputs_of(found: Any, action: str) -> list[Output]:
    """Of a run or an action. As literals, which need no type of the task that made them on this machine."""
    try:
        literals = found.output_literals()
        if inspect.iscoroutine(literals):
            literals = asyncio.run(literals)
        named = {str(name): _plain(value) for name, value in cast("Mapping[Any, Any]", literals).items()}
    except Exception:  # not ended, failed, or nothing came of it
        return []
    return [Output(action, *item) for name, value in named.items() for item in volumes_in(value, name)]


def _plain(literal: Any) -> Any:
    """A literal of Flyte's as plain values, as far as a volume may be in it."""
    kind = literal.WhichOneof("value")
    if kind == "collection":
        return [_plain(item) for item in literal.collection.literals]
    if kind == "map":
        return {key: _plain(item) for key, item in literal.map.literals.items()}
    scalar = literal.scalar
    kind = scalar.WhichOneof("value")
    if kind == "binary":
        return _module("msgpack").unpackb(scalar.binary.value, strict_map_key=False)
    if kind == "generic":
        return _module("google.protobuf.json_format").MessageToDict(scalar.generic)
    if kind == "union":
        return _plain(scalar.union.value)
    return scalar.primitive.string_value if kind == "primitive" else None


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise SetupError(f"this needs {error.name}", hint="pip install 'flyteplugins-vol[flyte]'") from error
