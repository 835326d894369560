"""Encrypted objects: how plain bytes become stored bytes, and back. docs/FORMAT.md section 10 is normative.

Two forms. A *sealed container* can be read in ranges: chunks of 16 KiB, each with a tag, the last one filled up with
zeros, and a trailer with the plain size. An *envelope*, for everything else, is a JSON object that says enough for a
release that knows no encryption to refuse it in the right words.

Every object has a key of its own, made of the store's data key and the object's key in the store: so no object can be
taken for another, and no nonce is used twice. A container's key in the store is the hash of its footer with 16 random
bytes in it, so the same key always means the same bytes; envelopes, which change, have a salt besides.
"""

from __future__ import annotations

import base64
import json
import os
import struct
from collections.abc import Callable
from typing import Any

from blake3 import blake3

from ..errors import DamageError, EncryptionKeyError, SetupError
from .base import Data

ENVELOPE = b'{"requires":["encryption"],'
"""How every envelope begins."""

CHUNK = 16 << 10
"""Plain bytes of one chunk."""

_TAG = 16
STORED_CHUNK = CHUNK + _TAG
_TRAILER = struct.Struct("<8sB7xQ")
TRAILER_SIZE = _TRAILER.size + _TAG
_MAGIC = b"FVSEALED"
_VERSION = 1
_LAST_NONCE = b"\xff" * 12
_SALT = 32
_CONTEXT = "flytevol 1 objects"


class Cipher:
    """Encrypts and decrypts objects with one data key (32 bytes). Thread-safe."""

    def __init__(self, data_key: bytes) -> None:
        self._key = blake3(data_key, derive_key_context=_CONTEXT).digest()
        self._aead = aead()
        self.id = key_id(data_key)

    # -- containers ------------------------------------------------------------------------------------------------

    def seal(self, key: str, plain: Data) -> bytes:
        """The stored bytes of a container."""
        aead = self._of(key)
        view = memoryview(plain).cast("B")
        parts: list[bytes] = []
        for number in range(chunks(len(view))):
            chunk = view[number * CHUNK : (number + 1) * CHUNK]
            if len(chunk) < CHUNK:
                chunk = bytes(chunk).ljust(CHUNK, b"\0")
            parts.append(aead.encrypt(_nonce(number), chunk, None))
        head = _TRAILER.pack(_MAGIC, _VERSION, len(view))
        return b"".join((*parts, head, aead.encrypt(_LAST_NONCE, b"", head)))

    def plain_size(self, key: str, tail: bytes) -> int:
        """Bytes of a container before it was encrypted, from the end of what is stored. Raises `DamageError`."""
        head, tag = tail[-TRAILER_SIZE:-_TAG], tail[-_TAG:]
        if len(head) != _TRAILER.size or not head.startswith(_MAGIC):
            raise DamageError(f"{key} is not encrypted, as all of this store is", hint=_HINT)
        self._checked(key, self._of(key), _LAST_NONCE, tag, head)
        _, version, size = _TRAILER.unpack(head)
        if version != _VERSION:
            raise DamageError(f"{key} is encrypted in another way ({version})", hint=_HINT)
        return size

    def open_chunks(self, key: str, first: int, stored: Data) -> bytes:
        """The plain bytes of whole chunks, of which ``first`` is the number of the first. Raises `DamageError`."""
        aead = self._of(key)
        view = memoryview(stored)
        return b"".join(
            self._checked(key, aead, _nonce(first + number), view[at : at + STORED_CHUNK], None)
            for number, at in enumerate(range(0, len(view), STORED_CHUNK))
        )

    # -- envelopes -------------------------------------------------------------------------------------------------

    def wrap(self, key: str, plain: Data) -> bytes:
        """The stored bytes of an object that is no container."""
        salt = os.urandom(_SALT)
        stored = self._of(key, salt).encrypt(_nonce(0), bytes(plain), None)
        body = {
            "requires": ["encryption"],  # first: see `ENVELOPE`
            "requires_to_write": ["encryption"],
            "format": _format_of(bytes(plain)),
            "format_version": 1,
            "key": self.id,
            "salt": salt.hex(),
            "sealed": base64.b64encode(stored).decode(),
        }
        return json.dumps(body, separators=(",", ":")).encode()

    def unwrap(self, key: str, stored: bytes) -> bytes:
        """What `wrap` was given. Raises `DamageError`, `EncryptionKeyError`."""
        try:
            body: dict[str, Any] = json.loads(stored.decode())
            salt, owner = bytes.fromhex(body["salt"]), body["key"]
            sealed = base64.b64decode(body["sealed"], validate=True)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DamageError(f"{key} is not encrypted, as all of this store is", hint=_HINT) from error
        if owner != self.id:
            raise EncryptionKeyError(f"{key} is encrypted with another key ({str(owner)[:16]})", hint=_OTHER_KEY)
        return self._checked(key, self._of(key, salt), _nonce(0), sealed, None)

    def _of(self, key: str, salt: bytes = b"") -> Any:
        return self._aead(blake3(key.encode() + b"\0" + salt, key=self._key).digest())

    def _checked(self, key: str, aead: Any, nonce: bytes, sealed: Data, head: bytes | None) -> bytes:
        try:
            return aead.decrypt(nonce, sealed, head)
        except Exception as error:  # InvalidTag, and ValueError for what is too short: the library's own classes
            raise altered(key) from error


def altered(key: str) -> DamageError:
    """The error for an object that is not as it was written."""
    return DamageError(f"{key} was altered: it cannot be decrypted", hint=_HINT)


def chunks(size: int) -> int:
    """Number of chunks of so many plain bytes."""
    return -(-size // CHUNK)


def sealed_size(size: int) -> int:
    """Bytes that are stored of a container of so many plain bytes."""
    return chunks(size) * STORED_CHUNK + TRAILER_SIZE


def aead() -> Callable[[bytes], Any]:
    """AES-256-GCM. Raises `SetupError` without the package that has it."""
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError:
        raise SetupError(
            "encryption needs the package cryptography", hint="pip install 'flyteplugins-vol[encryption]'"
        ) from None
    return AESGCM


def key_id(data_key: bytes) -> str:
    """A name for a data key, 16 hex digits, that tells nothing of it."""
    return blake3(data_key, derive_key_context="flytevol 1 key id").hexdigest()[:16]


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "little")


def _format_of(plain: bytes) -> str:
    """The ``format`` of a JSON object stays in the open: by it a reader tells what it cannot read."""
    try:
        body = json.loads(plain)
        name = body["format"] if isinstance(body, dict) else None  # pyright: ignore[reportUnknownVariableType]
    except (ValueError, KeyError, RecursionError):
        name = None
    return name if isinstance(name, str) and name.startswith("flytevol/") else "flytevol/object"


_HINT = "restore the object from a copy of the store, or use another version"
_OTHER_KEY = "it came from another store, or keys/main.json was replaced: restore that from a copy of the store"
