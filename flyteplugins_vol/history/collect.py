"""Collecting garbage: delete the packs and index objects of a store that no version refers to.

docs/FORMAT.md, section 8, has the rules, and docs/design/0004-collecting-garbage.md why they hold. In short: an object
is *dead* if it is older than a week and neither a record nor a young copy of a deleted one names it (older than three
months, if no version is known to have named it at all). A collection
marks what it finds dead, and deletes what was marked at least ``grace`` ago, in every mark since, and is dead still.
All times are the store's own: those at which it says that objects were written.

One function has the order, `collect`; a stop anywhere leaves marks, which are only marks, or less garbage.
"""

from __future__ import annotations

import itertools
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from flyteplugins_vol.errors import (
    ConflictError,
    DamageError,
    NewerFormatError,
    ObjectMissingError,
    StoreUnavailableError,
    UsageError,
)
from flyteplugins_vol.history.copies import copy_key, read_copy
from flyteplugins_vol.history.marks import (
    KEY,
    LISTS,
    MOST,
    Marks,
    create_list,
    list_key,
    read_list,
    read_marks,
    write_marks,
)
from flyteplugins_vol.history.record import Locator, VersionRecord
from flyteplugins_vol.history.roots import (
    Listed,
    References,
    in_parallel,
    list_all,
    read_records,
    vanished,
    with_reason,
)
from flyteplugins_vol.store.base import ObjectInfo, ObjectStore

Progress = Callable[[Mapping[str, Any]], None]

WEEK = timedelta(days=7)
"""How long objects and copies of records are safe after they were written: docs/FORMAT.md, section 8."""
GRACE = timedelta(days=7)
LEAST_GRACE = timedelta(days=1)
ABANDONED = timedelta(days=90)
"""How old an object must be that no version is known to have named. It may be all that is left of what a killed
workspace wrote, and that workspace may be resumed yet."""

_LONGEST = 20 * 3600.0  # seconds from the listing of records to the last deletion
_MANY_LISTS = 50  # in force: from here on deletions make no more of them, so that no more than 100 are ever needed
_AT_ONCE = 64  # deletions between two looks at whether this is still the last collection that began
_KINDS = ("index/", "packs/")  # the order of deletion
_CONTAINER = re.compile(r"(?:index|packs)/([0-9a-f]{2})/\1[0-9a-f]{62}")  # anything else is none of ours
_LONG_AGO = datetime(2000, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Tally:
    """A number of objects, and the bytes of all of them as they are stored."""

    objects: int = 0
    bytes: int = 0

    @classmethod
    def of(cls, sizes: Iterable[int]) -> Tally:
        found = list(sizes)
        return cls(len(found), sum(found))


@dataclass(frozen=True)
class Collection:
    """What a collection did, or would do (``dry_run``). All objects are packs and index objects."""

    dry_run: bool
    versions: int  # that there are, of all volumes
    kept_deleted: int  # deleted versions whose objects are kept for those who may still build on them
    objects: Tally  # in the store before
    deleted: Tally
    marked: Tally  # dead, and waiting for their time
    recent: Tally  # that no version refers to, and too young: perhaps of a workspace that is still to be committed
    next: datetime | None  # when some of what is marked can be deleted, by the store's clock


@dataclass
class _Found:
    """The store as one collection sees it."""

    now: datetime  # by the store's clock, or somewhat before
    containers: dict[str, ObjectInfo]
    records: dict[Locator, VersionRecord]
    references: References
    expired: list[Locator] = field(default_factory=lambda: [])  # copies whose time is over
    known: frozenset[str] = frozenset()  # keys that a version has named, once
    abandoned: timedelta = ABANDONED
    kept: set[Locator] = field(default_factory=set[Locator])

    def unnamed(self) -> list[ObjectInfo]:
        return [info for key, info in sorted(self.containers.items()) if key not in self.references.keys]

    def dead(self) -> dict[str, ObjectInfo]:
        """What may be marked and deleted by its age."""
        return {info.key: info for info in self.unnamed() if info.modified < self.now - self._age(info.key)}

    def _age(self, key: str) -> timedelta:
        return WEEK if key in self.known else self.abandoned


def collect(
    store: ObjectStore, *, grace: timedelta = GRACE, abandoned: timedelta = ABANDONED, dry_run: bool = False,
    scratch: str | None = None, progress: Progress | None = None, clock: Callable[[], float] | None = None,
    now: datetime | None = None,
) -> Collection:  # fmt: skip
    """Mark what is dead, and delete what was marked at least ``grace`` ago and is dead still. Blocks.

    ``abandoned``: the age of what no version has named, see `ABANDONED`. ``scratch``: a directory with room for the
    largest index. ``clock``: seconds that also pass in sleep. ``now``: what a dry run takes for the present; by default
    what this machine does. Raises `DamageError`, `NewerFormatError`, `EncryptionKeyError` where something cannot be
    read and `StoreUnavailableError` where a listing cannot be believed: then nothing was deleted. `ConflictError`:
    another collection began.
    """
    if grace < LEAST_GRACE:
        raise UsageError(
            f"a grace time of {grace} is too short", hint="at least a day, so that what is being written is seen"
        )
    if abandoned < WEEK:
        raise UsageError(f"{abandoned} is too short for what is being uploaded", hint="at least 7 days")
    tell, clock = progress or _ignore, clock or _seconds
    marks = with_reason(lambda: read_marks(store), "what an earlier collection marked")
    if not dry_run:
        marks = _begin(store, marks)
    ages = {info.key: info.modified for info in store.list("gc/")}
    start = clock()
    with tempfile.TemporaryDirectory(dir=scratch, prefix="gc-") as directory:
        tell({"phase": "looking"})
        present = ages.get(KEY) if not dry_run else now or datetime.now(timezone.utc)
        found = _look(store, directory, present)
        found.abandoned = abandoned
        found.known = _once_named(store, directory, found, marks)
        dead = found.dead()
        ripe, keep = _ripe(store, marks, ages, found.now - grace)
        doomed = [info for key, info in dead.items() if key in ripe]
        if doomed and not dry_run:
            _look_again(store, found)
            dead = found.dead()
            doomed = [info for info in doomed if info.key in dead]
        if not dry_run:
            assert marks is not None
            guard = _Guard(store, marks, clock, start)
            _delete(store, doomed, guard, tell)
            left = dead.keys() - {info.key for info in doomed}
            gone = {info.key for info in doomed}
            marks, keep, ages, listed = _mark(store, marks, keep, ages, left, gone, found.now, grace)
            if not (left & found.known) - listed:  # else they are needed once more, to know by
                _forget_copies(store, found, _Guard(store, marks, clock, start))
    gone = {info.key for info in doomed}
    unnamed = found.unnamed()
    marked = [info for info in dead.values() if info.key not in gone]
    waiting = [age for age in (ages[list_key(name)] for name in keep) if age > found.now - grace]
    return Collection(
        dry_run=dry_run,
        versions=len(found.records),
        kept_deleted=len(found.kept),
        objects=Tally.of(info.size for info in found.containers.values()),
        deleted=Tally.of(info.size for info in doomed),
        marked=Tally.of(info.size for info in marked),
        recent=Tally.of(info.size for info in unnamed if info.key not in dead),
        next=min(waiting, default=found.now) + grace if marked else None,
    )


def _begin(store: ObjectStore, marks: Marks | None) -> Marks:
    """Say that a collection begins. Everybody who publishes later, and every other collection, takes note of it."""
    begun = write_marks(store, marks.lists if marks is not None else (), marks)
    if begun is None:
        raise _other(store)
    return begun


def _look(store: ObjectStore, directory: str, now: datetime | None) -> _Found:
    """Containers first, then the records that may name them: what is uploaded later is not looked at."""
    every = (info for kind in _KINDS for info in store.list(kind))
    containers = {info.key: info for info in every if _CONTAINER.fullmatch(info.key)}
    listed = list_all(store)
    if now is None:  # a listing that is late: the last time at which anything is known to have been written
        times = [info.modified for info in containers.values()]
        now = max([*times, listed.newest or _LONG_AGO])
    records = read_records(store, listed, {})
    references = References(store, directory)
    references.add_all(records.values())
    found = _Found(now, containers, records, references)
    _add_copies(store, found, listed)
    return found


def _add_copies(store: ObjectStore, found: _Found, listed: Listed) -> None:
    """What deleted versions refer to lives as long as somebody may build on them without having looked again."""
    for locator, written in sorted(listed.copies.items(), key=lambda item: str(item[0])):
        if locator in found.records or locator in found.kept:
            continue
        if written < found.now - WEEK:
            found.expired.append(locator)
            continue
        copy = with_reason(lambda at=locator: read_copy(store, at), f"the copy of version {locator}")
        if copy is None:
            raise vanished(store, locator)
        found.references.add_all([copy])
        found.kept.add(locator)


def _once_named(store: ObjectStore, directory: str, found: _Found, marks: Marks | None) -> frozenset[str]:
    """What deleted versions named whose copies are about to go, and what was marked before."""
    references = References(store, tempfile.mkdtemp(dir=directory))
    for locator in found.expired:
        with suppress(DamageError, NewerFormatError, ObjectMissingError):  # then it is only kept for longer
            if (copy := read_copy(store, locator)) is not None:
                references.add(copy)
    listed = read_list(store, marks.lists[-1]) if marks is not None and marks.lists else None
    return frozenset(references.keys) | (listed or frozenset())


def _look_again(store: ObjectStore, found: _Found) -> None:
    """Right before anything is deleted: records that came since, and whether those that went left their copies."""
    listed = list_all(store)
    for locator in found.records.keys() - listed.records:
        if locator not in listed.copies:
            raise vanished(store, locator)
    records = read_records(store, listed, found.records)
    found.references.add_all(record for locator, record in records.items() if locator not in found.records)
    found.records = records
    found.expired.clear()
    _add_copies(store, found, listed)


def _ripe(
    store: ObjectStore, marks: Marks | None, ages: Mapping[str, datetime], before: datetime
) -> tuple[set[str], list[str]]:
    """What was marked before that time and in every list since; and the lists that are still to be kept."""
    names = [name for name in marks.lists if list_key(name) in ages] if marks is not None else []
    if marks is not None and len(names) != len(marks.lists):
        there = read_marks(store)
        if there is None or there.run != marks.run:
            raise _other(store)
        raise StoreUnavailableError(
            f"{store.url}/{KEY} names lists that are not there", hint="try again in a minute; or remove that object"
        )
    names.sort(key=lambda name: ages[list_key(name)])
    old = [name for name in names if ages[list_key(name)] <= before]
    if not old:
        return set(), names
    ripe: set[str] | None = None
    for name in (old[-1], *names[len(old) :]):
        keys = with_reason(lambda name=name: read_list(store, name), list_key(name))
        ripe = set(keys or ()) if ripe is None else ripe & (keys or frozenset())
    return ripe or set(), names[len(old) - 1 :]


class _Guard:
    """Whether this collection may go on to delete: it is the last that began, and not long ago."""

    def __init__(self, store: ObjectStore, marks: Marks, clock: Callable[[], float], start: float) -> None:
        self._store = store
        self._marks = marks
        self._clock = clock
        self._start = start

    def check(self) -> None:
        there = read_marks(self._store)
        if there is None or there.run != self._marks.run:
            raise _other(self._store)
        self.check_time()

    def check_time(self) -> None:
        """Without a look at the store: before each deletion, since a machine may sleep between any two."""
        if not 0 <= self._clock() - self._start < _LONGEST:
            raise StoreUnavailableError(
                "this collection took too long, and deletes no more by what it saw", hint="collect again"
            )


def _delete(store: ObjectStore, doomed: list[ObjectInfo], guard: _Guard, tell: Progress) -> None:
    """Index objects first: whoever reads a version that was deleted finds out at once."""

    def delete(info: ObjectInfo) -> None:
        guard.check_time()
        store.delete(info.key)

    ordered = [info for kind in _KINDS for info in doomed if info.key.startswith(kind)]
    done = 0
    for some in _batches(ordered):
        guard.check()
        in_parallel(delete, some)
        done += len(some)
        tell({"phase": "deleting", "done": done, "total": len(ordered)})


def _forget_copies(store: ObjectStore, found: _Found, guard: _Guard) -> None:
    for some in _batches(found.expired):
        guard.check()
        in_parallel(lambda locator: store.delete(copy_key(locator)), some)


def _mark(
    store: ObjectStore, marks: Marks, keep: list[str], ages: Mapping[str, datetime], left: Iterable[str],
    gone: Iterable[str], now: datetime, grace: timedelta,
) -> tuple[Marks, list[str], Mapping[str, datetime], frozenset[str]]:  # fmt: skip
    """Write down what is dead and still there, unless that was done a moment ago; drop the lists that are done with.

    What is ``gone`` is written down as well, to be in force for another day: a collection that was stopped in the midst
    of its deletions may go on for so long, and a copy of a version must not bring such a name back meanwhile.
    """
    last = read_list(store, keep[-1]) if keep else None
    listed = last if last is not None else frozenset[str]()
    wanted = sorted(left, key=lambda key: (key not in listed, key))[:MOST]  # what waits already goes first
    recent = bool(keep) and ages[list_key(keep[-1])] > now - grace / 8
    deleted = sorted(gone)[: MOST - len(wanted)] if len(keep) < _MANY_LISTS else []
    if deleted or (wanted and not set(wanted) <= listed and not recent):
        keep, listed = [*keep, create_list(store, [*wanted, *deleted])], frozenset(wanted)
        ages = {info.key: info.modified for info in store.list("gc/")}
    elif not wanted and (not keep or ages[list_key(keep[-1])] <= now - LEAST_GRACE):
        keep = []
    if tuple(keep) != marks.lists:
        written = write_marks(store, keep, marks)
        if written is None:
            raise _other(store)
        marks = written
    in_force = {list_key(name) for name in keep}
    for key, modified in ages.items():  # those of others that began meanwhile are young
        if key.startswith(LISTS) and key not in in_force and modified < now - LEAST_GRACE:
            store.delete(key)
    return marks, keep, ages, listed


def _batches(items: list[Any]) -> Iterable[list[Any]]:
    rest = iter(items)
    while some := list(itertools.islice(rest, _AT_ONCE)):
        yield some


def _other(store: ObjectStore) -> ConflictError:
    return ConflictError(
        f"another collection of {store.url} began meanwhile, and does the rest", hint="wait until it has ended"
    )


def _seconds() -> float:
    """Seconds that also pass while the machine sleeps; the wall clock where there is no other."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.time()


def _ignore(_: Mapping[str, Any]) -> None:
    return
