"""The type of volumes in Flyte 1: a struct, with a version's payload in msgpack.

The payload's bytes are the cache's key (flytekit drops a literal's hash), so equal versions hit, as do their fields in
dataclasses; equal content under two versions does not, unlike in Flyte 2.
"""

from __future__ import annotations

from typing import Any

from flyteplugins_vol.integrations.values import (
    ANNOTATIONS,
    EXPECTED,
    NAME,
    TAG,
    is_schema,
    is_value,
    packed,
    schema,
    sdk,
    unpacked,
    version_of,
)
from flyteplugins_vol.io.payload import volume_from
from flyteplugins_vol.io.volume import ROVolume, RWVolume, Volume

_engine: Any = sdk("flytekit.core.type_engine")
_literals: Any = sdk("flytekit.models.literals")
_types: Any = sdk("flytekit.models.types")
_annotation: Any = sdk("flytekit.models.annotation")
_json: Any = sdk("google.protobuf.json_format")


class VolumeTransformer(_engine.AsyncTypeTransformer):
    """`Volume`, `RWVolume` and `ROVolume` are one type to Flyte: whatever goes in, an `ROVolume` comes out."""

    def __init__(self) -> None:
        _engine.AsyncTypeTransformer.__init__(self, NAME, Volume)

    def assert_type(self, t: Any, v: Any) -> None:
        if not is_value(v):
            raise _engine.TypeTransformerFailedError(f"a volume was expected, got {type(v).__name__}: {EXPECTED}")

    def get_literal_type(self, t: Any) -> Any:
        return _types.LiteralType(
            simple=_types.SimpleType.STRUCT,
            metadata=schema(),
            annotation=_annotation.TypeAnnotation(ANNOTATIONS),
            structure=_types.TypeStructure(tag=NAME),
        )

    async def async_to_literal(self, ctx: Any, python_val: Any, python_type: Any, expected: Any) -> Any:
        """Finalizes a volume that can be written; loads the version if only its locator was given."""
        volume = await version_of(python_val, "result")
        return _literals.Literal(
            scalar=_literals.Scalar(binary=_literals.Binary(value=packed(volume), tag=TAG)),
        )

    async def async_to_python_value(self, ctx: Any, lv: Any, expected_python_type: Any) -> ROVolume:
        """No I/O, but for a bare locator."""
        scalar = lv.scalar
        if scalar is not None and scalar.primitive is not None:
            return await Volume.from_locator(scalar.primitive.string_value)
        if scalar is not None and scalar.generic is not None:
            return volume_from(_json.MessageToDict(scalar.generic))
        if scalar is None or scalar.binary is None:
            raise _engine.TypeTransformerFailedError(f"a volume was expected, got {lv}: {EXPECTED}")
        return self.from_binary_idl(scalar.binary, expected_python_type)

    def from_binary_idl(self, binary_idl_object: Any, expected_python_type: Any) -> ROVolume:
        if binary_idl_object.tag != TAG:
            raise _engine.TypeTransformerFailedError(f"a volume is {TAG}, not {binary_idl_object.tag!r}")
        return unpacked(binary_idl_object.value)

    def guess_python_type(self, literal_type: Any) -> type[ROVolume]:
        if literal_type.structure is not None and literal_type.structure.tag == NAME:
            return ROVolume
        raise ValueError(f"{literal_type} is not a volume")

    def schema_match(self, schema: Any) -> bool:
        return is_schema(schema)


def register_transformer() -> None:
    """Make it known to the type engine. Idempotent."""
    try:
        _engine.TypeEngine.register(VolumeTransformer(), additional_types=[RWVolume, ROVolume])
    except ValueError:  # registered already
        pass
