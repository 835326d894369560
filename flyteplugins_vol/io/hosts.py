"""What runs this code, if a Flyte SDK does: where volumes go by default, who makes them, when a handle is handed over.

`flyteplugins_vol.io` imports no SDK. An adapter is an entry point in the group ``flyteplugins_vol.hosts`` whose name is
its SDK's module: it is loaded once that module is there, and asked each time, since the answer depends on the task.
Without one, or outside a task, everything is as for a plain script.
"""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Mapping
from dataclasses import replace
from importlib import metadata
from typing import TYPE_CHECKING, Any, Literal, Protocol

from flyteplugins_vol.config import StoreOptions, default_store, store_from_environment, store_options_from_environment

if TYPE_CHECKING:
    from flyteplugins_vol.errors import VolumeError
    from flyteplugins_vol.io.volume import Volume

GROUP = "flyteplugins_vol.hosts"

Boundary = Literal["argument", "result"]
"""What a handle is to the task that hands it over: its own to keep, or its result."""

log = logging.getLogger(__name__)


class Drop(Protocol):
    """Ends a mount, or a session without one, and does not keep the handle alive."""

    def __call__(self, *, keep: bool = False) -> bool:
        """Whether there was something to end. ``keep``: what was written stays on this machine for a resume."""
        ...


class Host(Protocol):
    """An SDK. Every method may be called from any thread, in a task or not; none blocks for long.

    A thread that a task started is in that task, also if it does not know: see `flyteplugins_vol.integrations.running`.
    """

    def store(self) -> str | None:
        """URL of the store for volumes of the running task; None outside a task.

        Raises `UsageError` in a thread that may be of several tasks, with several stores.
        """
        ...

    def store_config(self, scheme: str) -> Mapping[str, str]:
        """What the SDK is configured with to reach stores of this scheme, named as in `StoreOptions.config`."""
        ...

    def produced_by(self) -> Mapping[str, Any] | None:
        """Run, action and task that are running, as JSON values; None outside a task."""
        ...

    def boundary(self) -> Boundary | None:
        """What is being converted at this moment, on this thread; None: nothing."""
        ...

    def mounted(self, volume: Volume, drop: Drop) -> None:
        """A mount, or a session without one, began that must not outlive the running task: ``drop`` ends it."""
        ...

    def as_error(self, error: VolumeError) -> Exception | None:
        """The SDK's own error for a failure at a task boundary; None: the error itself will do."""
        ...


def store_url(given: str | None) -> str:
    """The store that was asked for, else ``FLYTE_VOL_STORE``, else that of the running task, else a local directory."""
    of_a_task = filter(None, (host.store() for host in hosts()))
    return given or store_from_environment() or next(of_a_task, None) or default_store()


def store_options(url: str, given: StoreOptions | None) -> StoreOptions:
    """The options that were given, else what the environment says with what an SDK is configured with on top."""
    if given is not None:
        return given
    options = store_options_from_environment(url)
    for host in hosts():
        if config := host.store_config(url.partition("://")[0]):
            options = replace(options, config=_merged(options.config, config))
    return options


def produced_by() -> Mapping[str, Any] | None:
    """Run, action and task that are running, if any."""
    return next(filter(None, (host.produced_by() for host in hosts())), None)


def boundary() -> Boundary | None:
    """Whether a value is being handed to a task, or returned from one, at this moment."""
    return next(filter(None, (host.boundary() for host in hosts())), None)


def mounted(volume: Volume, drop: Drop) -> None:
    """Tell whoever runs the task that a mount, or a session without one, began."""
    for host in hosts():
        host.mounted(volume, drop)


def as_error(error: VolumeError) -> Exception:
    """The error to raise where a task's result is being converted."""
    return next(filter(None, (host.as_error(error) for host in hosts())), error)


def hosts() -> list[Host]:
    """The adapters of the SDKs that this process has imported."""
    found = (_loaded(name) for name in _known() if name in sys.modules)
    return [host for host in found if host is not None]


@functools.cache
def _known() -> dict[str, metadata.EntryPoint]:
    return {entry.name: entry for entry in metadata.entry_points(group=GROUP)}


@functools.cache
def _loaded(name: str) -> Host | None:
    try:
        return _known()[name].load()
    except Exception:  # an SDK that has changed must not take volumes away from scripts
        log.exception("the adapter for %s cannot be loaded: volumes know nothing of its tasks", name)
        return None


_KEYS = ("access_key_id", "secret_access_key", "session_token")


def _merged(below: Mapping[str, str], above: Mapping[str, str]) -> dict[str, str]:
    """Both, the second first; a key, its secret and its token come from one of them."""
    kept = {name: value for name, value in below.items() if name not in _KEYS or "access_key_id" not in above}
    return {**kept, **above}
