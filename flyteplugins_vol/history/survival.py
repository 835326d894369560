"""Whether all that a version names is still there: looked at after its record was created, before its ref moves.

A workspace may sleep for weeks, with clocks that stand still, while collections run. From the moment at which its
record is there, each collection that begins to look spares what it names. So what remains is to find out whether one
that began before has taken something: if none began since the last look, nothing; else what it marked, and what is
missing, says so. One GET for each commit where nothing is ever collected, or where nobody collected meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain

from flyteplugins_vol.errors import CommitError
from flyteplugins_vol.history.marks import Marks, read_marked
from flyteplugins_vol.history.record import VersionRecord
from flyteplugins_vol.history.roots import in_parallel
from flyteplugins_vol.store.base import ObjectStore
from flyteplugins_vol.store.container import INDEX, PACK, TRAILER_SIZE, object_key


class Survival:
    """Looks for one workspace, whose commits come one after the other."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._known: str | None = None  # tag of the marks at the last look

    def doubt(self) -> None:
        """Look closely the next time, whatever is known: something came in of which nothing is."""
        self._known = None

    def check(
        self, record: VersionRecord, base: VersionRecord | None, new_packs: Iterable[str],
        all_packs: Callable[[], Iterable[str]], *, is_base_there: bool, marks: Marks | None,
    ) -> None:  # fmt: skip
        """Raise `CommitError` if something that the record names was, or is about to be, deleted. The record is there.

        ``marks``: as they were read after the record was created.
        ``is_base_there``: whether it is certain that the record of the base still is, by a look after the new
        record was created; otherwise it is looked for here.
        """
        if marks is None or marks.tag == self._known:
            return
        marks, marked = read_marked(self._store)
        old: set[str] = set()
        packs = new_packs
        if base is not None and (is_base_there or self._store.get_tagged(base.locator.key) is not None):
            old = {item.name for item in base.index.objects}
        elif base is not None:
            packs = all_packs()
        index = (object_key(INDEX, item.name) for item in record.index.objects if item.name not in old)
        wanted = list(chain(index, (object_key(PACK, name) for name in packs)))
        lost = [key for key in wanted if key in marked]
        if not lost:
            there = in_parallel(lambda key: self._store.get_tail(key, TRAILER_SIZE) is not None, wanted)
            lost = [key for key, is_there in zip(wanted, there, strict=True) if not is_there]
        if lost:
            raise CommitError(
                f"garbage was collected in {self._store.url} while this workspace slept, and took, or is about to "
                f"take, {len(lost)} of the objects that this version needs, such as {lost[0]}: nothing is published",
                hint="commit again: what is still there is stored anew; what you wrote is still here",
            )
        self._known = marks.tag if marks is not None else None
