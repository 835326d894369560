"""Publish a version of a volume that is not mounted: an empty one, or its parent under its own name."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from flyteplugins_vol.history.record import VersionRecord
from flyteplugins_vol.history.session import open_session
from flyteplugins_vol.model import MountSpec

T = TypeVar("T")


def publish_unmounted(spec: MountSpec, message: str | None) -> VersionRecord:
    """Commit what the spec describes without mounting it. Blocks. Raises `VolumeError`.

    The directory ``spec.meta_dir`` is made for this and removed again.
    """
    lock = threading.RLock()

    def call(fn: Callable[..., T], *args: Any) -> T:
        with lock:
            return fn(*args)

    try:
        session = open_session(spec, call, _ignore)
        try:
            return session.commit(message, _nothing, call, _nothing, _nothing, _ignore)
        finally:
            session.abandon()
    finally:
        shutil.rmtree(spec.meta_dir, ignore_errors=True)


def _nothing() -> None:
    return


def _ignore(event: Any) -> None:
    return
