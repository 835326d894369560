"""``file://``: objects are files below a directory, safe among processes and across a power cut.

- A write goes to a temporary file in the object's directory and is fsynced before it gets its name: link(2), which
  fails if the name exists, or, under the store's lock, rename(2). Then the directory is fsynced. So a name always
  stands for whole, durable bytes.
- A directory that this store made is fsynced into its parent once.
- Names that begin with a dot are the store's own (``.lock``, temporary files): no key can be one, no listing shows one.
- The root's permissions decide for all below it: a root that this store makes is 0700, its files 0600; a root that
  somebody opened to a group or to all gives its rights on, less the umask.

Conditional replacement holds among all processes that see the same flock(2): one machine, or NFS since Linux 2.6.12.
"""

from __future__ import annotations

import errno
import os
import stat
import uuid
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone

from blake3 import blake3

from ..errors import StoreAccessError, StoreError, StoreUnavailableError
from ..portable import OPEN_FLAGS, lock, pread, sync_directory
from .base import (
    Data,
    ObjectInfo,
    ObjectStore,
    Tagged,
    check_key,
    check_prefix,
    check_range,
    exactly,
    is_key,
    settle_create,
    settle_replace,
)
from .direct import write_all
from .limits import most_of, too_large

_TEMPORARY = ".tmp"  # how temporary files end


class LocalStore(ObjectStore):
    """The directory ``root``, made by the first write. The tag of an object is the BLAKE3 hash of its bytes."""

    def __init__(self, url: str, root: str) -> None:
        super().__init__(url)
        self._root = root
        self._made: set[str] = set()  # directories known to exist durably; a set's add and lookup are atomic
        self._seen_rights: int | None = None  # of the root, once it exists

    @property
    def disk(self) -> int | None:
        path = self._root
        while not os.path.exists(path):  # no write has made it yet: it will be where its parent is
            path = os.path.dirname(path)
        with suppress(OSError):
            return os.stat(path).st_dev
        return None

    def get(self, key: str) -> bytes | None:
        with self._translated(key), _absent_is_none(), _opened(self._path(key), os.O_RDONLY) as fd:
            most = most_of(key)
            there = os.fstat(fd).st_size
            if there > most:
                raise too_large(key, most)
            return _pread(fd, 0, there)  # objects are whole from the start, and never grow
        return None

    def get_range(self, key: str, offset: int, size: int) -> bytes | None:
        check_range(key, offset, size)
        with self._translated(key), _absent_is_none(), _opened(self._path(key), os.O_RDONLY) as fd:
            return exactly(_pread(fd, offset, size), key, offset, size)
        return None

    def get_tail(self, key: str, size: int) -> bytes | None:
        check_range(key, 0, size)
        with self._translated(key), _absent_is_none(), _opened(self._path(key), os.O_RDONLY) as fd:
            return _pread(fd, max(0, os.fstat(fd).st_size - size), size)
        return None

    def create(self, key: str, data: Data) -> bool:
        path = self._path(key)
        with self._translated(key), self._written_beside(path, data) as temporary:
            created = self._link_if_absent(key, temporary)
            sync_directory(os.path.dirname(path))
        return created or settle_create(self, key, data)

    def get_tagged(self, key: str) -> Tagged | None:
        data = self.get(key)
        return None if data is None else Tagged(data, _tag(data))

    def replace(self, key: str, data: Data, tag: str | None) -> str | None:
        with self._translated(key), self._written_beside(self._path(key), data) as temporary:
            replaced = self._rename_if(key, temporary, tag)
            sync_directory(os.path.dirname(temporary))
        return _tag(data) if replaced else settle_replace(self, key, data, tag)

    def delete(self, key: str) -> None:
        path = self._path(key)
        with self._translated(key), suppress(FileNotFoundError, NotADirectoryError), self._locked():
            os.unlink(path)
            sync_directory(os.path.dirname(path))

    def list(self, prefix: str, after: str = "") -> Iterator[ObjectInfo]:
        yield from self._walk(check_prefix(prefix), after)

    def list_dirs(self, prefix: str) -> list[str]:
        entries = self._entries(check_prefix(prefix))
        return [entry.name for entry in entries if entry.is_dir()]

    @contextmanager
    def _translated(self, what: str) -> Generator[None, None, None]:
        """Turn an `OSError` into the `StoreError` that says what to do."""
        try:
            yield
        except OSError as error:
            raise _store_error(error, self.url, what) from error

    def _path(self, key: str) -> str:
        return os.path.join(self._root, check_key(key))

    @contextmanager
    def _written_beside(self, path: str, data: Data) -> Generator[str, None, None]:
        """A durable temporary file with ``data`` in the directory of ``path``; gone at the end."""
        directory = os.path.dirname(path)
        temporary = os.path.join(directory, f".{uuid.uuid4().hex}{_TEMPORARY}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        self._make_directory(directory)
        try:
            fd = os.open(temporary, flags, self._rights & 0o666)
        except FileNotFoundError:  # somebody removed the directory since it was made
            self._made.clear()
            self._make_directory(directory)
            fd = os.open(temporary, flags, self._rights & 0o666)
        try:
            try:
                _give(fd, self._rights & 0o666)
                write_all(fd, data, 0, past_cache=True)
                os.fsync(fd)
            finally:
                os.close(fd)
            yield temporary
        finally:
            with suppress(FileNotFoundError):  # a rename took it
                os.unlink(temporary)

    def _make_directory(self, directory: str) -> None:
        """Make the directory durably, with the parents that are missing."""
        if directory in self._made:
            return
        if directory == self._root:
            _make_root(directory)
        else:
            parent = os.path.dirname(directory)
            self._make_directory(parent)
            with suppress(FileExistsError):
                os.mkdir(directory, self._rights & 0o777)
                _give(directory, self._rights & 0o777)
            sync_directory(parent)  # also when another process made it: perhaps it has not synced yet
        self._made.add(directory)

    def _link_if_absent(self, key: str, temporary: str) -> bool:
        try:
            os.link(temporary, self._path(key))
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            return self._rename_if(key, temporary, None)
        return True

    def _rename_if(self, key: str, temporary: str, tag: str | None) -> bool:
        """Give the file the object's name if the object has ``tag`` (None: if it is absent)."""
        path = self._path(key)
        with self._locked():
            there = self.get_tagged(key)
            if (there.tag if there else None) != tag:
                return False
            os.rename(temporary, path)
            return True

    @contextmanager
    def _locked(self) -> Generator[None, None, None]:
        """Keep other threads and processes from replacing or deleting; the kernel frees it if this process dies."""
        with _opened(os.path.join(self._root, ".lock"), os.O_RDONLY | os.O_CREAT, self._rights & 0o666) as fd:
            _give(fd, self._rights & 0o666)
            lock(fd)
            yield

    @property
    def _rights(self) -> int:
        if self._seen_rights is None:
            self._seen_rights = stat.S_IMODE(os.stat(self._root).st_mode)
        return self._seen_rights

    def _walk(self, prefix: str, after: str) -> Iterator[ObjectInfo]:
        for entry in self._entries(prefix):
            key = prefix + entry.name
            if not is_key(key):  # too long: nobody of us made it
                continue
            if entry.is_dir(follow_symlinks=True):
                if key + "/" >= after[: len(key) + 1]:  # else all below it is less than ``after``
                    yield from self._walk(key + "/", after)
            elif key > after:
                with self._translated(key), suppress(FileNotFoundError):  # deleted since
                    status = entry.stat()
                    yield ObjectInfo(key, status.st_size, datetime.fromtimestamp(status.st_mtime, timezone.utc))

    def _entries(self, prefix: str) -> list[os.DirEntry[str]]:
        """Entries of one directory in the order that their keys have: a directory sorts with its slash."""
        with (
            self._translated(prefix),
            suppress(FileNotFoundError, NotADirectoryError),
            os.scandir(os.path.join(self._root, prefix)) as found,
        ):
            entries = [entry for entry in found if is_key(entry.name)]
            return sorted(entries, key=lambda entry: entry.name + "/" if entry.is_dir() else entry.name)
        return []


# What file systems without hard links answer (FAT, some FUSE and network ones).
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


_umask: int | None = None


def follow_umask(umask: int) -> None:
    """Of this process: files of roots that are open to others get their rights less this, whatever its own umask is.

    A daemon makes all that is on the local disk for its user alone.
    """
    global _umask
    _umask = umask


def _give(file: int | str, rights: int) -> None:
    if _umask is None or not rights & 0o077:
        return
    status, wanted = os.stat(file), rights & ~_umask
    if stat.S_IMODE(status.st_mode) & 0o777 != wanted and status.st_uid == os.geteuid():
        with suppress(OSError):  # FAT, CIFS and others have one mode for all
            os.chmod(file, wanted | stat.S_IMODE(status.st_mode) & ~0o777)


def _tag(data: Data) -> str:
    return blake3(data).hexdigest()


def _make_root(root: str) -> None:
    parent = os.path.dirname(root)
    if os.path.isdir(root):
        return
    os.makedirs(parent, exist_ok=True)
    with suppress(FileExistsError):
        os.mkdir(root, 0o700)
    sync_directory(parent)


def _pread(fd: int, offset: int, size: int) -> bytes:
    """Up to ``size`` bytes; fewer only at the end of the file."""
    data = pread(fd, size, offset)
    while len(data) < size and (more := pread(fd, size - len(data), offset + len(data))):
        data += more
    return data


# Somebody may have put a fifo there; of a file it says nothing.
_NOT_WAITING: int = getattr(os, "O_NONBLOCK", 0)


@contextmanager
def _opened(path: str, flags: int, mode: int = 0o600) -> Generator[int, None, None]:
    fd = os.open(path, flags | OPEN_FLAGS | _NOT_WAITING, mode)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _absent_is_none() -> Generator[None, None, None]:
    with suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
        yield


def _store_error(error: OSError, url: str, what: str) -> StoreError:
    message = f"the store {url} failed on {what or 'its root'}: {error.strerror}"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        path: str = error.filename or "the store"
        where = os.path.dirname(path) if path.endswith(_TEMPORARY) else path
        return StoreAccessError(message, hint=f"give this user rights on {where!r}")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError(message, hint="free some space on the store's disk, or raise the quota, then try again")
    if error.errno in (errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ELOOP, errno.ESPIPE):
        return StoreError(message, hint="something else lies where the store wants a file: look at the directory")
    return StoreUnavailableError(message, hint="look at the disk or network file system under the store")
