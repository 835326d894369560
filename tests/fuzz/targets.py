"""What is fuzzed: each parser of bytes that somebody else may have written, with a few seeds and what it may raise.

A target is a function of bytes. It may return anything or raise one of its errors; everything else is a crash, and so
is taking longer than `SLOW` seconds.
"""

from __future__ import annotations

import json
import os
import random
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from flyteplugins_vol.errors import (
    DamageError,
    EncryptionKeyError,
    IndexDamagedError,
    LocatorError,
    NewerFormatError,
    RecordDamagedError,
    StoreError,
    UsageError,
    VolumeError,
    from_wire,
)
from flyteplugins_vol.history.holding import read_lease
from flyteplugins_vol.history.record import Locator, VersionRecord, decode_record, parse_locator
from flyteplugins_vol.history.refs import Ref, read_ref
from flyteplugins_vol.history.segments import checkout_segments
from flyteplugins_vol.index.check import check_published
from flyteplugins_vol.index.index import Index
from flyteplugins_vol.model import ROOT_INO, MountSpec
from flyteplugins_vol.mount import control
from flyteplugins_vol.store import keys
from flyteplugins_vol.store.base import Tagged, check_range, exactly
from flyteplugins_vol.store.cache import BlockCache
from flyteplugins_vol.store.cipher import Cipher
from flyteplugins_vol.store.container import INDEX, PACK, Entry, block_hash, count_of, decode, parse_footer
from flyteplugins_vol.store.encrypted import Encrypted
from flyteplugins_vol.store.memory import MemoryStore
from flyteplugins_vol.store.url import parse_store_url
from flyteplugins_vol.workspace.workspace import Workspace
from tests.fuzz.kernel import Kernels, mutated_request
from tests.fuzz.kernel import seeds as kernel_seeds
from tests.fuzz.mutate import mutated, mutated_database

GOLDEN = Path(__file__).parent.parent / "golden" / "v1" / "store"
SLOW = 5.0
KERNELS = Kernels()


@dataclass(frozen=True)
class Target:
    name: str
    run: Callable[[bytes], object]
    allowed: tuple[type[Exception], ...]
    seeds: Callable[[], list[bytes]]
    share: float = 1.0  # of the executions of a long run: those of cheap targets are many
    mutate: Callable[[random.Random, bytes, bytes], bytes] = mutated


def _record(data: bytes) -> object:
    record = decode_record(data, "s3://bucket/prefix")
    assert record.encode() == data
    assert parse_locator(str(record.locator)) == record.locator
    assert VersionRecord.from_wire(record.to_wire()) == record
    return record


class _OneObject(MemoryStore):
    """A store whose every object is the input."""

    def __init__(self, data: bytes) -> None:
        super().__init__("memory://fuzz")
        self._input = data

    def get_tagged(self, key: str) -> Tagged:
        return Tagged(self._input, "tag")

    def get(self, key: str) -> bytes:
        return self._input

    def get_range(self, key: str, offset: int, size: int) -> bytes:
        check_range(key, offset, size)
        return exactly(self._input[offset : offset + size], key, offset, size)

    def get_tail(self, key: str, size: int) -> bytes:
        return self._input[-size:]


def _ref(data: bytes) -> object:
    ref = read_ref(_OneObject(data), "volumes/golden-00c0ffee00c0ffee/refs/main.json")
    assert isinstance(ref, Ref)
    locator = Locator("s3://bucket/prefix", "golden", "00c0ffee00c0ffee", ref.version)
    assert parse_locator(str(locator)) == locator  # so it stays in its volume
    return ref


def _lease(data: bytes) -> object:
    return read_lease(_OneObject(data), "volumes/golden-00c0ffee00c0ffee/lease.json")


def _lease_seeds() -> list[bytes]:
    body = {
        "format": "flytevol/lease", "format_version": 1, "requires": [], "holder": "a" * 32, "fence": 3,
        "milliseconds": 30_000, "released": False, "until": 1_700_000_000_000, "host": "host", "pid": 77,
        "machine": "m", "started": "1", "user": None, "since": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    return [json.dumps(body).encode()]


def _locator(data: bytes) -> object:
    locator = parse_locator(data.decode("utf-8", "surrogateescape"))
    assert ".." not in locator.key.split("/")
    parse_store_url(locator.store_url)
    return locator


def _footer(data: bytes) -> object:
    from flyteplugins_vol.store.container import _name, tail_size

    count = count_of(PACK, data)
    # the name that would fit: a mutation of a footer is never believed else, and nothing behind that check is reached
    name = _name(data[-tail_size(count) :])
    entries = parse_footer(PACK, name, data)
    for entry in entries[:3]:
        try:
            decode(entry, data[entry.offset : entry.offset + entry.stored])
        except DamageError:
            pass
    return entries


def _frame(data: bytes) -> object:
    """A body of a container: the first bytes say what its footer claims."""
    from flyteplugins_vol.store.container import MAX_PLAIN, _decompress

    size = int.from_bytes(data[:4], "little")
    entry = Entry(bytes(32), 16, max(0, len(data) - 5), size, min(1, data[4] if len(data) > 4 else 0))
    plain = _decompress(entry, data[5:])
    assert len(plain) <= MAX_PLAIN
    return decode(entry._replace(hash=block_hash(plain)), data[5:])


def _segments(data: bytes) -> object:
    """An index object that is not what its record says: the name fits, the rest need not."""
    store = _OneObject(data)
    record = decode_record(_first_record(), "memory://fuzz")
    from flyteplugins_vol.store.container import TRAILER_SIZE, _name, tail_size

    count = count_of(INDEX, data) if len(data) >= TRAILER_SIZE else 0
    name = _name(data[-tail_size(min(count, 1000)) :])
    objects = tuple(replace(item, name=name, size=len(data)) for item in record.index.objects)
    with tempfile.TemporaryDirectory(dir=_scratch()) as room:
        return checkout_segments(store, replace(record.index, objects=objects), os.path.join(room, "index.db"))


_CIPHER = Cipher(bytes(32))
_SECRET = "a secret for fuzzing"
_PACK = "packs/ab/" + "ab" * 32


def _sealed(data: bytes) -> object:
    store = Encrypted(_OneObject(data), _SECRET)
    store._cipher = _CIPHER
    whole = store.get(_PACK)
    assert whole is not None
    assert whole in (_plain(300), _plain(40_000))  # what was encrypted, or nothing
    return store.get_tail(_PACK, 100)


def _plain(size: int) -> bytes:
    return bytes(range(256)) * (size >> 8) + bytes(size & 255)


def _sealed_seeds() -> list[bytes]:
    return [_CIPHER.seal(_PACK, _plain(size)) for size in (300, 40_000)]


def _envelope(data: bytes) -> object:
    plain = _CIPHER.unwrap("volumes/x", data)
    assert plain in (b"{}", _records()[0])
    return plain


def _envelope_seeds() -> list[bytes]:
    return [_CIPHER.wrap("volumes/x", plain) for plain in (b"{}", _records()[0])]


def _key(data: bytes) -> object:
    return keys._unwrapped(MemoryStore("memory://fuzz"), data, _SECRET)


def _key_seeds() -> list[bytes]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys, "_COST", {"n": 2, "r": 1, "p": 1})
        return [keys._wrapped(bytes(32), _SECRET)]


def _control(data: bytes) -> object:
    message = control.decode(data)
    assert control.decode(control.encode(message)) == message
    if "error" in message:
        from_wire(message["error"])
    return message


def _spec(data: bytes) -> object:
    message = control.decode(data)
    try:
        spec = MountSpec.from_wire(message["spec"])
    except (KeyError, TypeError, ValueError):  # between the two halves of one release: it need only not be believed
        return None
    return spec.to_wire()


def _url(data: bytes) -> object:
    url = parse_store_url(data.decode("utf-8", "surrogateescape"))
    assert ".." not in url.path.split("/")
    assert parse_store_url(url.text).text == url.text
    return url


def _index(data: bytes) -> object:
    """A whole index file, with what a mount does to it afterwards: look around, read, write, commit."""
    with tempfile.TemporaryDirectory(dir=_scratch()) as room:
        path = os.path.join(room, "index.db")
        Path(path).write_bytes(data)
        check_published(path)
        return _used(path, room)


def _index_unchecked(data: bytes) -> object:
    """The same without the checks on loading: as an index that is too large for them, or one in the cache."""
    with tempfile.TemporaryDirectory(dir=_scratch()) as room:
        path = os.path.join(room, "index.db")
        Path(path).write_bytes(data)
        return _used(path, room)


def _used(path: str, room: str) -> object:
    index = Index.open(path, read_only=True)
    cache = BlockCache(os.path.join(room, "cache"))
    workspace = Workspace(index, None, cache)
    seen = 0
    try:
        for ino, _ in zip(_walk(workspace), range(200), strict=False):
            seen += 1
            for act in (
                lambda ino: workspace.read(ino, 0, 100_000),
                lambda ino: workspace.read(ino, (1 << 63) - 5000, 4096),
                workspace.listxattr,
                workspace.path_of,
                workspace.readlink,
            ):
                try:
                    act(ino)
                except (OSError, VolumeError, sqlite3.DatabaseError):
                    pass
        return seen
    finally:
        workspace.close()
        cache.close()


def _walk(workspace: Workspace) -> Iterator[int]:
    todo = [ROOT_INO]
    while todo:
        ino = todo.pop()
        try:
            after: bytes | None = None
            while page := workspace.readdir(ino, after, 100):
                for name, inode in page:
                    assert 0 < len(name) <= 255
                    assert b"/" not in name
                    assert b"\0" not in name
                    assert name not in (b".", b"..")
                    again = workspace.lookup(ino, name)
                    # a page out of order is found by a scan and not by a search: that is an answer
                    assert again is None or again.ino == inode.ino
                    yield inode.ino
                    if inode.is_dir:
                        todo.append(inode.ino)
                after = page[-1][0]
        except (OSError, VolumeError, sqlite3.DatabaseError):
            pass


# -- seeds -----------------------------------------------------------------------------------------------------------


def _files(pattern: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted(GOLDEN.glob(pattern)) if path.is_file()]


def _first_record() -> bytes:
    return _files("volumes/*/versions/*.json")[0]


def _records() -> list[bytes]:
    return _files("volumes/*/versions/*.json")


def _refs() -> list[bytes]:
    found = _files("volumes/*/refs/*.json")
    return [*found, *(json.dumps({**json.loads(data), "fence": 5}).encode() for data in found)]


def _locators() -> list[bytes]:
    keys = [str(path.relative_to(GOLDEN)) for path in GOLDEN.glob("volumes/*/versions/*.json")]
    return [f"{store}/{key}".encode() for key in keys for store in ("s3://bucket/a/b", "file:///x", "az://c@d/e")]


def _urls() -> list[bytes]:
    azure = "az://c@account.dfs.core.windows.net/p"
    texts = ("s3://bucket/a/../b", "file:///a%2e%2e/b", "/absolute", azure, "memory://x", "gs://u:p@h/")
    return [text.encode() for text in texts]


def _specs() -> list[bytes]:
    spec = MountSpec("00c0ffee00c0ffee", "golden", "s3://b/p", "/mnt", "/meta", "/cache", {"config": {"k": "v"}})
    return [control.encode({"spec": spec.to_wire(), "client": 5})]


def _messages() -> list[bytes]:
    error = IndexDamagedError("message", hint="hint").to_wire()
    made = ({"request": "commit", "message": "x\n"}, {"error": error}, {"progress": {"done": 1}}, {"result": {}})
    return [control.encode(message) for message in made]


def _frames() -> list[bytes]:
    from flyteplugins_vol.store.container import encode

    made: list[bytes] = []
    for plain in (b"a" * 5000, bytes(range(256)) * 30, os.urandom(300), b"x"):
        codec, stored = encode(plain)
        made.append(len(plain).to_bytes(4, "little") + bytes([codec]) + stored)
    return made


def _indexes() -> list[bytes]:
    made: list[bytes] = []
    for data in _records():
        record = decode_record(data, "file://x")
        objects = {item.name: item for item in record.index.objects}
        store = _Golden()
        with tempfile.TemporaryDirectory(dir=_scratch()) as room:
            checkout_segments(store, record.index, os.path.join(room, "index.db"))
            made.append((Path(room) / "index.db").read_bytes())
        assert objects
    return made


class _Golden(MemoryStore):
    def __init__(self) -> None:
        super().__init__("memory://golden")

    def get(self, key: str) -> bytes:
        return (GOLDEN / key).read_bytes()

    def get_range(self, key: str, offset: int, size: int) -> bytes:
        return exactly(self.get(key)[offset : offset + size], key, offset, size)


def _scratch() -> str | None:
    return "/dev/shm" if os.path.isdir("/dev/shm") else None


TARGETS = (
    Target("record", _record, (RecordDamagedError, NewerFormatError), _records, 1.0),
    Target("ref", _ref, (RecordDamagedError, NewerFormatError), _refs, 3.0),
    Target("lease", _lease, (RecordDamagedError, NewerFormatError), _lease_seeds, 1.0),
    Target("locator", _locator, (LocatorError, UsageError), _locators, 6.0),
    Target("store-url", _url, (UsageError,), _urls, 4.0),
    Target("footer", _footer, (DamageError, NewerFormatError), lambda: _files("packs/*/*"), 1.5),
    Target("frame", _frame, (DamageError,), _frames, 1.5),
    Target("control", _control, (UsageError,), _messages, 4.0),
    Target("mount-spec", _spec, (UsageError,), _specs, 2.0),
    Target("sealed", _sealed, (DamageError,), _sealed_seeds, 0.5),
    Target("envelope", _envelope, (DamageError, EncryptionKeyError), _envelope_seeds, 0.5),
    Target("key", _key, (RecordDamagedError, NewerFormatError, EncryptionKeyError), _key_seeds, 0.1),
    Target("kernel", KERNELS.ask, (), kernel_seeds, 0.5, mutated_request),
    Target("segments", _segments, (DamageError, NewerFormatError, StoreError), lambda: _files("index/*/*"), 0.05),
    Target("index", _index, (IndexDamagedError, NewerFormatError), _indexes, 0.03, mutated_database),
    Target(
        "index-unchecked", _index_unchecked, (IndexDamagedError, NewerFormatError), _indexes, 0.03, mutated_database
    ),
)
