"""Versions that began as one, made one again: three-way, path by path, by their indexes alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from flyteplugins_vol.config import StoreOptions
from flyteplugins_vol.errors import MergeConflictError, UsageError
from flyteplugins_vol.history.checkout import disk_error
from flyteplugins_vol.history.record import Locator
from flyteplugins_vol.history.sources import check_store, sources
from flyteplugins_vol.history.unmounted import Unmounted, damage_told
from flyteplugins_vol.human import count, shown
from flyteplugins_vol.index.difference import Kind
from flyteplugins_vol.index.merging import Conflict, Merge
from flyteplugins_vol.io.comparing import WORDS
from flyteplugins_vol.io.dual import dual_class
from flyteplugins_vol.io.encryption import KeySource
from flyteplugins_vol.io.restoring import located, unmounted_writer
from flyteplugins_vol.io.tree import text_of
from flyteplugins_vol.store.daemonpool import DaemonPool

if TYPE_CHECKING:
    from flyteplugins_vol.io.volume import RWVolume, Volume

Done: TypeAlias = Literal["added", "removed", "changed", "attributes", "below"]
"""What a version did to a path, as of `FileChange`; ``below``: something is new or other in that directory."""

_SHOWN = 10  # conflicts in a message


@dataclass(frozen=True)
class MergeConflict:
    """A path that several versions made different. ``changes``: what each did, by its locator, in their order."""

    path: str
    changes: Mapping[str, Done]

    def __str__(self) -> str:
        did = (f"{_WORDS[done]} in {_short(version)}" for version, done in self.changes.items())
        return f"{shown(self.path.strip('/')) or '/'}: {', '.join(did)}"


OnConflict: TypeAlias = "Literal['error', 'first', 'last'] | Callable[[MergeConflict], str]"


class Merging:
    """What `Volume` has of it."""

    @dual_class
    def merge(
        cls,  # noqa: N805
        base: Volume | str,
        *others: Volume | str,
        into: RWVolume | None = None,
        name: str | None = None,
        on_conflict: OnConflict = "error",
        store_options: StoreOptions | None = None,
        encryption: KeySource | None = None,
    ) -> RWVolume:
        """A volume with all that others changed since they began as ``base``; `commit` or `finalize` publishes it.

        Versions of one store, or their locators; of a writable volume its last version. Only their indexes are read,
        and no byte of a file is stored. What comes back begins as ``base`` and is called ``name``, by default as its
        volume; or it is ``into``, whose last version then counts as another one, named before all others: so its line
        goes on. Its next version has all of them as parents.

        What one alone changed is taken from it, what several made the same is taken once. What they made different is a
        conflict: other content, mode, owner or extended attributes; deleted here and changed there; a directory that
        went where something else came into it; a file here, a directory there. Times alone are none. ``on_conflict``:
        ``error`` raises `MergeConflictError`, whose ``conflicts`` are all of them, and changes nothing; of the versions
        in conflict ``first`` takes the one that is named first, ``last`` the last; or a function that is called with
        each `MergeConflict`, in another thread, and returns the locator of one of its versions; ``into`` is not to be
        touched there. Older versions keep what is not taken.

        ``store_options``, ``encryption``: as of `from_locator`, for a ``base`` that is a locator. Raises
        `MergeConflictError`, `UsageError`, `OtherStoreError`, `NothingCommittedError`, `AlreadyMountedError`,
        `LocatorError`, `VersionNotFoundError`, `DamageError`, `NewerFormatError`, `VolumeBusyError`,
        `LocalDirectoryError`, `StoreError`: then nothing has changed.
        """
        from flyteplugins_vol.io.volume import Volume

        if on_conflict not in ("error", "first", "last") and not callable(on_conflict):
            raise UsageError(f"on_conflict={on_conflict!r} is no way", hint="'error', 'first', 'last', or a function")
        beginning = located(base)
        versions = [where for where in dict.fromkeys(map(located, others)) if where != beginning]
        if not others:
            raise UsageError("there is nothing to merge", hint="name the versions that are to be merged")
        if into is None:
            known = (
                Volume.from_locator.sync(str(beginning), store_options=store_options, encryption=encryption)
                if isinstance(base, str)
                else base
            )
            volume: Any = known._fork(name)  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001
        else:
            volume = _line_of(into, name)
        present = located(volume)
        versions = [where for where in versions if where != present]
        for where in (beginning, *versions):
            check_store(where, volume.store)
        session = unmounted_writer(volume, "merge")
        sides = versions if present == beginning else [present, *versions]
        # In a thread of its own: Ctrl-C in this one must not leave half of it in the workspace.
        try:
            with DaemonPool(1, "merge") as pool:
                pool.submit(_merge, session, beginning, sides, versions, present, on_conflict).result()
        except BaseException:
            if into is None:
                volume.close.sync()
            raise
        return volume


def _line_of(into: RWVolume, name: str | None) -> RWVolume:
    if name is not None:
        raise UsageError("a volume that is merged into keeps its name", hint="give name= or into=, not both")
    into._check_open()  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001
    if into.has_changes:
        raise UsageError(
            f"volume {into.name!r} has changes that no version has, and versions are what is merged",
            hint="commit() them first, or close() to drop them",
        )
    return into


def _merge(
    session: Unmounted, base: Locator, sides: Sequence[Locator], merged: Sequence[Locator], present: Locator,
    on_conflict: OnConflict,
) -> None:  # fmt: skip
    with ExitStack() as stack, damage_told():
        first, *rest = stack.enter_context(sources(session.session, session.spec.cache_dir, [base, *sides]))
        try:
            decided = stack.enter_context(closing(Merge(first.path, [source.path for source in rest])))
        except OSError as error:
            raise disk_error(error, os.path.dirname(first.path)) from error
        here = 0 if sides and sides[0] == present else None
        conflicts = _Conflicts(list(map(str, sides)), on_conflict, decided)
        decided.decide(conflicts.choose, present=here)
        conflicts.check()
        if len(decided):
            session.change(session.workspace.merge, decided, here)
        session.session.merged([str(where) for where in merged])


class _Conflicts:
    """Says who wins, and keeps those that are an error."""

    def __init__(self, versions: list[str], on_conflict: OnConflict, decided: Merge) -> None:
        self._versions = versions
        self._on_conflict = on_conflict
        self._decided = decided
        self._found: dict[bytes, MergeConflict] = {}

    def choose(self, conflict: Conflict) -> int:
        sides = [side for side, _ in conflict.changes]
        if self._on_conflict == "first":
            return sides[0]
        if self._on_conflict == "last":
            return sides[-1]
        told = MergeConflict(
            text_of(conflict.path), {self._versions[side]: _done(kind) for side, kind in conflict.changes}
        )
        if not callable(self._on_conflict):
            self._found[conflict.path] = told
            self._tell_below(conflict)
            return next((side for side in sides if side not in conflict.going), sides[0])  # to find all below it
        chosen = self._on_conflict(told)
        if chosen not in told.changes:
            raise UsageError(
                f"on_conflict returned {chosen!r} for {shown(told.path)}, which is none of the versions in conflict",
                hint="return one of the keys of its changes",
            )
        return self._versions.index(chosen)

    def _tell_below(self, conflict: Conflict) -> None:
        """Each file that would be lost with the directory, if that went."""
        if not conflict.going:
            return
        gone: dict[str, Done] = {self._versions[side]: "removed" for side in sorted(conflict.going)}
        for path, side, kind in self._decided.new_below(conflict.path, set(conflict.going)):
            before = self._found.get(path)
            did = dict(before.changes) if before is not None else {}
            self._found[path] = MergeConflict(text_of(path), {**did, self._versions[side]: _done(kind), **gone})

    def check(self) -> None:
        """Raise `MergeConflictError` if there was one that nobody decided."""
        found = [self._found[path] for path in sorted(self._found, key=lambda path: path.replace(b"/", b"\0"))]
        if found:
            lines = [f"  {conflict}" for conflict in found[:_SHOWN]]
            more = [f"  and {len(found) - _SHOWN:,} more"] if len(found) > _SHOWN else []
            raise MergeConflictError(
                "\n".join([f"{count(len(found), 'conflict')}, nothing is merged:", *lines, *more]),
                hint="say with on_conflict= whose changes are to be taken, or make them one and commit that",
                conflicts=found,
            )


_WORDS: Mapping[Done, str] = {
    "added": "added",
    "removed": "deleted",
    "changed": "changed",
    "attributes": "given other attributes",
    "below": "changed below",
}


def _done(kind: Kind | None) -> Done:
    return "below" if kind is None else WORDS[kind]


def _short(version: str) -> str:
    """A version as the command line takes it: forks often have the name of their parent, so with the id."""
    volume, _, file = version.rpartition("/versions/")
    return f"{volume.rpartition('/')[2]}@{int(file.partition('-')[0])}"
