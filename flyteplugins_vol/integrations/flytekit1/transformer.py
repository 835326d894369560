"""The type of volumes in Flyte 1: a struct, with a version's payload in msgpack.

The payload's bytes are the cache's key (flytekit drops a literal's hash), so equal versions hit, as do their fields in
dataclasses; equal content under two versions does not, unlike in Flyte 2.
"""

from __future__ import annotations

from typing import Any

from flyteplugins_vol.integrations import values
from flyteplugins_vol.integrations.values import sdk
from flyteplugins_vol.io.volume import ROVolume, RWVolume, Volume

_engine: Any = sdk("flytekit.core.type_engine")
_literals: Any = sdk("flytekit.models.literals")
_types: Any = sdk("flytekit.models.types")
_annotation: Any = sdk("flytekit.models.annotation")


class VolumeTransformer(values.VolumeType, _engine.AsyncTypeTransformer):
    """`Volume`, `RWVolume` and `ROVolume` are one type to Flyte: whatever goes in, an `ROVolume` comes out."""

    failed = _engine.TypeTransformerFailedError

    def __init__(self) -> None:
        _engine.AsyncTypeTransformer.__init__(self, values.NAME, Volume)

    def get_literal_type(self, t: Any) -> Any:
        return _types.LiteralType(
            simple=_types.SimpleType.STRUCT,
            metadata=values.schema(),
            annotation=_annotation.TypeAnnotation(values.ANNOTATIONS),
            structure=_types.TypeStructure(tag=values.NAME),
        )

    async def async_to_literal(self, ctx: Any, python_val: Any, python_type: Any, expected: Any) -> Any:
        """Finalizes a volume that can be written; loads the version if only its locator was given."""
        volume = await values.version_of(python_val, "result")
        return _literals.Literal(
            scalar=_literals.Scalar(binary=_literals.Binary(value=values.packed(volume), tag=values.TAG)),
        )

    async def async_to_python_value(self, ctx: Any, lv: Any, expected_python_type: Any) -> ROVolume:
        scalar = lv.scalar
        primitive = scalar and scalar.primitive
        return await self.volume_of(
            locator=primitive and primitive.string_value,
            struct=scalar and scalar.generic,
            binary=scalar and scalar.binary,
            otherwise=lv,
        )

    def guess_python_type(self, literal_type: Any) -> type[ROVolume]:
        if literal_type.structure is not None and literal_type.structure.tag == values.NAME:
            return ROVolume
        raise ValueError(f"{literal_type} is not a volume")


def register_transformer() -> None:
    """Make it known to the type engine. Idempotent."""
    try:
        _engine.TypeEngine.register(VolumeTransformer(), additional_types=[RWVolume, ROVolume])
    except ValueError:  # registered already
        pass
