"""Handles as values: what a task's input or output holds of a volume, and how pydantic, mashumaro and pickle get it.

A payload is a version's locator with all that its record says for people, as plain JSON values that never change: equal
versions have equal payloads, and reading one needs no I/O. A writable handle has none before it is published, so at a
task's boundary it publishes: an argument is committed and stays mounted, a result is finalized. Anywhere else,
serialising a volume with changes that no version has is refused, since it would lose them or commit them unasked.
"""

from __future__ import annotations

import importlib
import json
import uuid
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from blake3 import blake3

from flyteplugins_vol.errors import LocatorError, VolumeError
from flyteplugins_vol.history.record import Locator, VersionRecord, parse_locator
from flyteplugins_vol.io import hosts

if TYPE_CHECKING:
    from flyteplugins_vol.io.volume import ROVolume, Volume

    class SerializableType:
        """mashumaro's, or a stand-in."""
else:
    try:  # both Flyte SDKs bring mashumaro, and ask this class how a field of a dataclass travels
        from mashumaro.types import SerializableType
    except ImportError:

        class SerializableType:
            """For machines without mashumaro."""


@dataclass(frozen=True)
class VersionSummary:
    """What a payload says of a version: as a `VersionRecord`, without the index."""

    locator: Locator
    message: str | None = None
    author: str | None = None
    created: str = ""
    parents: tuple[str, ...] = ()
    stats: Mapping[str, int] = field(default_factory=lambda: {})
    produced_by: Mapping[str, Any] | None = None
    content: str = ""

    @property
    def volume_name(self) -> str:
        return self.locator.volume_name

    @property
    def volume_id(self) -> str:
        return self.locator.volume_id

    @property
    def store_url(self) -> str:
        return self.locator.store_url


last_failure: ContextVar[Exception | None] = ContextVar("flytevol_last_failure", default=None)
"""What ended the last serialising here that failed: pydantic shows only its text, in an error of its own."""

Known = VersionRecord | VersionSummary
"""A version whose record was read, or of which a payload told."""


def content_of(known: Known) -> str:
    """A name for the files of a version: versions that share their index have equal ones. '' if it is not known."""
    if isinstance(known, VersionSummary):
        return known.content
    index = known.index
    text = json.dumps([index.size, index.segment_size, [o.name for o in index.objects], index.runs])
    return blake3(text.encode()).hexdigest()[:40]


def payload_of(known: Known) -> dict[str, Any]:
    """The version as plain JSON values. ``name`` and ``version`` are in the locator too: they are for people."""
    locator = known.locator
    return {
        "locator": str(locator),
        "name": locator.volume_name,
        "version": locator.file.removesuffix(".json"),
        "message": known.message,
        "author": known.author,
        "created": known.created,
        "parents": list(known.parents),
        "stats": dict(sorted(known.stats.items())),
        "produced_by": dict(known.produced_by) if known.produced_by is not None else None,
        "content": content_of(known),
    }


def summary_of(payload: Mapping[str, Any]) -> VersionSummary:
    """The version that a payload tells of; fields of later releases are left out. Raises `LocatorError`."""
    locator = payload.get("locator")
    if not isinstance(locator, str):
        raise LocatorError(
            f"a volume was expected, with its locator; this has only {', '.join(map(str, payload)) or 'nothing'}",
            hint="pass a volume, or the locator of a version",
        )
    return VersionSummary(
        locator=parse_locator(locator),
        message=payload.get("message"),
        author=payload.get("author"),
        created=payload.get("created") or "",
        parents=tuple(payload.get("parents") or ()),
        stats={name: int(value) for name, value in cast("dict[str, Any]", payload.get("stats") or {}).items()},
        produced_by=payload.get("produced_by"),
        content=payload.get("content") or "",
    )


if TYPE_CHECKING:

    class Fields:
        """What follows, of which each kind of volume has a property."""
else:

    @dataclass(init=False, eq=False, repr=False)
    class Fields:
        """The fields of a payload, for those who take a JSON schema from a dataclass: mashumaro, so both Flyte SDKs."""

        locator: str
        name: str
        version: str
        message: str | None
        author: str | None
        created: str
        parents: list[str]
        stats: dict[str, int]
        produced_by: dict[str, Any] | None
        content: str


def payload_of_version(volume: ROVolume) -> dict[str, Any]:
    """The payload of a handle that has one without publishing anything."""
    return volume._payload()  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001


class Handle(Fields, SerializableType):
    """What makes `Volume` and its kinds values that other libraries can carry."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Let properties bear being set to what they are: flytekit does that to the fields of dataclasses."""
        super().__init_subclass__(**kwargs)
        for name in getattr(cls, "__dataclass_fields__", {}):
            found = cls.__dict__.get(name)
            if isinstance(found, property) and found.fset is None:
                setattr(cls, name, found.setter(_only_what_it_is(found, name)))

    def _payload(self) -> dict[str, Any]:
        """Implemented by each kind of volume."""
        raise NotImplementedError

    def _serialize(self) -> dict[str, Any]:
        """For mashumaro: fields of dataclasses, in both SDKs."""
        try:
            return self._payload()
        except VolumeError as error:
            failure = hosts.as_error(error)
            last_failure.set(failure)
            raise failure from error

    @classmethod
    def _deserialize(cls, value: Any) -> ROVolume:
        return volume_from(value)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        core: Any = importlib.import_module("pydantic_core.core_schema")  # whoever calls this has it
        return core.no_info_plain_validator_function(
            _validated,
            serialization=core.plain_serializer_function_ser_schema(Handle._serialize),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> dict[str, Any]:
        return json_schema(cls.__name__)

    def __deepcopy__(self, memo: Any) -> Handle:
        """Itself: a handle stands for one volume, and perhaps for one mount."""
        return self

    def __copy__(self) -> Handle:
        return self


def _only_what_it_is(field: property, name: str) -> Callable[[Any, Any], None]:
    def setter(handle: Any, value: Any) -> None:
        now = field.fget(handle) if field.fget is not None else None
        if value != (list(cast("tuple[Any, ...]", now)) if isinstance(now, tuple) else now) and value != now:
            raise AttributeError(f"{name} of a volume cannot be set")

    return setter


def volume_from(value: Any) -> ROVolume:
    """The version that a payload, its JSON text, or a locator names; only a bare locator needs a look at the store.

    Raises `LocatorError`, and for a locator what `Volume.from_locator` raises.
    """
    from flyteplugins_vol.io.volume import ROVolume, Volume

    if isinstance(value, str):
        text = value.strip()
        if not text.startswith("{"):
            return Volume.from_locator.sync(text)
        try:
            value = json.loads(text)
        except ValueError as error:
            raise LocatorError(f"not a volume: {error}", hint="pass a volume, or the locator of a version") from None
    if not isinstance(value, Mapping):
        raise LocatorError(
            f"a volume was expected, not {type(value).__name__}", hint="pass a volume, or the locator of a version"
        )
    return ROVolume.of(summary_of(cast("Mapping[str, Any]", value)))


def unpickled(payload: dict[str, Any]) -> ROVolume:
    """What a pickled `ROVolume` becomes."""
    return volume_from(payload)


def unpickled_writer(fields: dict[str, Any], nonce: str) -> Volume:
    """What a pickled `RWVolume` becomes: another handle of the same volume, not mounted, not closed."""
    from flyteplugins_vol.io.volume import RWVolume

    payload = fields.pop("payload")
    return RWVolume(**fields, options=None, record=summary_of(payload) if payload is not None else None)


def pickled_writer(name: str, volume_id: str, store: str, known: Known | None) -> tuple[Any, ...]:
    """No two are equal: flytekit takes equal pickles for equal values, and would not commit the second."""
    payload = payload_of(known) if known is not None else None
    fields = {"name": name, "volume_id": volume_id, "store": store, "payload": payload}
    return unpickled_writer, (fields, uuid.uuid4().hex)


def _validated(value: Any) -> Any:
    from flyteplugins_vol.io.volume import Volume

    return value if isinstance(value, Volume) else volume_from(value)


_TEXT = {"anyOf": [{"type": "string"}, {"type": "null"}]}


def json_schema(title: str) -> dict[str, Any]:
    """JSON schema of a payload."""
    properties: dict[str, Any] = {
        "locator": {"type": "string"},
        "name": {"type": "string"},
        "version": {"type": "string"},
        "message": _TEXT,
        "author": _TEXT,
        "created": {"type": "string"},
        "parents": {"type": "array", "items": {"type": "string"}},
        "stats": {"type": "object", "additionalProperties": {"type": "integer"}},
        "produced_by": {"anyOf": [{"type": "object", "additionalProperties": True}, {"type": "null"}]},
        "content": {"type": "string"},
    }
    return {"type": "object", "title": title, "properties": properties, "required": ["locator"]}
