"""Pruning: delete the records of old versions of a volume. What they alone need goes with a later collection.

What must never happen is that a ref names a version that is gone. Refs move to versions that a commit has just
created, and those have a greater sequence than what `main` names, or the same (a commit whose answer was lost). So only
versions below `main` are ever deleted: no commit can move a ref to one of them, however long it was stopped on its
way. A tag may be given to any version at any moment; who gives one looks for the record afterwards, and a pruning looks
at the refs after its deletions, and restores.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta, timezone
from typing import Any

from flyteplugins_vol.errors import ConflictError, DamageError, NewerFormatError, UsageError, VersionNotFoundError
from flyteplugins_vol.history.copies import keep_copy, read_copy
from flyteplugins_vol.history.record import Locator, VersionRecord, load_record, parse_locator
from flyteplugins_vol.history.refs import MAIN
from flyteplugins_vol.history.roots import in_parallel
from flyteplugins_vol.history.volumes import VolumeEntry, list_refs, list_versions
from flyteplugins_vol.human import parse_time
from flyteplugins_vol.store.base import ObjectStore

Progress = Callable[[Mapping[str, Any]], None]

_YOUNG = timedelta(days=7)  # versions that no ref leads to are somebody's lost race: time to fork them
_AT_ONCE = 100  # copies that are written before their records are deleted: within the hour


@dataclass(frozen=True)
class Retention:
    """Which versions to keep: those that any of these keeps. What a ref names is kept in any case.

    ``last``: so many of the newest. ``daily``, ``weekly``, ``monthly``: the newest of each of the last so many days,
    weeks (from Monday) and months that have versions, by UTC. ``within``: all that are younger.
    """

    last: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    within: timedelta | None = None

    def check(self) -> None:
        """Raise `UsageError` for one that keeps nothing: that is meant by nobody."""
        counts = [self.last, self.daily, self.weekly, self.monthly]
        if min(counts) < 0 or (self.within is not None and self.within < timedelta()):
            raise UsageError("a policy has a negative number", hint="use numbers from 0")
        if not any(counts) and self.within is None:
            names = ", ".join(field.name for field in fields(self))
            raise UsageError("the policy does not say what to keep", hint=f"give one or several of {names}")


@dataclass(frozen=True)
class Kept:
    """A version that stays, and why."""

    locator: Locator
    reasons: tuple[str, ...]
    created: str = ""


@dataclass(frozen=True)
class Pruning:
    """What is deleted and what is kept, the oldest first. ``removed`` are records as they were read."""

    removed: tuple[VersionRecord, ...]
    kept: tuple[Kept, ...]


def plan_pruning(store: ObjectStore, volume: VolumeEntry, policy: Retention, *, now: datetime | None = None) -> Pruning:
    """What the policy would delete of a volume. One GET for each version.

    Raises `UsageError`, and `ConflictError` for a volume without a ref ``main``: nothing says what its newest is.
    """
    policy.check()
    now = now or datetime.now(timezone.utc)
    versions = list_versions(store, volume)
    named = _named(store, volume)  # after the versions: a ref that moved meanwhile only keeps more
    records: list[VersionRecord] = []
    reasons: dict[Locator, list[str]] = {}
    for locator, read in zip(versions, in_parallel(lambda at: _record(store, at), versions), strict=True):
        if isinstance(read, VersionRecord):
            records.append(read)
        elif read:
            reasons[locator] = [read]
    for record in records:
        reasons[record.locator] = [f"ref {name}" for name, file in sorted(named.items()) if file == record.locator.file]
        if record.sequence >= _sequence(named[MAIN]) and not reasons[record.locator]:
            reasons[record.locator].append(f"not older than {MAIN}")
    lines = _lines(records, named.values())
    for record in records:
        if record.locator.file not in lines and now - _created(record) < _YOUNG:
            reasons[record.locator].append("no ref leads to it, and it is young")
    for record, reason in _policy(policy, [one for one in records if one.locator.file in lines], now):
        reasons[record.locator].append(reason)
    if policy.within is not None:
        for record in records:
            if now - _created(record) < policy.within and record.locator.file not in lines:
                reasons[record.locator].append("within")
    created = {record.locator: record.created for record in records}
    kept = tuple(Kept(at, tuple(why), created.get(at, "")) for at in versions if (why := reasons.get(at)))
    return Pruning(tuple(record for record in records if not reasons[record.locator]), kept)


def prune(store: ObjectStore, volume: VolumeEntry, plan: Pruning, progress: Progress | None = None) -> list[Locator]:
    """Delete the versions that a plan removes, but for those that a ref names by now. Returns which were deleted.

    Only records: first a copy, as docs/FORMAT.md section 8 wants it, then the record. A stop anywhere leaves each
    version whole or deleted, and another pruning does the rest. Raises `ConflictError`, `StoreError`.
    """
    deleted: list[Locator] = []
    wanted = [record.locator for record in plan.removed]
    for start in range(0, len(wanted), _AT_ONCE):
        some = wanted[start : start + _AT_ONCE]
        copied = [at for at, done in zip(some, in_parallel(lambda at: keep_copy(store, at), some), strict=True) if done]
        named = _named(store, volume)
        free = [at for at in copied if at.file not in named.values()]  # and what was below main is so for ever
        in_parallel(lambda at: store.delete(at.key), free)
        deleted += restore_named(store, volume, free)
        if progress is not None:
            progress({"phase": "pruning", "done": min(start + _AT_ONCE, len(wanted)), "total": len(wanted)})
    return deleted


def restore_named(store: ObjectStore, volume: VolumeEntry, deleted: Sequence[Locator]) -> list[Locator]:
    """Bring back, from its copy, each version that somebody let a ref name while it was deleted; the others."""
    files = {ref.version for ref in list_refs(store, volume).values()}
    for locator in deleted:
        if locator.file in files:
            copy = read_copy(store, locator)
            if copy is not None:
                store.create(locator.key, copy.encode())
    return [locator for locator in deleted if locator.file not in files]


def _named(store: ObjectStore, volume: VolumeEntry) -> dict[str, str]:
    """File names of the versions that refs name, by ref."""
    named = {name: ref.version for name, ref in list_refs(store, volume).items()}
    if MAIN not in named:
        raise ConflictError(
            f"volume {volume} has no ref {MAIN}, so nothing says which version is its newest",
            hint="its first commit or its deletion may be under way: try again later, or delete the volume",
        )
    return named


def _record(store: ObjectStore, locator: Locator) -> VersionRecord | str:
    """The record, or why it is kept unread; '' for one that is gone."""
    try:
        return load_record(store, locator)
    except VersionNotFoundError:
        return ""
    except NewerFormatError:
        return "of a newer release"
    except DamageError:
        return "its record is damaged"


def _lines(records: Iterable[VersionRecord], heads: Iterable[str]) -> set[str]:
    """File names of all versions of this volume from which a ref can be reached, by any parent.

    Where a parent is gone (it was pruned, or a copy of the volume has some versions only), nothing says which of the
    older ones led there: then all do, but those with the number of one that does: they lost a race.
    """
    parents = {record.locator.file: _own_parents(record) for record in records}
    found = _follow(heads, parents)
    numbers = {_sequence(file) for file in found}
    below = max((_sequence(file) for file in found - parents.keys()), default=0)
    rest = sorted((file for file in parents if _sequence(file) < below), key=_sequence, reverse=True)
    for number, files in itertools.groupby(rest, _sequence):
        if number not in numbers:
            more = _follow(files, parents)
            numbers.update(map(_sequence, more))
            found |= more
    return found


def _follow(heads: Iterable[str], parents: Mapping[str, list[str]]) -> set[str]:
    """These versions and all that they came from, also the first ones that are gone."""
    found: set[str] = set()
    waiting = list(heads)
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting += parents.get(file, [])
    return found


def _own_parents(record: VersionRecord) -> list[str]:
    """File names of the parents that are versions of the same volume."""
    return [at.file for at in map(parse_locator, record.parents) if at.volume_id == record.volume_id]


def _policy(policy: Retention, records: list[VersionRecord], now: datetime) -> Iterable[tuple[VersionRecord, str]]:
    newest = sorted(records, key=lambda record: (record.sequence, record.created), reverse=True)
    for record in newest[: policy.last]:
        yield record, "last"
    for record in newest:
        if policy.within is not None and now - _created(record) < policy.within:
            yield record, "within"
    for count, name, period in (
        (policy.daily, "daily", _day),
        (policy.weekly, "weekly", _week),
        (policy.monthly, "monthly", _month),
    ):
        yield from ((record, name) for record in _newest_of_each(newest, period, count))


def _day(at: datetime) -> tuple[int, ...]:
    return at.year, at.month, at.day


def _week(at: datetime) -> tuple[int, ...]:
    return tuple(at.isocalendar())[:2]


def _month(at: datetime) -> tuple[int, ...]:
    return at.year, at.month


def _newest_of_each(
    newest: list[VersionRecord], period: Callable[[datetime], tuple[int, ...]], count: int
) -> Iterable[VersionRecord]:  # fmt: skip
    seen: set[tuple[int, ...]] = set()
    for record in newest:
        if len(seen) == count:
            return
        at = period(_created(record))
        if at not in seen:
            seen.add(at)
            yield record


def _created(record: VersionRecord) -> datetime:
    """By the clock of its writer; of one that cannot be read as a time, the future: it is kept by every age."""
    return parse_time(record.created) or datetime.max.replace(tzinfo=timezone.utc)


def _sequence(file: str) -> int:
    return int(file.partition("-")[0])
