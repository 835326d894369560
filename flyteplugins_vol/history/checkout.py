"""Bring a version's index to local disk: from the cache of indexes where it is there unharmed, else from the Store."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress

from flyteplugins_vol.errors import LocalDirectoryError
from flyteplugins_vol.history.record import VersionRecord
from flyteplugins_vol.history.segments import Segments, change_checkout, checkout_segments, hash_file
from flyteplugins_vol.index.check import check_published
from flyteplugins_vol.portable import fchmod, free_bytes, private_directory, private_opener
from flyteplugins_vol.store.base import ObjectStore

_KEPT = 8  # indexes of versions that the cache keeps


class IndexCache:
    """Index files by version, each with the hashes of its segments beside it. Shared by processes."""

    def __init__(self, cache_dir: str) -> None:
        self._root = os.path.join(cache_dir, "index")
        private_directory(self._root)  # what lies there is believed: see `_unharmed`

    def checkout(
        self, store: ObjectStore, record: VersionRecord, near: VersionRecord | None = None
    ) -> tuple[str, Segments]:
        """Path of the version's index, not to be written to, and its segments.

        ``near``: a version that is perhaps here already, so that only what differs from it need come from the store.
        """
        path = self._path(record)
        segments = self._unharmed(path, record)
        if segments is None:
            if record.index.size > free_bytes(self._root):  # a record of some KB can claim 64 GiB
                raise OSError(errno.ENOSPC, f"no room for an index of {record.index.size} bytes", self._root)
            with tempfile.TemporaryDirectory(dir=self._root, prefix="new-") as room:
                made = os.path.join(room, "index.db")
                segments = self._changed(store, near, record, made) if near is not None else None
                segments = segments or checkout_segments(store, record.index, made)
                check_published(made)
                self._enter(made, path, segments)
        return path, segments

    @contextmanager
    def held(
        self, store: ObjectStore, record: VersionRecord, near: VersionRecord | None = None
    ) -> Generator[str]:  # fmt: skip
        """Path of the version's index, as `checkout` has it, that stays inside, however many others come."""
        path, _ = self.checkout(store, record, near)
        with tempfile.TemporaryDirectory(dir=self._root, prefix="new-") as room:
            own = os.path.join(room, "index.db")
            try:
                os.link(path, own)
            except FileNotFoundError:  # another process has trimmed in this moment
                os.link(self.checkout(store, record, near)[0], own)
            except OSError:  # a file system without hard links
                copy_file(path, own)
            yield own

    def _changed(
        self, store: ObjectStore, near: VersionRecord, record: VersionRecord, made: str
    ) -> Segments | None:  # fmt: skip
        """Make the index out of a copy of another version's; None if that is not here, unharmed."""
        if self._unharmed(self._path(near), near) is None:
            return None
        try:
            copy_file(self._path(near), made)
        except FileNotFoundError:  # another daemon has trimmed meanwhile
            return None
        change_checkout(store, near.index, record.index, made)
        return Segments(record.index, tuple(hash_file(made)))

    def keep(self, record: VersionRecord, index_file: str, segments: Segments) -> None:
        """Keep a copy of an index that was just published, for the mounts that follow on this machine."""
        with tempfile.TemporaryDirectory(dir=self._root, prefix="new-") as room:
            copy = os.path.join(room, "index.db")
            copy_file(index_file, copy)
            self._enter(copy, self._path(record), segments)

    def _path(self, record: VersionRecord) -> str:
        return os.path.join(self._root, f"{record.locator.hash}.db")

    def _enter(self, made: str, path: str, segments: Segments) -> None:
        with open(made + ".hashes", "wb", opener=private_opener) as file:
            file.write(b"".join(segments.hashes))
        os.replace(made + ".hashes", path + ".hashes")
        os.replace(made, path)
        self._trim()

    def _unharmed(self, path: str, record: VersionRecord) -> Segments | None:
        try:
            with open(path + ".hashes", "rb") as file:
                data = file.read()
            hashes = hash_file(path)
            os.utime(path)
        except FileNotFoundError:
            return None
        if data != b"".join(hashes) or os.path.getsize(path) != record.index.size:
            return None
        return Segments(record.index, tuple(hashes))

    def _trim(self) -> None:
        found = [entry for entry in os.scandir(self._root) if entry.name.endswith(".db")]
        for entry in sorted(found, key=_age)[:-_KEPT]:
            for path in (entry.path, entry.path + ".hashes"):
                with suppress(FileNotFoundError):  # another daemon trims as well
                    os.unlink(path)


def disk_error(error: OSError, place: str) -> LocalDirectoryError:
    """What to raise when a version cannot be opened for the sake of the local disk; ``place`` if it names no file."""
    return LocalDirectoryError(
        f"{error.filename or place}: {error.strerror or error}",
        hint="free some space there, or set FLYTE_VOL_CACHE_DIR to a directory on another disk"
        if error.errno in (errno.ENOSPC, errno.EDQUOT)
        else "set FLYTE_VOL_CACHE_DIR to a directory that you can write to",
    )


def copy_file(source: str, target: str, *, durable: bool = False) -> None:
    """Copy a file, by reference where the file system can (copy_file_range). ``durable``: on disk on return."""
    with open(source, "rb", buffering=0) as a, open(target, "wb", buffering=0) as b:
        fchmod(b.fileno(), 0o600)
        left = os.fstat(a.fileno()).st_size
        try:
            while left > 0:
                done = os.copy_file_range(a.fileno(), b.fileno(), left)
                if not done:
                    break
                left -= done
        except (OSError, AttributeError):  # only Linux has the call
            a.seek(0)
            b.seek(0)
            shutil.copyfileobj(a, b, 1 << 20)
        if durable:
            os.fsync(b.fileno())


def _age(entry: os.DirEntry[str]) -> float:
    try:
        return entry.stat().st_mtime
    except FileNotFoundError:
        return 0.0
