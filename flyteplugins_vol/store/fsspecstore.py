"""Any other scheme, over whatever fsspec file system speaks it. Best effort, and `conditional` says so.

fsspec has no conditional write that holds everywhere, so `create` and `replace` look first and write then: two writers
at the same moment may both be told that they won. Whether a reader can see half of an object, and what survives a
power cut, is up to the file system. Good for reading volumes, and for writing where one writer is sure.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any, TypeVar, cast

import fsspec  # pyright: ignore[reportMissingTypeStubs]
from blake3 import blake3

from ..config import StoreOptions
from ..errors import StoreAccessError, StoreError, StoreUnavailableError
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
)
from .limits import most_of, within
from .url import StoreUrl, unknown_scheme

T = TypeVar("T")

_new_filesystem = cast("Callable[..., Any]", fsspec.filesystem)  # it comes without types  # pyright: ignore[reportUnknownMemberType]


class FsspecStore(ObjectStore):
    """A directory of an fsspec file system. An object's tag is the BLAKE3 hash of its bytes."""

    conditional = False

    def __init__(self, where: StoreUrl, filesystem: Any, root: str) -> None:
        super().__init__(where.text)
        self._fs = filesystem
        self._root = root.rstrip("/")
        # else fsspec's HTTP takes whole answers into memory before it looks at them
        self._streaming = {"block_size": 0} if where.scheme in ("http", "https") else {}

    @classmethod
    def opened(cls, where: StoreUrl, options: StoreOptions) -> ObjectStore:
        """The store with a file system of its own; ``s3://`` gets the better `S3fsStore`."""
        if where.scheme == "s3":
            from .s3fsstore import S3fsStore

            return S3fsStore.opened(where, options)
        filesystem = _filesystem(where.scheme, options)
        url = f"{where.scheme}://{where.host}/{where.path.lstrip('/')}"  # fsspec's URLs are not percent-encoded
        return cls(where, filesystem, filesystem._strip_protocol(url))  # noqa: SLF001  fsspec's own idiom

    def get(self, key: str) -> bytes | None:
        most = most_of(key)
        data = self._asked("get", key, lambda: self._read(self._path(key), most + 1))
        return None if data is None else within(data, key, most)

    def get_range(self, key: str, offset: int, size: int) -> bytes | None:
        check_range(key, offset, size)
        path = self._path(key)
        data = self._asked("get", key, lambda: self._fs.cat_file(path, start=offset, end=offset + size))
        return None if data is None else exactly(within(data, key, size), key, offset, size)

    def get_tail(self, key: str, size: int) -> bytes | None:
        check_range(key, 0, size)
        path = self._path(key)
        there = self._asked("get", key, lambda: self._fs.info(path)["size"])
        if not there:
            return self.get(key)
        return self.get_range(key, max(0, there - size), min(size, there))

    def create(self, key: str, data: Data) -> bool:
        there = self.get(key)
        if there is None:
            self._write(key, data)
        return there is None or there == data

    def get_tagged(self, key: str) -> Tagged | None:
        data = self.get(key)
        return None if data is None else Tagged(data, _tag(data))

    def replace(self, key: str, data: Data, tag: str | None) -> str | None:
        there = self.get_tagged(key)
        if there is not None and there.data == data:
            return there.tag
        if (there.tag if there else None) != tag:
            return None
        self._write(key, data)
        return _tag(data)

    def delete(self, key: str) -> None:
        path = self._path(key)
        self._asked("delete", key, lambda: self._fs.rm_file(path))

    def list(self, prefix: str, after: str = "") -> Iterator[ObjectInfo]:
        top = f"{self._root}/{check_prefix(prefix)}".rstrip("/")
        found: dict[str, Any] = self._asked("list", prefix, lambda: self._fs.find(top, detail=True)) or {}
        for path in sorted(found):
            key = path[len(self._root) + 1 :]
            if key > after and is_key(key):
                yield ObjectInfo(key, found[path]["size"], _modified(found[path]))

    def list_dirs(self, prefix: str) -> list[str]:
        top = f"{self._root}/{check_prefix(prefix)}".rstrip("/")
        found: list[Any] = self._asked("list", prefix, lambda: self._fs.ls(top, detail=True)) or []
        names: Iterator[str] = (
            entry["name"].rstrip("/").rpartition("/")[2] for entry in found if entry["type"] == "directory"
        )
        return sorted(name for name in names if is_key(name))

    def _path(self, key: str) -> str:
        return f"{self._root}/{check_key(key)}"

    def _read(self, path: str, most: int) -> bytes:
        """All of a file, but no more than ``most`` bytes of it."""
        pieces: list[bytes] = []
        with self._fs.open(path, "rb", **self._streaming) as file:
            while most and (piece := file.read(most)):
                pieces.append(piece)
                most -= len(piece)
        return b"".join(pieces)

    def _write(self, key: str, data: Data) -> None:
        path = self._path(key)

        def write() -> None:
            with suppress(NotImplementedError):
                self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            self._fs.pipe_file(path, bytes(data))

        self._asked("put", key, write)

    def _asked(self, verb: str, key: str, call: Callable[[], T]) -> T | None:
        """The answer, or None for what is absent; every failure as a `StoreError`."""
        try:
            return call()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError, FileExistsError):  # the last: below a file
            if verb != "put":
                return None
            failure = StoreError(f"put {key} in {self.url} failed", hint="something lies where a directory must be")
        except Exception as error:  # each file system has errors of its own
            failure = _meaning(error, f"{verb} {key or 'the listing'} in {self.url} failed ({type(error).__name__})")
        raise failure


def _filesystem(scheme: str, options: StoreOptions) -> Any:
    try:
        return _new_filesystem(scheme, skip_instance_cache=True, use_listings_cache=False, **options.config)
    except ValueError:
        raise unknown_scheme(scheme) from None
    except ImportError as error:
        raise unknown_scheme(scheme, hint=f"fsspec needs a package for it: {error}") from None
    except TypeError as error:  # what it must be told is not in the options
        raise StoreAccessError(
            f"fsspec cannot open {scheme}:// with the options that are given: {error}",
            hint="pass what is missing as store_options=StoreOptions(config=…)",
        ) from None


def _meaning(error: Exception, message: str) -> StoreError:
    """Only the error's type is shown: its text may repeat a URL or an option."""
    if isinstance(error, PermissionError):
        return StoreAccessError(message, hint="check the credentials in the store's options and their rights")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError(message, hint="free some space in the store, then try again")
    if isinstance(error, (OSError, TimeoutError)):
        return StoreUnavailableError(message, hint="look at the network and at the store's health, then try again")
    return StoreError(message, hint="the fsspec file system cannot do this: use a native store URL")


def _modified(info: dict[str, Any]) -> datetime:
    for name in ("LastModified", "last_modified", "mtime", "updated", "created"):
        value = info.get(name)
        if isinstance(value, datetime):
            return value if value.tzinfo else value.replace(tzinfo=timezone.utc)
        if isinstance(value, (int, float)):
            return datetime.fromtimestamp(value, timezone.utc)
    return datetime.now(timezone.utc)  # unknown: as young as can be, so that no collector takes it for old


def _tag(data: bytes | Data) -> str:
    return blake3(data).hexdigest()
