"""An encrypted store, read by the document only (docs/FORMAT.md section 10): nothing of the package is used here."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable

from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

Get = Callable[[str], "bytes | None"]

_CHUNK = 16_384


def decrypting(get: Get, secret: str) -> Get:
    """A reader of plain objects over one of stored objects."""
    key = _data_key(get, secret)

    def plain(name: str) -> bytes | None:
        stored = get(name)
        if stored is None:
            return None
        return _container(key, name, stored) if name.startswith(("packs/", "index/")) else _envelope(key, name, stored)

    return plain


def _data_key(get: Get, secret: str) -> bytes:
    body = json.loads(get("keys/main.json") or b"")
    assert (body["format"], body["format_version"], body["requires"]) == ("flytevol/key", 1, [])
    kdf = body["kdf"]
    assert kdf["name"] == "scrypt"
    assert 128 * kdf["n"] * kdf["r"] * kdf["p"] <= 1 << 28
    salt = bytes.fromhex(kdf["salt"])
    wrapping = hashlib.scrypt(
        secret.encode(), salt=salt, n=kdf["n"], r=kdf["r"], p=kdf["p"], maxmem=1 << 29, dklen=32
    )  # fmt: skip
    sealed = base64.b64decode(body["wrapped"])
    key = AESGCM(wrapping).decrypt(bytes.fromhex(body["nonce"]), sealed, body["id"].encode("ascii"))
    assert _derived("flytevol 1 key id", key).hex()[:16] == body["id"]
    return key


def _derived(context: str, key: bytes) -> bytes:
    return blake3(key, derive_key_context=context).digest()


def _of(key: bytes, name: str, salt: bytes) -> AESGCM:
    return AESGCM(blake3(name.encode() + b"\0" + salt, key=_derived("flytevol 1 objects", key)).digest())


def _container(key: bytes, name: str, stored: bytes) -> bytes:
    aead = _of(key, name, b"")
    head, tag = stored[-40:-16], stored[-16:]
    assert head[:16] == b"FVSEALED\1" + bytes(7)
    assert aead.decrypt(b"\xff" * 12, tag, head) == b""
    size = int.from_bytes(head[16:], "little")
    count = -(-size // _CHUNK)
    assert len(stored) == count * (_CHUNK + 16) + 40
    plain = b"".join(
        aead.decrypt(number.to_bytes(12, "little"), stored[number * 16_400 : (number + 1) * 16_400], None)
        for number in range(count)
    )
    assert not plain[size:].strip(b"\0")
    return plain[:size]


def _envelope(key: bytes, name: str, stored: bytes) -> bytes:
    assert stored.startswith(b'{"requires":["encryption"],')
    body = json.loads(stored)
    assert body["requires_to_write"] == ["encryption"]
    assert body["key"] == _derived("flytevol 1 key id", key).hex()[:16]
    plain = _of(key, name, bytes.fromhex(body["salt"])).decrypt(bytes(12), base64.b64decode(body["sealed"]), None)
    assert json.loads(plain)["format"] == body["format"]
    return plain
