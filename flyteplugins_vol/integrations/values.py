"""What volumes are to the type engines of both SDKs, which differ in little more than the names of their messages."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, cast

from flyteplugins_vol.io.hosts import Boundary
from flyteplugins_vol.io.payload import json_schema, payload_of_version, volume_from
from flyteplugins_vol.io.volume import ROVolume, RWVolume, Volume

NAME = "flyteplugins_vol.Volume"
"""Name of the transformer, and the tag in literal types by which a volume is known without its annotation."""

TAG = "msgpack"
ANNOTATIONS = {"cache-key-metadata": {"serialization-format": TAG}}
EXPECTED = "pass or return an RWVolume, an ROVolume, or the locator of a version"

_TITLES = ("Volume", "RWVolume", "ROVolume")


def sdk(module: str) -> Any:
    """A module of an SDK. Its types are not ours to check: tests run every name that is used of it."""
    return importlib.import_module(module)


def schema() -> dict[str, Any]:
    """JSON schema of a volume, whatever kind was annotated."""
    return json_schema("ROVolume")


def is_schema(found: Any) -> bool:
    """Whether a part of a JSON schema is a volume: how the field of a dataclass is recognised without its code."""
    if not isinstance(found, dict):
        return False
    fields = cast("dict[str, Any]", found)
    return fields.get("title") in _TITLES and {"locator", "version", "content"} <= set(fields.get("properties", ()))


def is_value(value: Any) -> bool:
    return isinstance(value, (Volume, str, Mapping))


async def version_of(value: Any, boundary: Boundary) -> ROVolume:
    """The version that stands for a value at a task's boundary. Raises `VolumeError`."""
    if isinstance(value, RWVolume):
        return await value.hand_over(boundary)
    if isinstance(value, str) and not value.lstrip().startswith("{"):
        return await Volume.from_locator(value)
    return value if isinstance(value, ROVolume) else volume_from(value)


def packed(volume: ROVolume) -> bytes:
    return sdk("msgpack").packb(payload_of_version(volume))


def unpacked(data: bytes) -> ROVolume:
    """Raises `LocatorError`."""
    return volume_from(sdk("msgpack").unpackb(data, strict_map_key=False))


def content_hash(volume: ROVolume) -> str:
    """What a cache compares: equal files are equal inputs."""
    return volume.content or volume.version or ""
