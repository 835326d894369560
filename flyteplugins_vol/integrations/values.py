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
_EXPECTED = "pass or return an RWVolume, an ROVolume, or the locator of a version"

_TITLES = ("Volume", "RWVolume", "ROVolume")


def sdk(module: str) -> Any:
    """A module of an SDK. Its types are not ours to check: tests run every name that is used of it."""
    return importlib.import_module(module)


class VolumeType:
    """What the transformers of both SDKs do alike. ``failed`` is the SDK's error for a value of another type."""

    failed: type[Exception]

    def assert_type(self, t: Any, v: Any) -> None:
        if not isinstance(v, (Volume, str, Mapping)):
            raise self.unexpected(type(v).__name__)

    async def volume_of(self, *, locator: str | None, struct: Any, binary: Any, otherwise: object) -> ROVolume:
        """The version in a literal: a bare locator, a JSON object, or what we made of it. No I/O, but for the first."""
        if locator is not None:
            return await Volume.from_locator(locator)
        if struct is not None:
            return volume_from(sdk("google.protobuf.json_format").MessageToDict(struct))
        if binary is None:
            raise self.unexpected(otherwise)
        return self.from_binary_idl(binary, ROVolume)

    def from_binary_idl(self, binary_idl_object: Any, expected_python_type: Any) -> ROVolume:
        """Raises `LocatorError`."""
        if binary_idl_object.tag != TAG:
            raise self.failed(f"a volume is {TAG}, not {binary_idl_object.tag!r}")
        return volume_from(sdk("msgpack").unpackb(binary_idl_object.value, strict_map_key=False))

    def schema_match(self, schema: Any) -> bool:
        """Whether a part of a JSON schema is a volume: how the field of a dataclass is recognised without its code."""
        if not isinstance(schema, dict):
            return False
        fields = cast("dict[str, Any]", schema)
        return fields.get("title") in _TITLES and {"locator", "version", "content"} <= set(fields.get("properties", ()))

    def unexpected(self, found: object) -> Exception:
        return self.failed(f"a volume was expected, got {found}: {_EXPECTED}")


def schema() -> dict[str, Any]:
    """JSON schema of a volume, whatever kind was annotated."""
    return json_schema("ROVolume")


async def version_of(value: Any, boundary: Boundary) -> ROVolume:
    """The version that stands for a value at a task's boundary. Raises `VolumeError`."""
    if isinstance(value, RWVolume):
        return await value.hand_over(boundary)
    if isinstance(value, str) and not value.lstrip().startswith("{"):
        return await Volume.from_locator(value)
    return value if isinstance(value, ROVolume) else volume_from(value)


def packed(volume: ROVolume) -> bytes:
    return sdk("msgpack").packb(payload_of_version(volume))


def content_hash(volume: ROVolume) -> str:
    """What a cache compares: equal files are equal inputs."""
    return volume.content or volume.version or ""
