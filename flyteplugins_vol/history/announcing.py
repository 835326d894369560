"""A new version's record: created, then looked for while what decides about its publication is read.

The ref and the marks count only as they are after the record was there (`marks` has the reason). Across a network the
three answers come in the time of one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from flyteplugins_vol.errors import CommitError
from flyteplugins_vol.history.marks import Marks, read_marks
from flyteplugins_vol.history.record import VersionRecord
from flyteplugins_vol.history.refs import Ref
from flyteplugins_vol.store.base import ObjectStore
from flyteplugins_vol.store.daemonpool import DaemonPool
from flyteplugins_vol.store.doubting import looked_for_later


class Found(NamedTuple):
    """What there was after the record."""

    ref: Ref | None
    marks: Marks | None


def announce(store: ObjectStore, record: VersionRecord, read_ref: Callable[[], Ref | None]) -> Found:
    """Create the record, and read what comes after it. Raises `CommitError`, `StoreError`, as ``read_ref`` does."""
    key, data = record.locator.key, record.encode()
    with looked_for_later() as looks:
        _create(store, record, key, data)
    if not looks.any:  # no network: threads would take longer than the answers
        return Found(read_ref(), read_marks(store))
    with DaemonPool(2, "announce") as pool:
        ref, marks = pool.submit(read_ref), pool.submit(read_marks, store)
        found = Found(ref.result(), marks.result())
    if looks.have_found_all():
        return found
    _create(store, record, key, data)  # it was not there, or nobody knows: what was read may have been before it
    return Found(read_ref(), read_marks(store))


def _create(store: ObjectStore, record: VersionRecord, key: str, data: bytes) -> None:
    if not store.create(key, data):
        raise CommitError(f"{record.locator} exists with other content", hint="report this: it cannot happen")
