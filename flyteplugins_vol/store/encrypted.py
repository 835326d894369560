"""Two wrappers: one encrypts all that passes, the other sees that nothing goes unencrypted where all else is.

They sit inside `Retrying`: what they do is idempotent like the store, since `create` and `replace` compare what they
find with the plain bytes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

from .base import Data, ObjectInfo, ObjectStore, Tagged, check_range, exactly
from .cipher import CHUNK, ENVELOPE, STORED_CHUNK, TRAILER_SIZE, Cipher, altered, chunks
from .keys import KEY, load_or_make, not_encrypted, secret_missing
from .wrapper import Wrapper

_CONTAINERS = ("packs/", "index/")
_KEYS = "keys/"


class Encrypted(Wrapper):
    """A store whose objects are all encrypted. Sizes in listings are those of the stored bytes."""

    def __init__(self, inner: ObjectStore, secret: str) -> None:
        super().__init__(inner)
        self._secret = secret
        self._cipher: Cipher | None = None
        self._lock = threading.Lock()

    @property
    def disk(self) -> int | None:
        """None: what lies there is not what is read."""
        return None

    def get(self, key: str) -> bytes | None:
        stored = self.inner.get(key)
        if stored is None or key == KEY:
            return stored
        return self._opened(key, stored)

    def get_tagged(self, key: str) -> Tagged | None:
        found = self.inner.get_tagged(key)
        if found is None or key == KEY:
            return found
        return Tagged(self._opened(key, found.data), found.tag)

    def get_range(self, key: str, offset: int, size: int) -> bytes | None:
        check_range(key, offset, size)
        if not key.startswith(_CONTAINERS):
            plain = self.get(key)
            return None if plain is None else exactly(plain[offset : offset + size], key, offset, size)
        first, last = offset // CHUNK, (offset + size - 1) // CHUNK
        stored = self.inner.get_range(key, first * STORED_CHUNK, (last - first + 1) * STORED_CHUNK)
        if stored is None:
            return None
        plain = self._ready().open_chunks(key, first, stored)
        start = offset - first * CHUNK
        wanted = plain[start : start + size]
        if not plain[-1] and not wanted[-1]:  # perhaps what fills the last chunk up
            exactly(wanted[: max(0, self._size(key) - offset)], key, offset, size)
        return wanted

    def get_tail(self, key: str, size: int) -> bytes | None:
        check_range(key, 0, size)
        if not key.startswith(_CONTAINERS):
            plain = self.get(key)
            return None if plain is None else plain[-size:]
        stored = self.inner.get_tail(key, chunks(size + CHUNK - 1) * STORED_CHUNK + TRAILER_SIZE)
        if stored is None:
            return None
        whole = self._ready().plain_size(key, stored)
        there = (len(stored) - TRAILER_SIZE) // STORED_CHUNK
        first = chunks(whole) - there
        if first < 0:
            raise altered(key)
        plain = self._ready().open_chunks(key, first, stored[: there * STORED_CHUNK])
        return plain[: whole - first * CHUNK][-size:]

    def create(self, key: str, data: Data) -> bool:
        cipher = self._ready(make=True)
        stored = cipher.seal(key, data) if key.startswith(_CONTAINERS) else cipher.wrap(key, data)
        return self.inner.create(key, stored) or self.get_tail(key, len(data) + 1) == data

    def replace(self, key: str, data: Data, tag: str | None) -> str | None:
        if key == KEY:
            return self.inner.replace(key, data, tag)
        cipher = self._ready(make=True)
        stored = cipher.seal(key, data) if key.startswith(_CONTAINERS) else cipher.wrap(key, data)
        moved = self.inner.replace(key, stored, tag)
        if moved is not None:
            return moved
        there = self.get_tagged(key)  # of an earlier try of ours, with another salt
        return there.tag if there is not None and there.data == data else None

    def list(self, prefix: str, after: str = "") -> Iterator[ObjectInfo]:
        """Without the store's key: nobody who tidies up should come upon it."""
        yield from (info for info in self.inner.list(prefix, after) if info.key != KEY)

    def list_dirs(self, prefix: str) -> list[str]:
        return [name for name in self.inner.list_dirs(prefix) if f"{prefix}{name}/" != _KEYS]

    def _opened(self, key: str, stored: bytes) -> bytes:
        cipher = self._ready()
        if not key.startswith(_CONTAINERS):
            return cipher.unwrap(key, stored)
        size = cipher.plain_size(key, stored)
        if len(stored) != chunks(size) * STORED_CHUNK + TRAILER_SIZE:
            raise altered(key)
        return cipher.open_chunks(key, 0, stored[:-TRAILER_SIZE])[:size]

    def _size(self, key: str) -> int:
        return self._ready().plain_size(key, self.inner.get_tail(key, TRAILER_SIZE) or b"")

    def _ready(self, *, make: bool = False) -> Cipher:
        with self._lock:
            if self._cipher is None:
                data_key = load_or_make(self.inner, self._secret, make=make)
                if data_key is None:
                    raise not_encrypted(self.inner)
                self._cipher = Cipher(data_key)
            return self._cipher


class Unencrypted(Wrapper):
    """A store opened without a secret: it refuses encrypted objects, and to write where all others are encrypted."""

    def __init__(self, inner: ObjectStore) -> None:
        super().__init__(inner)
        self._sure = False

    def get(self, key: str) -> bytes | None:
        return self._readable(self.inner.get(key))

    def get_tagged(self, key: str) -> Tagged | None:
        found = self.inner.get_tagged(key)
        self._readable(None if found is None else found.data)
        return found

    def create(self, key: str, data: Data) -> bool:
        self._make_sure()
        return self.inner.create(key, data)

    def replace(self, key: str, data: Data, tag: str | None) -> str | None:
        self._make_sure()
        return self.inner.replace(key, data, tag)

    def _readable(self, data: bytes | None) -> bytes | None:
        if data is not None and data.startswith(ENVELOPE):
            raise secret_missing(self.inner)
        return data

    def _make_sure(self) -> None:
        if not self._sure:
            if self.inner.get_tagged(KEY) is not None:
                raise secret_missing(self.inner)
            self._sure = True
