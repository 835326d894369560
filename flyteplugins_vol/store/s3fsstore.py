"""``s3://`` over s3fs, for those who ask for it: s3fs brings the session and its event loop, the requests are S3's own.

s3fs's file verbs are left out: they retry on their own, they turn error codes into errnos, and none of them replaces
an object conditionally. `s3fs.S3FileSystem` is made directly: Flyte's SDK puts another class behind fsspec's ``s3``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import fsspec.asyn  # pyright: ignore[reportMissingTypeStubs]
import s3fs  # pyright: ignore[reportMissingTypeStubs]

from ..config import StoreOptions
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
from .failures import NO_CREDENTIALS, Failure, is_no_bucket, store_error
from .limits import most_of, within
from .url import StoreUrl

_Answer = Mapping[str, Any]

# Both come without types.
_sync = cast("Callable[..., Any]", fsspec.asyn.sync)  # pyright: ignore[reportUnknownMemberType]
_S3FileSystem = cast("Any", s3fs.S3FileSystem)


class S3fsStore(ObjectStore):
    """A prefix of a bucket, through one aiobotocore client. An object's tag is its ETag without the quotes."""

    def __init__(self, where: StoreUrl, filesystem: Any) -> None:
        super().__init__(where.text)
        self._fs = filesystem
        self._bucket = where.host
        self._prefix = f"{where.path}/" if where.path else ""

    @classmethod
    def opened(cls, where: StoreUrl, options: StoreOptions) -> S3fsStore:
        """The store with a client of its own that tries each request once."""
        return cls(where, _S3FileSystem(**_arguments(options), skip_instance_cache=True))

    def get(self, key: str) -> bytes | None:
        answer = self._object(key, most_of(key))
        return None if answer is None else answer["Body"]

    def get_range(self, key: str, offset: int, size: int) -> bytes | None:
        check_range(key, offset, size)
        try:
            answer = self._object(key, size, Range=f"bytes={offset}-{offset + size - 1}")
        except _EndsEarly:
            answer = {"Body": b""}
        return None if answer is None else exactly(answer["Body"], key, offset, size)

    def get_tail(self, key: str, size: int) -> bytes | None:
        check_range(key, 0, size)
        try:
            answer = self._object(key, size, Range=f"bytes=-{size}")
        except _EndsEarly:  # an empty object has no range
            answer = self._object(key, most_of(key))
        return None if answer is None else answer["Body"][-size:]

    def create(self, key: str, data: Data) -> bool:
        try:
            self._put(key, data, IfNoneMatch="*")
        except _Refused:
            return settle_create(self, key, data)
        return True

    def get_tagged(self, key: str) -> Tagged | None:
        answer = self._object(key, most_of(key))
        return None if answer is None else Tagged(answer["Body"], _tag(answer))

    def replace(self, key: str, data: Data, tag: str | None) -> str | None:
        condition = {"IfNoneMatch": "*"} if tag is None else {"IfMatch": tag}
        try:
            return _tag(self._put(key, data, **condition))
        except _Refused:
            return settle_replace(self, key, data, tag)

    def delete(self, key: str) -> None:
        self._asked("delete_object", key, Key=self._prefix + check_key(key))

    def list(self, prefix: str, after: str = "") -> Iterator[ObjectInfo]:
        start = self._prefix + check_prefix(prefix)
        more: dict[str, str] = {"StartAfter": self._prefix + after} if after else {}
        while True:
            page = self._asked("list_objects_v2", prefix, Prefix=start, **more) or {}
            for found in page.get("Contents", ()):
                key = found["Key"][len(self._prefix) :]
                if key > after and is_key(key):
                    yield ObjectInfo(key, found["Size"], found["LastModified"])
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def list_dirs(self, prefix: str) -> list[str]:
        start = self._prefix + check_prefix(prefix)
        names: list[str] = []
        more: dict[str, str] = {}
        while True:
            page = self._asked("list_objects_v2", prefix, Prefix=start, Delimiter="/", **more) or {}
            names += (found["Prefix"][len(start) :].rstrip("/") for found in page.get("CommonPrefixes", ()))
            if not page.get("IsTruncated"):
                return sorted(name for name in names if is_key(name))
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def close(self) -> None:
        if self._fs.loop is not None and self._fs._s3 is not None:  # noqa: SLF001  its property raises when not connected
            _S3FileSystem.close_session(self._fs.loop, self._fs._s3)  # noqa: SLF001

    def _object(self, key: str, most: int, **request: str) -> _Answer | None:
        """An object, or the part of it that is asked for, which has at most this many bytes."""
        answer = self._asked("get_object", key, most, Key=self._prefix + check_key(key), **request)
        if answer is not None:
            within(answer["Body"], key, most)
        return answer

    def _put(self, key: str, data: Data, **condition: str) -> _Answer:
        path = self._prefix + check_key(key)
        answer = self._asked("put_object", key, Key=path, Body=bytes(data), **condition)
        if answer is None:  # "not found" although the bucket is there: the condition names a tag
            raise _Refused
        return answer

    def _asked(self, verb: str, key: str, most: int = 0, /, **request: Any) -> _Answer | None:
        """The answer, or None for an object that is absent; every failure as what it means."""
        try:
            return _sync(self._fs.loop, self._request, verb, {"Bucket": self._bucket, **request}, most)
        except Exception as error:  # botocore, aiohttp and asyncio have no base in common
            failure = _read_failure(error)
        if failure.status in (409, 412):
            raise _Refused
        if failure.status == 416:
            raise _EndsEarly
        if failure.status == 404 and not is_no_bucket(failure.code):
            return None
        raise store_error(failure, url=self.url, verb=verb, key=key)

    async def _request(self, verb: str, request: Mapping[str, Any], most: int) -> _Answer:
        client = await self._fs.set_session()
        answer = await getattr(client, verb)(**request)
        if "Body" in answer:
            async with answer["Body"] as body:
                answer["Body"] = await _read(body, most + 1)
        return cast("_Answer", answer)


async def _read(body: Any, most: int) -> bytes:
    """What comes, but no more than ``most`` bytes: then the rest is left, and the connection closed."""
    pieces: list[bytes] = []
    while most and (piece := await body.read(most)):
        pieces.append(piece)
        most -= len(piece)
    return b"".join(pieces)


class _Refused(Exception):
    """The condition of a PUT did not hold, or another writer is at it."""


class _EndsEarly(Exception):
    """The object ends before the range begins."""


def _arguments(options: StoreOptions) -> dict[str, Any]:
    """Our options in s3fs's words. Other names go to botocore's client as they are."""
    config = dict(options.config)
    config.pop("allow_http", None)
    given = {
        "key": config.pop("access_key_id", None),
        "secret": config.pop("secret_access_key", None),
        "token": config.pop("session_token", None),
        "endpoint_url": config.pop("endpoint", None),
        "profile": config.pop("profile", None),
    }
    if given["key"]:
        given["profile"] = None
    style = config.pop("addressing_style", "path" if given["endpoint_url"] else "auto")
    region = {"region_name": config.pop("region")} if "region" in config else {}
    return {
        **{name: value for name, value in given.items() if value},
        "client_kwargs": {**region, **config},
        "config_kwargs": {
            "retries": {"total_max_attempts": 1, "mode": "standard"},
            "connect_timeout": 5,
            "read_timeout": max(1.0, options.timeout / 2),
            "max_pool_connections": 64,
            "s3": {"addressing_style": style},
            "request_checksum_calculation": "when_required",  # others than AWS do not read trailing checksums
            "response_checksum_validation": "when_required",
        },
    }


def _tag(answer: _Answer) -> str:
    return str(answer["ETag"]).strip('"')  # bare: see objectstore


def _read_failure(error: Exception) -> Failure:
    response = getattr(error, "response", None)
    if isinstance(response, Mapping):
        answer = cast("Mapping[str, Any]", response)
        status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return Failure(status, str(answer.get("Error", {}).get("Code", "")))
    name = type(error).__name__
    if name in ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError"):
        return Failure(0, NO_CREDENTIALS)
    return Failure(0, "", f"no whole answer from the service ({name})")
