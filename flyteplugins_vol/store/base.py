"""What every store does: ten methods over whole objects, and nothing else.

A store is a prefix of object storage. This module is its whole contract; `flyteplugins_vol.store.suite` tests it
sentence by sentence on every store, bare and wrapped.

**Keys** are relative to the store's URL: parts joined by ``/``, each part of 1 to 255 ASCII letters, digits and
``-_.=+@~`` that begins with a letter, a digit or ``_``; at most 800 characters. So a key never leaves its store, means
the same in every store, and may come from a record that somebody altered: a bad one is a `StoreError`. No object is
named like another's directory (``a`` and ``a/b``): callers see to that, since ``file://`` cannot do it.

**Threads**: every method blocks, and any number of threads may be in one store at once.

**Errors** are `StoreError` and its subclasses only. `StoreUnavailableError` means that another try may help and that
the outcome of a write is unknown; `StoreAccessError` means that a person must act first. Messages carry no credentials.

**Retries** happen in one place, the wrapper `Retrying`, which `open_store` puts around every store that can fail for
a moment. A store itself tries once. That is safe because every method here is idempotent: called again with the same
arguments after an answer was lost, it has the effect and the answer of one call.

**Sizes** are bounded: no call takes more bytes of an answer into memory than what it asks for can have
(`flyteplugins_vol.store.limits`); one that goes on is an `ObjectTooLargeError`.

**Absence** is a value (None), never an error. **Visibility**: what a call wrote is seen by every call that begins
after it returned, from any process.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from datetime import datetime
from types import TracebackType
from typing import NamedTuple, TypeAlias, TypeVar

from ..config import StoreOptions
from ..errors import StoreError, StoreUnavailableError

__all__ = [
    "Data",
    "ObjectInfo",
    "ObjectStore",
    "StoreOptions",
    "Tagged",
    "check_key",
    "check_prefix",
    "check_range",
    "exactly",
    "is_key",
    "settle_create",
    "settle_replace",
]

Data: TypeAlias = "bytes | bytearray | memoryview"
"""What can be written: any contiguous bytes; the caller leaves them alone until the call returns."""

B = TypeVar("B", bound=Data)

_PART = r"[A-Za-z0-9_][A-Za-z0-9_.=+@~-]{0,254}"
_KEY = re.compile(rf"{_PART}(?:/{_PART})*")
_LONGEST_KEY = 800  # S3 and GCS allow 1,024 bytes; the rest is for the prefix in the store's URL


class Tagged(NamedTuple):
    """An object's bytes and the tag that `ObjectStore.replace` wants; a tag means something to its own store only."""

    data: bytes
    tag: str


class ObjectInfo(NamedTuple):
    """One line of a listing: key, size in bytes, time of the last write (with a time zone)."""

    key: str
    size: int
    modified: datetime


class ObjectStore(ABC):
    """A prefix of object storage. The module's docstring holds for every method."""

    conditional: bool = True
    """False: this store cannot make `create` and `replace` atomic, and they do it by looking first."""

    def __init__(self, url: str) -> None:
        self._url = url

    @property
    def url(self) -> str:
        """The store's normalised URL: no slash at the end, no credentials."""
        return self._url

    @property
    def disk(self) -> int | None:
        """The number (``st_dev``) of the disk of this machine on which objects lie as they are; None: on none."""
        return None

    @abstractmethod
    def get(self, key: str) -> bytes | None:
        """The whole object. None: absent."""

    @abstractmethod
    def get_range(self, key: str, offset: int, size: int) -> Data | None:
        """Exactly ``size`` bytes (at least 1) from ``offset`` on, perhaps as a view. None: absent.

        An object that ends before ``offset + size`` is a `StoreError`; an answer cut short on its way is a
        `StoreUnavailableError`.
        """

    @abstractmethod
    def get_tail(self, key: str, size: int) -> bytes | None:
        """The last ``size`` bytes (at least 1), or the whole object where that is shorter. None: absent."""

    @abstractmethod
    def create(self, key: str, data: Data) -> bool:
        """Write an object that does not exist yet. True: the object holds ``data``. False: it holds something else.

        Atomic: of several writers at once, at most those who bring the winner's very bytes get True, and no reader
        ever sees a part. An object that is there already is read back and compared, so a lost answer to our own
        earlier try is a True; callers who must tell writers apart put a unique id into the data. Durable on return
        (``file://``: file and directory are fsynced).
        """

    @abstractmethod
    def get_tagged(self, key: str) -> Tagged | None:
        """The whole object with its tag. None: absent."""

    @abstractmethod
    def replace(self, key: str, data: Data, tag: str | None) -> str | None:
        """Write ``data`` if the object still has ``tag`` (None: if it does not exist). The new tag, or None: lost.

        Atomic and durable like `create`. On a mismatch the object is read back: if it holds ``data`` already, our
        earlier try did it, and its tag is returned; mutable objects therefore carry a unique writer id. None says
        that the object does not hold ``data`` now.
        """

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove the object; removing what is absent is no error. Durable on return."""

    @abstractmethod
    def list(self, prefix: str, after: str = "") -> Iterator[ObjectInfo]:
        """Objects whose keys begin with ``prefix`` (``''`` or ending in ``/``) and are greater than ``after``.

        In ascending order of keys, at every depth, lazily: errors come out of the iterator. An object that is there
        from the first item to the last is listed; one that comes or goes meanwhile may be. An unknown prefix is empty.
        Names that cannot be keys are left out: they are not ours.
        """

    @abstractmethod
    def list_dirs(self, prefix: str) -> list[str]:
        """Names, in ascending order, of the directories right below ``prefix`` that some object's key goes through.

        Names only, without prefix and slash. ``file://`` may also name a directory whose objects were all deleted.
        """

    def close(self) -> None:
        """Let go of connections. Idempotent; no other method may be called afterwards."""

    def __enter__(self) -> ObjectStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}>"


def is_key(name: str) -> bool:
    """Whether this can name an object; listings leave out what cannot, since it is not ours."""
    return len(name) <= _LONGEST_KEY and _KEY.fullmatch(name) is not None


def check_key(key: str) -> str:
    """The key itself, or a `StoreError` if it is none."""
    if not is_key(key):
        raise StoreError(f"{key[:200]!r} cannot name an object in a store", hint=_BAD_KEY)
    return key


_BAD_KEY = "it comes from a damaged record or from a bug: verify the volume, then report it"


def check_prefix(prefix: str) -> str:
    """The prefix itself (``''`` or a key with a ``/`` after it), or a `StoreError`."""
    if prefix:
        if not prefix.endswith("/"):
            raise StoreError(f"the prefix {prefix[:200]!r} does not end with '/'", hint=_BAD_KEY)
        check_key(prefix[:-1])
    return prefix


def check_range(key: str, offset: int, size: int) -> None:
    """Refuse a range that is none: a negative offset, or a size under 1."""
    if offset < 0 or size < 1:
        raise StoreError(f"no range: {size} bytes at {offset} of {key}", hint=_BAD_KEY)


def exactly(data: B, key: str, offset: int, size: int) -> B:
    """``data`` if it is ``size`` bytes long; otherwise the object ended early, which is a `StoreError`."""
    if len(data) != size:
        raise StoreError(
            f"{key} ends early: {size} bytes wanted at {offset}, {len(data)} there",
            hint="the object was cut short or is of another kind: run a verification of the volume",
        )
    return data


def settle_create(store: ObjectStore, key: str, data: Data) -> bool:
    """The answer of `ObjectStore.create` when the store said that the object exists: read back, compare.

    Other bytes are believed when they came three times: a bit that is flipped on the way back must be no conflict.
    """
    for _ in range(_LOOKS):
        there = store.get_tail(key, len(data) + 1)  # all of it, and no more than tells it from ``data``
        if there is None:  # a writer in progress elsewhere (S3 answers 409), or deleted since
            raise StoreUnavailableError(
                f"{key} in {store.url} was refused as existing, yet it is absent", hint=_TRY_AGAIN
            )
        if there == data:
            return True
    return False


def settle_replace(store: ObjectStore, key: str, data: Data, tag: str | None) -> str | None:
    """The answer of `ObjectStore.replace` when the store said that the tag does not match: read back, compare.

    As often as `settle_create` does.
    """
    there = None
    for _ in range(_LOOKS):
        there = store.get_tagged(key)
        if there is not None and there.data == data:
            return there.tag
    if (there.tag if there else None) == tag:  # refused, yet nothing changed: a writer in progress elsewhere
        raise StoreUnavailableError(
            f"{key} in {store.url} was refused as changed, yet it is unchanged", hint=_TRY_AGAIN
        )
    return None


_LOOKS = 3
_TRY_AGAIN = "another writer may be busy with it: try again"
