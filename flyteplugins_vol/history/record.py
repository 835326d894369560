"""Version records: small JSON objects, named by their own hash, that say all there is to say before a mount.

The locator of a version is the URL of its record:
``<store>/volumes/<name>-<id>/versions/<sequence>-<hash>.json``, where hash is the first 40 hex digits of the BLAKE3 of
the record's bytes. So a record that was altered does not match its own name, and a record that was read keeps its
bytes: a later release may have put fields there that this one does not know. docs/FORMAT.md is normative.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import metadata
from typing import Any, cast

from blake3 import blake3

from flyteplugins_vol.errors import (
    LocatorError,
    NewerFormatError,
    RecordDamagedError,
    UsageError,
    VersionNotFoundError,
    VolumeNameError,
)
from flyteplugins_vol.history.asking import insist
from flyteplugins_vol.store.base import ObjectStore
from flyteplugins_vol.store.container import MAX_ENTRIES, MAX_OBJECT

FORMAT = "flytevol/version"
FORMAT_VERSION = 1

MAX_RECORD = 16 << 20
MAX_NUMBER = (1 << 53) - 1
"""Greatest integer that every JSON parser keeps exactly: no number of a record is greater."""

MAX_MESSAGE = 128 << 10
"""Bytes of a message as UTF-8: with each escaped in JSON, it still goes into one request to a daemon."""

_HASH_DIGITS = 40  # 160 bits: 2^80 work to make two records of one name
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_LOCATOR = re.compile(
    rf"(?P<store>.+)/(?P<volume>volumes/(?P<name>{_NAME.pattern})-(?P<id>[0-9a-f]{{16}}))"
    rf"/versions/(?P<file>(?P<sequence>[0-9]{{8}}|[1-9][0-9]{{8,15}})-(?P<hash>[0-9a-f]{{{_HASH_DIGITS}}})\.json)"
)
_USER = re.compile(r"://\S*@")  # of an address that somebody put credentials into: not to be shown
_VOLUME_ID = re.compile(r"[0-9a-f]{16}")
_OBJECT_NAME = re.compile(r"[0-9a-f]{64}")
_CREATED = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?Z")
_SURROGATE = re.compile("[\ud800-\udfff]")  # from a command line that is not UTF-8
_MAX_SEGMENTS = 1 << 22  # 64 GiB of index in segments of 16 KiB: some 250 million files
_MAX_OBJECTS = 1 << 16
_UPGRADE = "install a newer release of flyteplugins-vol"


@dataclass(frozen=True)
class Locator:
    """A version's address, taken apart. ``key`` is the record's key in its store."""

    store_url: str
    volume_name: str
    volume_id: str
    file: str

    @property
    def key(self) -> str:
        return f"{volume_prefix(self.volume_name, self.volume_id)}/versions/{self.file}"

    @property
    def sequence(self) -> int:
        return int(self.file.partition("-")[0])

    @property
    def hash(self) -> str:
        return self.file.removesuffix(".json").partition("-")[2]

    def __str__(self) -> str:
        return f"{self.store_url}/{self.key}"


@dataclass(frozen=True)
class IndexObject:
    """One object that holds segments: its name, its size in bytes, its number of entries."""

    name: str
    size: int
    entries: int


@dataclass(frozen=True)
class IndexMap:
    """Where the index file's segments are.

    ``runs`` are ``(object, first entry, count)``: one after the other they name every segment of the file once.
    """

    size: int
    segment_size: int
    objects: tuple[IndexObject, ...]
    runs: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class VersionRecord:
    """Everything about a version but its files. Sizes are bytes."""

    volume_name: str
    volume_id: str
    sequence: int
    index: IndexMap
    parents: tuple[str, ...]  # locators
    created: str  # RFC 3339, UTC
    message: str | None = None
    author: str | None = None
    produced_by: Mapping[str, Any] | None = None
    stats: Mapping[str, int] = field(default_factory=lambda: {})
    writer: str = ""
    store_url: str = ""
    requires_to_write: tuple[str, ...] = ()
    software: str = ""  # name and release of who wrote it; empty until it is encoded
    as_read: bytes | None = field(default=None, init=False, repr=False, compare=False)

    def check_writable(self) -> None:
        """Raise `NewerFormatError` if only a newer release may commit on top of this version."""
        if self.requires_to_write:
            raise NewerFormatError(
                f"to write on top of {self.locator} needs {', '.join(self.requires_to_write)}; this release can only "
                "read it",
                hint=f"{_UPGRADE}, or mount it read-only",
            )

    def encode(self) -> bytes:
        """The record's bytes: as they were read; of a new one JSON with sorted keys and no spaces.

        Parents in the same store are kept relative. Raises ValueError if ``produced_by`` is no JSON.
        """
        return self._new_bytes() if self.as_read is None else self.as_read

    def _new_bytes(self) -> bytes:
        body = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "requires": [],
            "requires_to_write": list(self.requires_to_write),
            "software": self.software or _software(),
            "volume": {"name": self.volume_name, "id": self.volume_id},
            "sequence": self.sequence,
            "parents": [_relative(parent, self.store_url) for parent in self.parents],
            "created": self.created,
            "message": self.message,
            "author": self.author,
            "produced_by": dict(self.produced_by) if self.produced_by is not None else None,
            "stats": {name: min(value, MAX_NUMBER) for name, value in self.stats.items()},
            "index": {
                "size": self.index.size,
                "segment_size": self.index.segment_size,
                "objects": [{"name": o.name, "size": o.size, "entries": o.entries} for o in self.index.objects],
                "map": [list(run) for run in self.index.runs],
            },
            "writer": self.writer,
        }
        text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return _SURROGATE.sub("\ufffd", text).encode()

    def to_wire(self) -> dict[str, Any]:
        """What a client needs to rebuild it, see `from_wire`."""
        return {"store_url": self.store_url, "record": self.encode().decode()}

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> VersionRecord:
        return decode_record(wire["record"].encode(), wire["store_url"])

    @property
    def locator(self) -> Locator:
        digest = _digest(self.encode())
        return Locator(self.store_url, self.volume_name, self.volume_id, f"{self.sequence:08d}-{digest}.json")


def volume_prefix(name: str, volume_id: str) -> str:
    return f"volumes/{name}-{volume_id}"


def check_name(name: str) -> str:
    """The name itself, or `VolumeNameError`."""
    if not _NAME.fullmatch(name):
        raise VolumeNameError(
            f"{name!r} cannot name a volume",
            hint="use 1 to 63 letters, digits, '.', '_' and '-', the first a letter or a digit",
        )
    return name


def check_message(message: str | None) -> None:
    """`UsageError` if a version's message is longer than `MAX_MESSAGE`."""
    size = len(message.encode("utf-8", "surrogatepass")) if message is not None else 0
    if size > MAX_MESSAGE:
        raise UsageError(
            f"the message has {size >> 10} KiB, and a version takes {MAX_MESSAGE >> 10}",
            hint="write it to a file of the volume, and say where that is",
        )


def parse_locator(text: str) -> Locator:
    """Take a locator apart. Raises `LocatorError`."""
    found = _LOCATOR.fullmatch(text.strip()) if isinstance(text, str) else None  # pyright: ignore[reportUnnecessaryIsInstance]
    if found is None:
        raise LocatorError(
            f"{_USER.sub('://…@', str(text)[:300])!r} is not a locator",
            hint="a locator is the address of a version, as vol.locator gives it: "
            "<store>/volumes/<name>-<id>/versions/<sequence>-<hash>.json",
        )
    return Locator(found["store"], found["name"], found["id"], found["file"])


def load_record(store: ObjectStore, locator: Locator) -> VersionRecord:
    """Read a version's record and check it. One GET, and two more if its hash is wrong: it may be right in the store.

    Raises `VersionNotFoundError`, `RecordDamagedError`, `NewerFormatError`, `StoreError`.
    """
    record = decode_record(insist(lambda: _checked(store, locator)), locator.store_url)
    if record.locator != locator:
        raise RecordDamagedError(
            f"the record at {locator} is of another place: it says {record.locator}",
            hint="use the locator that it says, or restore the object from a copy of the store",
        )
    return record


def _checked(store: ObjectStore, locator: Locator) -> bytes:
    data = store.get(locator.key)
    if data is None:
        raise VersionNotFoundError(
            f"there is no version at {locator}",
            hint="it was deleted, or the locator is of another store: list the volume's versions",
        )
    if _digest(data) != locator.hash:
        raise RecordDamagedError(
            f"the record at {locator} was altered: it does not match its name",
            hint="restore the object from a copy of the store, or use another version",
        )
    return data


def decode_record(data: bytes, store_url: str) -> VersionRecord:
    """A record from its bytes. Raises `RecordDamagedError` or `NewerFormatError`."""
    try:
        if len(data) > MAX_RECORD:
            raise ValueError(f"it has {len(data)} bytes")
        body = json.loads(data.decode(), object_pairs_hook=_object, parse_constant=_constant)
        if body["format"] != FORMAT:
            raise ValueError(f"its format is {body['format']!r}")
        _check_version(body)
        record = _from_body(body, store_url)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = f"{error} is missing" if isinstance(error, KeyError) else error
        raise RecordDamagedError(
            f"not a version record: {why}", hint="check the locator, or restore the object from a copy"
        ) from error
    object.__setattr__(record, "as_read", bytes(data))
    return record


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    body = dict(pairs)
    if len(body) != len(pairs):
        raise ValueError("a name is there twice")
    return body


def _constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _check_version(body: dict[str, Any]) -> None:
    found, requires = body["format_version"], _texts(body["requires"])
    if not isinstance(found, int) or found < 1:
        raise ValueError(f"its format version is {found!r}")
    if found > FORMAT_VERSION or requires:
        needs = f", which needs {', '.join(requires)}" if requires else ""
        raise NewerFormatError(
            f"the version has format {found}{needs}; this release reads format {FORMAT_VERSION}", hint=_UPGRADE
        )


def _from_body(body: dict[str, Any], store_url: str) -> VersionRecord:
    index = body["index"]
    objects = tuple(
        IndexObject(_matching(_OBJECT_NAME, o["name"]), _count(o["size"]), _count(o["entries"]))
        for o in index["objects"]
    )
    runs = tuple((_count(number), _count(first), _count(count)) for number, first, count in index["map"])
    imap = IndexMap(_count(index["size"]), _count(index["segment_size"]), objects, runs)
    _check_map(imap)
    produced_by = body["produced_by"]
    if produced_by is not None and not isinstance(produced_by, dict):
        raise ValueError("produced_by is no object")
    return VersionRecord(
        volume_name=_matching(_NAME, body["volume"]["name"]),
        volume_id=_matching(_VOLUME_ID, body["volume"]["id"]),
        sequence=_count(body["sequence"]),
        index=imap,
        parents=tuple(_parent(parent, store_url) for parent in _texts(body["parents"])),
        created=_matching(_CREATED, body["created"]),
        message=_text(body["message"]),
        author=_text(body["author"]),
        produced_by=cast("dict[str, Any] | None", produced_by),
        stats={name: _count(value) for name, value in body["stats"].items()},
        writer=_text(body["writer"]) or "",
        store_url=store_url,
        requires_to_write=_texts(body["requires_to_write"]),
        software=_text(body["software"]) or "",
    )


def _check_map(index: IndexMap) -> None:
    """Refuse what no writer makes, before anything of that size is built."""
    if not 4096 <= index.segment_size <= 4 << 20 or index.segment_size % 4096:
        raise ValueError(f"segments of {index.segment_size} bytes")
    segments = -(-index.size // index.segment_size)
    if segments > _MAX_SEGMENTS or len(index.objects) > _MAX_OBJECTS:
        raise ValueError(f"an index of {index.size} bytes in {len(index.objects)} objects")
    if any(item.size > MAX_OBJECT or item.entries > MAX_ENTRIES for item in index.objects):
        raise ValueError("an index object is out of bounds")
    for number, first, count in index.runs:
        if number >= len(index.objects) or not count or first + count > index.objects[number].entries:
            raise ValueError("its index map is out of bounds")
    if sum(run[2] for run in index.runs) != segments:
        raise ValueError("its index map does not cover the index")


def _parent(text: str, store_url: str) -> str:
    return str(parse_locator(text if "://" in text else f"{store_url}/{text}"))


def _relative(parent: str, store_url: str) -> str:
    """As a record has it: a store may be below another one, whose URL the locator begins with as well."""
    rest = parent.removeprefix(f"{store_url}/")
    return rest if rest.startswith("volumes/") else parent


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_NUMBER:
        raise ValueError(f"{str(value)[:40]!r} is no count")
    return value


def _matching(pattern: re.Pattern[str], value: Any) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ValueError(f"{str(value)[:100]!r} is out of place")
    return value


def _text(value: Any) -> str | None:
    if value is not None:
        if not isinstance(value, str):
            raise ValueError(f"{str(value)[:40]!r} is no text")
        value.encode()  # a lone surrogate is no text either: UnicodeEncodeError is a ValueError
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in cast("list[Any]", value)):
        raise ValueError(f"{str(cast('Any', value))[:40]!r} is no list of texts")
    return tuple(cast("list[str]", value))


def _digest(data: bytes) -> str:
    return blake3(data).hexdigest()[:_HASH_DIGITS]


@lru_cache(1)
def _software() -> str:
    """Who writes, for the day when what some release wrote must be read with care."""
    try:
        return f"flyteplugins-vol/{metadata.version('flyteplugins-vol')}"
    except metadata.PackageNotFoundError:
        return "flyteplugins-vol"
