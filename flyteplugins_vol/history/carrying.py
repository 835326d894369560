"""Containers carried from one store to another, as they are: packs and index objects.

What arrives is proven before anything names it. Each container is read whole and every byte of it checked: its header,
its footer against its name, each entry against its hash. Then it is created, looked for as every write is, and its
footer read back. One that is there already is looked at the same way, by its footer and its size. So a second try
carries only what is missing, and nobody's word is taken for what lies in either store.

Encryption is no matter here: stores that are encrypted show plain bytes, and what is written to one is encrypted on its
way, with its own key.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

from flyteplugins_vol.errors import (
    DamageError,
    IndexDamagedError,
    ObjectMissingError,
    PackDamagedError,
    StoreError,
    StoreUnavailableError,
)
from flyteplugins_vol.history.asking import insist
from flyteplugins_vol.history.roots import in_parallel
from flyteplugins_vol.store.base import Data, ObjectStore
from flyteplugins_vol.store.container import INDEX, PACK, check_whole, object_key, read_footer, whole_size
from flyteplugins_vol.store.daemonpool import DaemonPool
from flyteplugins_vol.workspace.crew import LEAST as PACKS_AT_ONCE

Progress = Callable[[Mapping[str, Any]], None]

_MOST_BYTES = 128 << 20  # of containers under way at once; one that is larger goes alone
_SOURCE_HINT = "`flytevol verify` names the files that are lost; restore the object, or copy another version"
_TARGET_HINT = (
    "nothing that is there is written over: restore the object there, or delete it if no version there needs it, "
    "and copy again"
)


class Item(NamedTuple):
    """One container: its kind (`PACK`, `INDEX`), its name, and the bytes of it, before any encryption."""

    kind: bytes
    name: str
    size: int

    @property
    def key(self) -> str:
        return object_key(self.kind, self.name)


def find_missing(target: ObjectStore, items: Iterable[Item]) -> list[Item]:
    """Those of the items that the store does not have. Raises `DamageError` for one that is there and is not whole.

    One listing for each of the directories that they would be in, since a store that is asked for what is absent looks
    three times; and one GET for each that is listed.
    """
    wanted = {item.key: item for item in items}
    prefixes = sorted({key.rpartition("/")[0] + "/" for key in wanted})
    listed = in_parallel(lambda prefix: {info.key for info in target.list(prefix)}, prefixes)
    names = set[str]().union(*listed)
    likely = [item for key, item in wanted.items() if key in names]
    there = {item.key for item, is_there in zip(likely, in_parallel(lambda one: _is_there(target, one), likely),
                                                strict=True) if is_there}  # fmt: skip
    return [item for key, item in wanted.items() if key not in there]


def carry(source: ObjectStore, target: ObjectStore, items: Sequence[Item], progress: Progress) -> None:
    """Bring all items, packs before index objects. Blocks; some at once, with bounded memory.

    ``progress`` is called with dicts of ``phase`` (``copy``), ``done`` and ``total``, in bytes. Raises `DamageError`,
    `ObjectMissingError` for what is not whole in the source, `StoreError`. What has arrived by then stays.
    """
    total, done = sum(item.size for item in items), 0
    for kind in (PACK, INDEX):
        for item in _each([one for one in items if one.kind == kind], lambda one: _bring(source, target, one)):
            done += item.size
            progress({"phase": "copy", "done": done, "total": total})


def _each(items: Iterable[Item], work: Callable[[Item], None]) -> Iterable[Item]:
    """Do the work for each item, in parallel; yields those that are done, in order. The first error ends it."""
    waiting: deque[tuple[Item, Future[None]]] = deque()
    size = 0
    pool = DaemonPool(PACKS_AT_ONCE, "copy")
    try:
        for item in items:
            while waiting and (len(waiting) >= PACKS_AT_ONCE or size + item.size > _MOST_BYTES):
                first, job = waiting.popleft()
                job.result()
                size -= first.size
                yield first
            waiting.append((item, pool.submit(work, item)))
            size += item.size
        for first, job in waiting:
            job.result()
            yield first
    finally:
        pool.shutdown(wait=True, cancel_futures=True)  # nothing is written any more when an error is told


def _bring(source: ObjectStore, target: ObjectStore, item: Item) -> None:
    data = insist(lambda: _checked(source, item))
    if not target.create(item.key, data):
        raise _damaged(target, item, DamageError("it has other bytes under its name"))
    del data  # it may be a large one
    if not _is_there(target, item):
        raise StoreUnavailableError(
            f"{target.url} said that {item.key} was written, and does not have it",
            hint="look at the proxies, caches and gateways between this machine and the store",
        )


def _checked(source: ObjectStore, item: Item) -> Data:
    try:
        data = source.get_range(item.key, 0, item.size)
        if data is None:
            raise ObjectMissingError(f"{source.url}/{item.key} is missing", hint=_SOURCE_HINT)
        check_whole(item.kind, item.name, data)
        return data
    except DamageError as error:
        raise _kind(item)(f"{source.url}/{item.key}: {error.message}", hint=_SOURCE_HINT) from error
    except StoreError as error:
        if type(error) is not StoreError:
            raise
        raise _kind(item)(f"{source.url}/{item.key} is cut short: {error.message}", hint=_SOURCE_HINT) from error


def _is_there(target: ObjectStore, item: Item) -> bool:
    try:
        entries = insist(lambda: read_footer(target, item.kind, item.name))
    except DamageError as error:
        raise _damaged(target, item, error) from error
    if entries is None:
        return False
    if whole_size(entries) != item.size:
        raise _damaged(target, item, DamageError(f"it is not the one of {item.size:,} bytes that the version names"))
    return True


def _damaged(target: ObjectStore, item: Item, error: DamageError) -> DamageError:
    return _kind(item)(f"{target.url}/{item.key} is there, but is not whole: {error.message}", hint=_TARGET_HINT)


def _kind(item: Item) -> type[DamageError]:
    return PackDamagedError if item.kind == PACK else IndexDamagedError
