"""What differs between two versions, path by path, as users ask for it: by their indexes alone."""

from __future__ import annotations

import os
import stat
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Literal, TypeAlias

from flyteplugins_vol.config import StoreOptions, cache_root
from flyteplugins_vol.errors import HandleClosedError, NothingCommittedError
from flyteplugins_vol.history.checkout import IndexCache, disk_error
from flyteplugins_vol.history.record import VersionRecord, load_record, parse_locator
from flyteplugins_vol.index import difference as indexes
from flyteplugins_vol.index.difference import Kind
from flyteplugins_vol.io import hosts
from flyteplugins_vol.io.dual import dual_class
from flyteplugins_vol.io.encryption import KeySource, with_secret
from flyteplugins_vol.io.info import kind_of
from flyteplugins_vol.io.tree import text_of
from flyteplugins_vol.store.open import open_store

if TYPE_CHECKING:
    from flyteplugins_vol.io.volume import Volume

Changed: TypeAlias = Literal["added", "removed", "changed", "attributes"]
"""``changed``: other content, or another type of file. ``attributes``: mode, owner, time or extended ones only."""

WORDS: Mapping[Kind, Changed] = {
    Kind.ADDED: "added",
    Kind.REMOVED: "removed",
    Kind.CONTENT: "changed",
    Kind.ATTRIBUTES: "attributes",
}


@dataclass(frozen=True)
class FileState:
    """What one of the two versions has at a path; ``kind`` and ``mode`` as of `FileInfo`, ``size`` in bytes."""

    kind: str
    mode: int
    size: int


@dataclass(frozen=True)
class FileChange:
    """One path that differs, written as in `FileInfo`. ``old``, ``new``: what is there; None: nothing."""

    path: str
    change: Changed
    old: FileState | None
    new: FileState | None


class Difference:
    """What differs between two versions: iterate over it for a `FileChange` of each path, in the order of their bytes.

    Directories that came or went are in it with all that is below them. ``files`` counts by kind of change, without
    such directories; ``old_bytes`` and ``new_bytes`` are the sizes of these files in the one and in the other version.
    It lies in a scratch file, which is read as one goes through it, until `close`, or the end of a ``with``.
    """

    def __init__(self, found: indexes.Difference, old: str, new: str) -> None:
        self.old, self.new = old, new  # locators
        self.files = _by_word(found.summary.files)
        self.old_bytes = _by_word(found.summary.old_bytes)
        self.new_bytes = _by_word(found.summary.new_bytes)
        self._count = found.summary.rows
        self._found = found
        self._closer = weakref.finalize(self, found.close)

    def __len__(self) -> int:
        """Paths that differ."""
        return self._count

    def __iter__(self) -> Iterator[FileChange]:
        if not self._closer.alive:
            raise HandleClosedError("this difference was closed", hint="compare the versions again")
        for one in self._found:
            old = _state(one.old_mode, one.old_size) if one.kind is not Kind.ADDED else None
            new = _state(one.new_mode, one.new_size) if one.kind is not Kind.REMOVED else None
            yield FileChange(text_of(one.path), WORDS[one.kind], old, new)

    def close(self) -> None:
        """Let go of the scratch file. Idempotent."""
        self._closer()

    def __enter__(self) -> Difference:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Comparing:
    """What `Volume` has of it."""

    @dual_class
    def diff(
        cls,  # noqa: N805
        a: Volume | str,
        b: Volume | str,
        *,
        store_options: StoreOptions | None = None,
        encryption: KeySource | None = None,
    ) -> Difference:
        """What differs from one version to another: names, content, and apart from that mode, owner, time and others.

        Versions, or their locators; of a writable volume its last version. They may be of different volumes and
        stores. Only their indexes are read, and what differs is held on local disk. ``store_options``, ``encryption``:
        as of `from_locator`, for locators. Raises `NothingCommittedError`, `LocatorError`, `VersionNotFoundError`,
        `DamageError`, `NewerFormatError`, `LocalDirectoryError`, `StoreError`.
        """
        cache_dir = os.path.join(cache_root(), "cache")
        try:
            cache = IndexCache(cache_dir)
            old, old_index = _brought(a, cache, store_options, encryption, None)
            new, new_index = _brought(b, cache, store_options, encryption, old)
        except OSError as error:
            raise disk_error(error, cache_dir) from error
        return Difference(indexes.Difference(old_index, new_index), str(old.locator), str(new.locator))


def _brought(
    version: Volume | str, cache: IndexCache, options: StoreOptions | None, encryption: KeySource | None,
    near: VersionRecord | None,
) -> tuple[VersionRecord, str]:  # fmt: skip
    """The record of a version, and the path of its index; where ``near`` is here, only what differs from that comes."""
    if isinstance(version, str):
        known, where = None, parse_locator(version)
        options = with_secret(where.store_url, options, encryption)
    else:
        known, options = version._record, version._options  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001
        if known is None:
            raise NothingCommittedError(f"volume {version.name!r} has no version to compare", hint="commit first")
        where = known.locator
    with open_store(where.store_url, hosts.store_options(where.store_url, options)) as store:
        record = known if isinstance(known, VersionRecord) else load_record(store, where)
        return record, cache.checkout(store, record, near)[0]


def _by_word(numbers: Mapping[Kind, int]) -> dict[Changed, int]:
    return {WORDS[kind]: number for kind, number in numbers.items()}


def _state(mode: int, size: int) -> FileState:
    return FileState(kind_of(mode), stat.S_IMODE(mode), size)
