"""The one container format of this file system: packs hold blocks, index objects hold segments.

    header   16 bytes   magic, kind, version, zeros
    bodies              the stored bytes of each entry, one after the other
    footer   44 bytes per entry: BLAKE3 of the plain bytes, stored size, plain size, codec
    trailer  40 bytes   nonce, number of entries, kind, version, flags, bytes of all bodies, magic

An object's name is the BLAKE3 hash of its footer and trailer. So a name vouches for the footer, the footer for each
entry, and the nonce makes every name unique: "it exists already" on a create can only mean that an earlier try of
our own arrived. docs/FORMAT.md is normative.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import zstandard
from blake3 import blake3

from flyteplugins_vol.errors import DamageError, IndexDamagedError, NewerFormatError, PackDamagedError
from flyteplugins_vol.store.base import Data, ObjectStore

PACK = b"P"
INDEX = b"I"
PLAIN = 0
ZSTD = 1

VERSION = 1
MAX_ENTRIES = 1 << 20
MAX_PLAIN = 4 << 20
MAX_OBJECT = 1 << 30

_HEAD_MAGIC = b"FLYTEVOL"
_TAIL_MAGIC = b"LOVETYLF"
_HEADER = struct.Struct("<8scB6x")
_ENTRY = struct.Struct("<32sIIB3x")
_TRAILER = struct.Struct("<16sIcBHQ8s")

HEADER_SIZE = _HEADER.size
ENTRY_SIZE = _ENTRY.size
TRAILER_SIZE = _TRAILER.size

_UPGRADE = "install a newer release of flyteplugins-vol"
_WORTH_IT = 0.95  # a block that zstd does not shrink by 5 % stays plain: reading it then costs no CPU
_TAIL = 16 << 10  # the footer of 370 entries
_local = threading.local()


class Entry(NamedTuple):
    """One block or segment in a container: ``offset`` and ``stored`` locate its stored bytes in the object."""

    hash: bytes
    offset: int
    stored: int
    size: int
    codec: int


@dataclass(frozen=True)
class Container:
    """A finished container: its name (64 hex digits), its bytes, its entries in order."""

    name: str
    data: bytes
    entries: tuple[Entry, ...]


def object_key(kind: bytes, name: str) -> str:
    """Key of a container below its store."""
    return f"{'packs' if kind == PACK else 'index'}/{name[:2]}/{name}"


def tail_size(count: int) -> int:
    """Bytes of footer and trailer of a container with ``count`` entries."""
    return count * ENTRY_SIZE + TRAILER_SIZE


def block_hash(plain: Data) -> bytes:
    """The 32-byte BLAKE3 hash that names a block or segment."""
    return blake3(plain).digest()


def encode(plain: Data) -> tuple[int, Data]:
    """``(codec, stored bytes)`` of plain bytes, compressed where it pays."""
    packed = _compressor().compress(plain)
    return (ZSTD, packed) if len(packed) <= len(plain) * _WORTH_IT else (PLAIN, plain)


def decode(entry: Entry, stored: Data) -> Data:
    """The plain bytes of an entry, checked against its hash. Raises `DamageError` if they are not what was written.

    Of an entry that is not compressed they are ``stored`` itself: a copy of 4 MiB costs more than its hash.
    """
    if len(stored) != entry.stored:
        raise DamageError(f"{len(stored)} bytes where {entry.stored} were stored")
    if entry.size > MAX_PLAIN:  # an entry may also come from an index, where no footer bounds it
        raise DamageError(f"it claims {entry.size} bytes")
    plain = stored if entry.codec == PLAIN else _decompress(entry, stored)
    if len(plain) != entry.size or block_hash(plain) != entry.hash:
        raise DamageError(f"content does not match its hash {entry.hash.hex()[:16]}…")
    return plain


def build(kind: bytes, bodies: Sequence[tuple[bytes, int, int, Data]], *, nonce: bytes | None = None) -> Container:
    """Make a container of ``(hash, plain size, codec, stored bytes)`` entries, in order.

    Each plain size is 1 byte to 4 MiB. ``nonce`` is 16 bytes, random unless a test wants the same object twice.
    """
    assert len(bodies) <= MAX_ENTRIES
    entries: list[Entry] = []
    offset = HEADER_SIZE
    for digest, size, codec, stored in bodies:
        entries.append(Entry(digest, offset, len(stored), size, codec))
        offset += len(stored)
    footer = b"".join(_ENTRY.pack(e.hash, e.stored, e.size, e.codec) for e in entries)
    trailer = _TRAILER.pack(nonce or os.urandom(16), len(entries), kind, VERSION, 0, offset - HEADER_SIZE, _TAIL_MAGIC)
    header = _HEADER.pack(_HEAD_MAGIC, kind, VERSION)
    data = b"".join([header, *(body[3] for body in bodies), footer, trailer])
    return Container(_name(footer + trailer), data, tuple(entries))


def upload(store: ObjectStore, kind: bytes, container: Container) -> None:
    """Make a new container durable in the store. Raises `StoreError`, or `DamageError` if it is not what was sent."""
    if not store.create(object_key(kind, container.name), container.data):
        raise _damaged(kind, container.name, f"{store.url} has other bytes under its name")


def renewed(kind: bytes, name: str, data: bytes) -> Container:
    """The same entries in a container with another nonce, and so another name. Raises `DamageError`."""
    bodies: list[tuple[bytes, int, int, bytes]] = []
    for entry in parse_footer(kind, name, data):
        stored = data[entry.offset : entry.offset + entry.stored]
        decode(entry, stored)
        bodies.append((entry.hash, entry.size, entry.codec, stored))
    return build(kind, bodies)


def check_whole(kind: bytes, name: str, data: Data) -> None:
    """Look at every byte of a container: header, footer against its name, each entry against its hash.

    Raises `DamageError`, `NewerFormatError`.
    """
    entries = parse_footer(kind, name, data)
    if bytes(data[:HEADER_SIZE]) != _HEADER.pack(_HEAD_MAGIC, kind, VERSION):
        raise _damaged(kind, name, "it does not begin as one")
    if whole_size(entries) != len(data):
        raise _damaged(kind, name, f"it has {len(data):,} bytes, and its footer is of {whole_size(entries):,}")
    view = memoryview(data)
    for entry in entries:
        try:
            decode(entry, view[entry.offset : entry.offset + entry.stored])
        except DamageError as error:
            raise _damaged(kind, name, error.message) from error


def whole_size(entries: Sequence[Entry]) -> int:
    """Bytes of the container that has these entries, all of them."""
    bodies = entries[-1].offset + entries[-1].stored if entries else HEADER_SIZE
    return bodies + tail_size(len(entries))


def read_footer(store: ObjectStore, kind: bytes, name: str) -> tuple[Entry, ...] | None:
    """Entries of a container, from its end; None: absent. One GET, or two if there are more than 370.

    Raises `DamageError`, `NewerFormatError`, `StoreError`.
    """
    key = object_key(kind, name)
    tail = store.get_tail(key, _TAIL)
    if tail is not None and (need := tail_size(count_of(kind, tail))) > len(tail):
        tail = store.get_tail(key, need)
    return None if tail is None else parse_footer(kind, name, tail)


def count_of(kind: bytes, tail: bytes) -> int:
    """Number of entries, from the last bytes of a container (at least its trailer)."""
    return _trailer(kind, tail)[0]


def parse_footer(kind: bytes, name: str, tail: Data) -> tuple[Entry, ...]:
    """Entries from the end of a container (footer and trailer at least), checked against its name."""
    count, stored = _trailer(kind, tail)
    need = tail_size(count)
    if len(tail) < need:
        raise _damaged(kind, name, "its footer is cut short")
    tail = tail[-need:]
    if _name(tail) != name:
        raise _damaged(kind, name, "its footer does not match its name")
    entries: list[Entry] = []
    offset = HEADER_SIZE
    for digest, length, size, codec in _ENTRY.iter_unpack(tail[: count * ENTRY_SIZE]):
        if codec not in (PLAIN, ZSTD):
            raise NewerFormatError(f"an object uses codec {codec}, which this release does not know", hint=_UPGRADE)
        if not 0 < length <= size <= MAX_PLAIN or (codec == PLAIN and length != size):
            raise _damaged(kind, name, "an entry is out of bounds")
        entries.append(Entry(digest, offset, length, size, codec))
        offset += length
    if offset - HEADER_SIZE != stored:
        raise _damaged(kind, name, "its entries do not add up")
    return tuple(entries)


def _trailer(kind: bytes, tail: Data) -> tuple[int, int]:
    if len(tail) < TRAILER_SIZE:
        raise _damaged(kind, "", "it is shorter than a trailer")
    _, count, found, version, flags, stored, magic = _TRAILER.unpack_from(tail, len(tail) - TRAILER_SIZE)
    if magic != _TAIL_MAGIC or found != kind:
        raise _damaged(kind, "", "it does not end as one")
    if version != VERSION or flags:
        raise NewerFormatError(
            f"an object has container version {version}, flags {flags:#x}; this release reads version {VERSION}",
            hint=_UPGRADE,
        )
    if count > MAX_ENTRIES:
        raise _damaged(kind, "", f"it claims {count} entries")
    return count, stored


def _damaged(kind: bytes, name: str, why: str) -> DamageError:
    cls, word = (PackDamagedError, "pack") if kind == PACK else (IndexDamagedError, "index object")
    label = f"{word} {name[:16]}…" if name else word
    return cls(f"damaged {label}: {why}", hint="restore the object from a copy of the store, or use another version")


def _name(tail: Data) -> str:
    return blake3(tail).hexdigest()


def _compressor() -> zstandard.ZstdCompressor:
    # Compressors are not thread-safe and cost 20 µs to make: one for each thread.
    found = getattr(_local, "compressor", None)
    if found is None:
        found = _local.compressor = zstandard.ZstdCompressor(level=1, write_checksum=False)
    return cast(zstandard.ZstdCompressor, found)


def _decompress(entry: Entry, stored: Data) -> bytes:
    try:
        # In one go, into a buffer of the size that frame and footer agree on: a frame that lies finds no room.
        if _declared(stored) != entry.size:
            return b""
        return zstandard.ZstdDecompressor(max_window_size=8 << 20).decompress(stored, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise DamageError(f"cannot decompress: {error}") from error


def _declared(stored: Data) -> int:
    size = zstandard.get_frame_parameters(bytes(stored[:18])).content_size
    return MAX_PLAIN + 1 if size in (zstandard.CONTENTSIZE_UNKNOWN, zstandard.CONTENTSIZE_ERROR) else size
