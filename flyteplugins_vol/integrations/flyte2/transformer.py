"""The type of volumes in Flyte 2: a struct, with a version's payload in msgpack, and its content as the literal's hash.

So a handle arrives without I/O, is shown in full wherever Flyte shows a struct, is the same at the top and inside of
dataclasses, and equal content is equal to the cache.
"""

from __future__ import annotations

from typing import Any

from flyteplugins_vol.errors import VolumeError
from flyteplugins_vol.integrations.flyte2.context import boundary
from flyteplugins_vol.integrations.flyte2.host import sdk_error
from flyteplugins_vol.integrations.values import (
    ANNOTATIONS,
    EXPECTED,
    NAME,
    TAG,
    content_hash,
    is_schema,
    is_value,
    packed,
    schema,
    sdk,
    unpacked,
    version_of,
)
from flyteplugins_vol.io.payload import last_failure, volume_from
from flyteplugins_vol.io.volume import ROVolume, RWVolume, Volume

_flyte: Any = sdk("flyte.types")
_literals: Any = sdk("flyteidl2.core.literals_pb2")
_types: Any = sdk("flyteidl2.core.types_pb2")
_json: Any = sdk("google.protobuf.json_format")
_structs: Any = sdk("google.protobuf.struct_pb2")


class VolumeTransformer(_flyte.TypeTransformer):
    """`Volume`, `RWVolume` and `ROVolume` are one type to Flyte: whatever goes in, an `ROVolume` comes out."""

    def __init__(self) -> None:
        _flyte.TypeTransformer.__init__(self, NAME, Volume)

    def assert_type(self, t: Any, v: Any) -> None:
        if not is_value(v):
            raise _flyte.TypeTransformerFailedError(f"a volume was expected, got {type(v).__name__}: {EXPECTED}")

    def get_literal_type(self, t: Any) -> Any:
        return _types.LiteralType(
            simple=_types.SimpleType.STRUCT,
            metadata=_struct(schema()),
            annotation=_types.TypeAnnotation(annotations=_struct(ANNOTATIONS)),
            structure=_types.TypeStructure(tag=NAME),
        )

    async def to_literal(self, python_val: Any, python_type: Any, expected: Any) -> Any:
        """Publishes a volume that can be written; loads the version if only its locator was given."""
        try:
            volume = await version_of(python_val, boundary() or "argument")
        except VolumeError as error:
            raise sdk_error(error) from error
        binary = _literals.Binary(value=packed(volume), tag=TAG)
        return _literals.Literal(scalar=_literals.Scalar(binary=binary), hash=content_hash(volume))

    async def to_python_value(self, lv: Any, expected_python_type: Any) -> ROVolume:
        """No I/O, but for a bare locator."""
        if lv.scalar.HasField("primitive"):
            return await Volume.from_locator(lv.scalar.primitive.string_value)
        if lv.scalar.HasField("generic"):
            return volume_from(_json.MessageToDict(lv.scalar.generic))
        if not lv.scalar.HasField("binary"):
            raise _flyte.TypeTransformerFailedError(f"a volume was expected, got {lv.WhichOneof('value')}: {EXPECTED}")
        return self.from_binary_idl(lv.scalar.binary, expected_python_type)

    def from_binary_idl(self, binary_idl_object: Any, expected_python_type: Any) -> ROVolume:
        if binary_idl_object.tag != TAG:
            raise _flyte.TypeTransformerFailedError(f"a volume is {TAG}, not {binary_idl_object.tag!r}")
        return unpacked(binary_idl_object.value)

    def guess_python_type(self, literal_type: Any) -> type[ROVolume]:
        if literal_type.HasField("structure") and literal_type.structure.tag == NAME:
            return ROVolume
        raise ValueError(f"{literal_type} is not a volume")

    def schema_match(self, schema: Any) -> bool:
        return is_schema(schema)


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
