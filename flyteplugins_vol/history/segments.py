"""The index file in segments: upload those that changed, bring all together again.

A segment is 16 KiB of the file: ten changed files among 100,000 then upload 270 KB, with 32 KiB it was 570 KB. A commit
hashes the file once (6 GB/s) and uploads what differs from the version that it builds on, in one object; everything
else stays where earlier versions put it. When a version would need segments of too many objects, the smallest are
rewritten into the new one, so that a checkout stays a few requests.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from flyteplugins_vol.errors import DamageError, IndexDamagedError, ObjectMissingError, StoreError
from flyteplugins_vol.history.asking import insist
from flyteplugins_vol.history.record import IndexMap, IndexObject
from flyteplugins_vol.portable import OPEN_FLAGS, pread, pwrite
from flyteplugins_vol.store.base import Data, ObjectStore
from flyteplugins_vol.store.container import (
    INDEX,
    Entry,
    block_hash,
    build,
    decode,
    encode,
    object_key,
    parse_footer,
    tail_size,
    upload,
)
from flyteplugins_vol.store.daemonpool import DaemonPool

SEGMENT_SIZE = 16 << 10
_MAX_OBJECTS = 24
_FOLD = 16  # objects rewritten at once when there are too many
_PER_OBJECT = 8192  # segments of one object: 128 MiB of index
_MAX_RUNS = 4096  # a map more scattered than this is rewritten whole: it would make records of 100 KB
_WHOLE = 1 << 20  # an object smaller than this is fetched whole
_GAP = 128 << 10
_WORKERS = 8
_HINT = "restore the object from a copy of the store, or use another version"


@dataclass(frozen=True)
class Segments:
    """A published index file: where its segments are, and the hash of each."""

    map: IndexMap
    hashes: tuple[bytes, ...]


@dataclass(frozen=True)
class Published:
    """What a publication made: the new map, and what it cost."""

    segments: Segments
    objects: int
    bytes: int


def hash_file(path: str) -> list[bytes]:
    """The hash of each segment of an index file."""
    return [block_hash(data) for data in _read(path)]


def summary(hashes: Iterable[bytes]) -> str:
    """One hash of an index file, from those of its segments."""
    return block_hash(b"".join(hashes)).hex()


def publish_segments(store: ObjectStore, path: str, base: Segments | None) -> Published:
    """Upload what differs from ``base``; nothing refers to it before the version record does."""
    if base is not None and base.map.segment_size != SEGMENT_SIZE:
        base = None  # of a release with other segments: nothing to share
    hashes = hash_file(path)
    places = _places(base) if base is not None else []
    known = list(base.hashes) if base is not None else []
    changed = [i for i, digest in enumerate(hashes) if i >= len(known) or known[i] != digest]
    changed = _fold(changed, places[: len(hashes)], bool(changed))
    objects = list(base.map.objects) if base is not None else []
    place: list[tuple[int, int]] = [*places[: len(hashes)], *[(-1, -1)] * (len(hashes) - len(places))]
    uploaded = 0
    made = 0
    for start in range(0, len(changed), _PER_OBJECT):
        part = changed[start : start + _PER_OBJECT]
        container = build(INDEX, [_body(data) for data in _read(path, part)])
        upload(store, INDEX, container)
        uploaded += len(container.data)
        made += 1
        for entry, segment in enumerate(part):
            place[segment] = (len(objects), entry)
        objects.append(IndexObject(container.name, len(container.data), len(part)))
    index = _compact(os.path.getsize(path), objects, place)
    if len(index.runs) > _MAX_RUNS and base is not None:
        return publish_segments(store, path, None)
    return Published(Segments(index, tuple(hashes)), made, uploaded)


def checkout_segments(store: ObjectStore, index: IndexMap, path: str) -> Segments:
    """Write the index file to ``path``, every segment checked. Raises `StoreError` or `IndexDamagedError`."""
    hashes: list[bytes] = [b""] * sum(run[2] for run in index.runs)
    _bring_all(store, index, path, range(len(hashes)), hashes)
    return Segments(index, tuple(hashes))


def change_checkout(store: ObjectStore, before: IndexMap | None, index: IndexMap, path: str) -> None:
    """Make the index file at ``path``, which is that of ``before``, into another one; raises as `checkout_segments`.

    Brings only what differs. After an error the file is neither.
    """
    known = _named(before) if before is not None and before.segment_size == index.segment_size else []
    places = _named(index)
    ends = (len(known) - 1, len(places) - 1)  # may be shorter than the others
    differ = [i for i, place in enumerate(places) if i >= len(known) or known[i] != place or i in ends]
    _bring_all(store, index, path, differ, [b""] * len(places))


def _named(index: IndexMap) -> list[tuple[str, int]]:
    """Name of the object, and entry, of each segment."""
    return [(index.objects[number].name, entry) for number, entry in _expand(index)]


def _bring_all(
    store: ObjectStore, index: IndexMap, path: str, segments: Iterable[int], hashes: list[bytes]
) -> None:  # fmt: skip
    places = list(_expand(index))
    wanted: dict[int, list[tuple[int, int]]] = {}
    for segment in segments:
        number, entry = places[segment]
        wanted.setdefault(number, []).append((entry, segment))
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | OPEN_FLAGS, 0o600)
    try:
        with DaemonPool(_WORKERS, "index") as pool:
            jobs = [pool.submit(_bring, store, index, number, live, fd, hashes) for number, live in wanted.items()]
            for job in jobs:
                job.result()
        os.ftruncate(fd, index.size)
    finally:
        os.close(fd)


def _bring(
    store: ObjectStore, index: IndexMap, number: int, live: list[tuple[int, int]], fd: int, hashes: list[bytes]
) -> None:
    insist(lambda: _bring_once(store, index, number, live, fd, hashes))


def _bring_once(
    store: ObjectStore, index: IndexMap, number: int, live: list[tuple[int, int]], fd: int, hashes: list[bytes]
) -> None:
    item = index.objects[number]
    key = object_key(INDEX, item.name)
    try:
        entries, pieces = _fetch(store, key, item, [entry for entry, _ in live])
        for entry, segment in live:
            plain = decode(entries[entry], pieces[entry])
            size = min(index.segment_size, index.size - segment * index.segment_size)
            if len(plain) != size:
                raise DamageError(f"segment {segment} has {len(plain)} bytes, not {size}")
            pwrite(fd, plain, segment * index.segment_size)
            hashes[segment] = entries[entry].hash
    except DamageError as error:
        raise IndexDamagedError(f"{store.url}/{key} is damaged: {error.message}", hint=_HINT) from error
    except StoreError as error:
        if type(error) is not StoreError:
            raise
        raise IndexDamagedError(f"{store.url}/{key} is cut short: {error.message}", hint=_HINT) from error


def _fetch(
    store: ObjectStore, key: str, item: IndexObject, live: list[int]
) -> tuple[tuple[Entry, ...], dict[int, memoryview]]:
    """Footer entries and stored bytes of the live ones: all in one GET, or footer and ranges where few are live."""
    if item.size <= _WHOLE or len(live) * 2 >= item.entries:
        data = _present(store.get_range(key, 0, item.size), store, key)  # the record says how much there is to read
        entries = _checked(parse_footer(INDEX, item.name, data), item)
        view = memoryview(data)
        return entries, {i: view[entries[i].offset : entries[i].offset + entries[i].stored] for i in live}
    tail = _present(store.get_tail(key, tail_size(item.entries)), store, key)
    entries = _checked(parse_footer(INDEX, item.name, tail), item)
    pieces: dict[int, memoryview] = {}
    for span in _spans(entries, sorted(live)):
        start = entries[span[0]].offset
        size = entries[span[-1]].offset + entries[span[-1]].stored - start
        data = memoryview(_present(store.get_range(key, start, size), store, key))
        for i in span:
            at = entries[i].offset - start
            pieces[i] = data[at : at + entries[i].stored]
    return entries, pieces


def _checked(entries: tuple[Entry, ...], item: IndexObject) -> tuple[Entry, ...]:
    """The footer's entries, if they are as many as the record says and end where the object's bodies do."""
    if len(entries) != item.entries or entries[-1].offset + entries[-1].stored + tail_size(item.entries) != item.size:
        raise DamageError("it is not the object that the version record describes")
    return entries


def _present(data: Data | None, store: ObjectStore, key: str) -> Data:
    if data is None:
        raise ObjectMissingError(f"{store.url}/{key} is missing", hint=_HINT)
    return data


def _spans(entries: Sequence[Entry], live: list[int]) -> Iterator[list[int]]:
    span: list[int] = []
    for i in live:
        if span and entries[i].offset - entries[span[-1]].offset - entries[span[-1]].stored > _GAP:
            yield span
            span = []
        span.append(i)
    if span:
        yield span


def _fold(changed: list[int], places: list[tuple[int, int]], any_change: bool) -> list[int]:
    """The segments to upload: those that changed, and all of the smallest objects when a version needs too many."""
    fresh = set(changed)
    live: dict[int, list[int]] = {}
    for segment, (number, _) in enumerate(places):
        if segment not in fresh:
            live.setdefault(number, []).append(segment)
    if not any_change or len(live) < _MAX_OBJECTS:
        return changed
    for number in sorted(live, key=lambda number: len(live[number]))[:_FOLD]:
        fresh.update(live[number])
    return sorted(fresh)


def _places(base: Segments) -> list[tuple[int, int]]:
    return list(_expand(base.map))


def _expand(index: IndexMap) -> Iterator[tuple[int, int]]:
    """``(object, entry)`` of each segment in order."""
    for number, first, count in index.runs:
        for entry in range(first, first + count):
            yield number, entry


def _compact(size: int, objects: list[IndexObject], places: list[tuple[int, int]]) -> IndexMap:
    """A map without objects that hold nothing of this version any more, its runs as long as they can be."""
    used = sorted({number for number, _ in places})
    renumber = {old: new for new, old in enumerate(used)}
    runs: list[tuple[int, int, int]] = []
    # neighbours that lie in the same object one after the other keep the same difference of entry and position
    for _, group in groupby(enumerate(places), key=lambda item: (item[1][0], item[1][1] - item[0])):
        members = list(group)
        number, first = members[0][1]
        runs.append((renumber[number], first, len(members)))
    return IndexMap(size, SEGMENT_SIZE, tuple(objects[old] for old in used), tuple(runs))


def _body(data: bytes) -> tuple[bytes, int, int, Data]:
    codec, stored = encode(data)
    return block_hash(data), len(data), codec, stored


def _read(path: str, segments: list[int] | None = None) -> Iterator[bytes]:
    with open(path, "rb", buffering=0) as file:
        if segments is None:
            while data := file.read(SEGMENT_SIZE):
                yield data
        else:
            for segment in segments:
                yield pread(file.fileno(), SEGMENT_SIZE, segment * SEGMENT_SIZE)
