"""The type of volumes in Flyte 2: a struct, with a version's payload in msgpack, and its content as the literal's hash.

So a handle arrives without I/O, is shown in full wherever Flyte shows a struct, is the same at the top and inside of
dataclasses, and equal content is equal to the cache.
"""

from __future__ import annotations

from typing import Any

from flyteplugins_vol.errors import VolumeError
from flyteplugins_vol.integrations import values
from flyteplugins_vol.integrations.flyte2.context import boundary
from flyteplugins_vol.integrations.flyte2.host import sdk_error
from flyteplugins_vol.integrations.values import sdk
from flyteplugins_vol.io.payload import last_failure
from flyteplugins_vol.io.volume import ROVolume, RWVolume, Volume

_flyte: Any = sdk("flyte.types")
_literals: Any = sdk("flyteidl2.core.literals_pb2")
_types: Any = sdk("flyteidl2.core.types_pb2")
_structs: Any = sdk("google.protobuf.struct_pb2")


class VolumeTransformer(values.VolumeType, _flyte.TypeTransformer):
    """`Volume`, `RWVolume` and `ROVolume` are one type to Flyte: whatever goes in, an `ROVolume` comes out."""

    failed = _flyte.TypeTransformerFailedError

    def __init__(self) -> None:
        _flyte.TypeTransformer.__init__(self, values.NAME, Volume)

    def get_literal_type(self, t: Any) -> Any:
        return _types.LiteralType(
            simple=_types.SimpleType.STRUCT,
            metadata=_struct(values.schema()),
            annotation=_types.TypeAnnotation(annotations=_struct(values.ANNOTATIONS)),
            structure=_types.TypeStructure(tag=values.NAME),
        )

    async def to_literal(self, python_val: Any, python_type: Any, expected: Any) -> Any:
        """Publishes a volume that can be written; loads the version if only its locator was given."""
        try:
            volume = await values.version_of(python_val, boundary() or "argument")
        except VolumeError as error:
            raise sdk_error(error) from error
        binary = _literals.Binary(value=values.packed(volume), tag=values.TAG)
        return _literals.Literal(scalar=_literals.Scalar(binary=binary), hash=values.content_hash(volume))

    async def to_python_value(self, lv: Any, expected_python_type: Any) -> ROVolume:
        has = lv.scalar.HasField
        return await self.volume_of(
            locator=lv.scalar.primitive.string_value if has("primitive") else None,
            struct=lv.scalar.generic if has("generic") else None,
            binary=lv.scalar.binary if has("binary") else None,
            otherwise=lv.WhichOneof("value"),
        )

    def guess_python_type(self, literal_type: Any) -> type[ROVolume]:
        if literal_type.HasField("structure") and literal_type.structure.tag == values.NAME:
            return ROVolume
        raise ValueError(f"{literal_type} is not a volume")


def register_transformer() -> None:
    """Make it known to the type engine. Idempotent."""
    try:
        _flyte.TypeEngine.register(VolumeTransformer(), additional_types=[RWVolume, ROVolume])
    except ValueError:  # registered already
        return
    _show_failures_in_models()


def _show_failures_in_models() -> None:
    """Let a commit that fails inside of a pydantic model end its task with our message.

    Only the SDK's own errors do, and pydantic makes one of its own of whatever a serializer raises. The engine is not
    asked for its transformer: it holds a lock while it loads plug-ins.
    """
    models = sdk("flyte.types._type_engine").PydanticTransformer
    opaque = sdk("pydantic_core").PydanticSerializationError
    plain = models.to_literal

    async def to_literal(self: Any, python_val: Any, python_type: Any, expected: Any) -> Any:
        last_failure.set(None)
        try:
            return await plain(self, python_val, python_type, expected)
        except opaque as error:
            raise last_failure.get() or error from error

    models.to_literal = to_literal


def _struct(fields: dict[str, Any]) -> Any:
    struct = _structs.Struct()
    struct.update(fields)
    return struct
