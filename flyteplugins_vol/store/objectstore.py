"""``s3://``, ``gs://`` and ``abfs://`` over obstore: HTTP, signatures and TLS run in Rust, without the GIL.

obstore's own retries are off: `Retrying` has them. What obstore adds of its own is its credential chains, used when
``config`` names no key.

Tested against moto, Ceph's RGW and azurite. No emulator of Google Cloud Storage installs from the package registries,
so of ``gs://`` only the URL and the making of the client are tested here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar, cast

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

from ..config import StoreOptions
from . import obstoreruntime
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
from .failures import is_no_bucket, store_error
from .limits import most_of, too_large, within
from .obstoreclient import Client, new_client
from .obstoreerrors import ends_early, read_failure
from .url import AZURE_SCHEMES, StoreUrl

if TYPE_CHECKING:
    from obstore import GetResult, ListResult, ObjectMeta

T = TypeVar("T")

# Narrowed: obstore's own types of these depend on pyarrow.
_list = cast("Callable[..., Iterator[Sequence[ObjectMeta]]]", obstore.list)  # pyright: ignore[reportUnknownMemberType]
_list_with_delimiter = cast("Callable[..., ListResult[Any]]", obstore.list_with_delimiter)  # pyright: ignore[reportUnknownMemberType]


class CloudStore(ObjectStore):
    """A prefix of a bucket, through one obstore client. An object's tag is its ETag, or on Google its generation."""

    def __init__(self, where: StoreUrl, client: Client) -> None:
        super().__init__(where.text)
        self._client = client
        self._prefix = f"{where.path}/" if where.path else ""
        self._scheme = where.scheme

    @classmethod
    def opened(cls, where: StoreUrl, options: StoreOptions) -> CloudStore:
        """The store with a new client. A `StoreAccessError` for options that no client accepts."""
        return cls(where, new_client(where, options))

    def get(self, key: str) -> bytes | None:
        return self._asked("get", key, lambda path: _body(obstore.get(self._client, path), key, most_of(key)))

    def get_range(self, key: str, offset: int, size: int) -> Data | None:
        check_range(key, offset, size)
        try:
            data = self._asked("get", key, lambda path: _range(self._client, path, key, offset, size))
        except _EndsEarly:
            data = b""
        return None if data is None else exactly(data, key, offset, size)

    def get_tail(self, key: str, size: int) -> bytes | None:
        check_range(key, 0, size)
        azure = self._scheme in AZURE_SCHEMES
        read = _tail_by_size if azure else _tail
        with suppress(_EndsEarly):  # an empty object has no range
            data = self._asked("get", key, lambda path: read(self._client, path, key, size))
            if data is not None or not azure:  # Azure's HEAD does not say whether object or container is absent
                return data
        data = self.get(key)
        return None if data is None else data[-size:]

    def create(self, key: str, data: Data) -> bool:
        try:
            self._put(key, data, "create")
        except _Refused:
            return settle_create(self, key, data)
        return True

    def get_tagged(self, key: str) -> Tagged | None:
        return self._asked("get", key, lambda path: self._tagged(key, obstore.get(self._client, path)))

    def replace(self, key: str, data: Data, tag: str | None) -> str | None:
        mode = "create" if tag is None else {"version" if self._scheme == "gs" else "e_tag": tag}
        try:
            return self._tag(self._put(key, data, mode))
        except _Refused:
            return settle_replace(self, key, data, tag)

    def delete(self, key: str) -> None:
        self._asked("delete", key, lambda path: obstore.delete(self._client, path))

    def list(self, prefix: str, after: str = "") -> Iterator[ObjectInfo]:
        start = (self._prefix + check_prefix(prefix)).rstrip("/") or None
        offset = self._prefix + after if after else None
        pages = _list(self._client, start, offset=offset, chunk_size=1000)
        while page := self._called("list", prefix, lambda: next(pages, None)):
            for meta in page:
                key = meta["path"][len(self._prefix) :]
                if key > after and is_key(key):
                    yield ObjectInfo(key, meta["size"], meta["last_modified"])

    def list_dirs(self, prefix: str) -> list[str]:
        start = (self._prefix + check_prefix(prefix)).rstrip("/") or None
        found = self._called("list", prefix, lambda: _list_with_delimiter(self._client, start))
        names = (path.rstrip("/").rpartition("/")[2] for path in found["common_prefixes"]) if found else ()
        return sorted(name for name in names if is_key(name))

    def _put(self, key: str, data: Data, mode: Any) -> Mapping[str, Any]:
        """One PUT with its condition; `_Refused` if the condition did not hold."""
        done = self._asked(
            "put", key, lambda path: obstore.put(self._client, path, data, mode=mode, use_multipart=False)
        )
        if done is None:  # a PUT that says "not found" although the bucket is there: its condition names a tag
            raise _Refused
        return cast("Mapping[str, Any]", done)

    def _tagged(self, key: str, answer: GetResult) -> Tagged:
        return Tagged(_body(answer, key, most_of(key)), self._tag(cast("Mapping[str, Any]", answer.meta)))

    def _tag(self, meta: Mapping[str, Any]) -> str:
        if self._scheme == "gs":
            return str(meta["version"])
        tag = str(meta["e_tag"])
        # Ceph's RGW (tried: 16.2) compares If-Match with the bare hash; AWS and moto take it bare and quoted alike.
        return tag.strip('"') if self._scheme == "s3" else tag

    def _asked(self, verb: str, key: str, call: Callable[[str], T]) -> T | None:
        path = self._prefix + check_key(key)
        return self._called(verb, key, lambda: call(path))

    def _called(self, verb: str, key: str, call: Callable[[], T]) -> T | None:
        """The answer, or None for an object that is absent; every failure as what it means."""
        obstoreruntime.enter(self.url)
        try:
            return call()
        except (AlreadyExistsError, PreconditionError):
            raise _Refused from None
        except (BaseError, OSError, ValueError) as error:
            failure = read_failure(error)
            if isinstance(error, FileNotFoundError) and not is_no_bucket(failure.code):
                return None
            if ends_early(error, failure):
                raise _EndsEarly from None
        raise store_error(failure, url=self.url, verb=verb, key=key)


class _Refused(Exception):
    """The condition of a PUT did not hold, or another writer is at it."""


class _EndsEarly(Exception):
    """The object ends before the range begins."""


def _body(answer: GetResult, key: str, most: int) -> bytes:
    return bytes(_view(answer, key, most))


def _view(answer: GetResult, key: str, most: int) -> Data:
    """What came, in one piece; its stream is not read beyond ``most`` bytes, however long it says that it is."""
    start, end = answer.range
    if end - start > most:
        raise too_large(key, most)
    return within(memoryview(next(answer.stream(most + 1), b"")), key, most)


def _range(client: Client, path: str, key: str, offset: int, size: int) -> Data:
    return _view(obstore.get(client, path, options={"range": (offset, offset + size)}), key, size)


def _tail(client: Client, path: str, key: str, size: int) -> bytes:
    return _body(obstore.get(client, path, options={"range": {"suffix": size}}), key, size)


def _tail_by_size(client: Client, path: str, key: str, size: int) -> bytes:
    """The same in two requests, for Azure, which has no ranges that count from the end."""
    there = obstore.head(client, path)["size"]
    return bytes(_range(client, path, key, max(0, there - size), min(size, there))) if there else b""
