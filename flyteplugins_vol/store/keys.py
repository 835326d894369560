"""The data key of an encrypted store: random, made once, kept in ``keys/main.json``, wrapped by a secret.

The secret never leaves this process but on the way to a mount's daemon. A new secret wraps the same data key again;
what was encrypted stays as it is. docs/FORMAT.md section 10 is normative.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from functools import lru_cache
from typing import Any

from ..errors import ConflictError, EncryptionKeyError, NewerFormatError, RecordDamagedError, UsageError
from .base import ObjectStore, Tagged
from .cipher import aead, key_id

KEY = "keys/main.json"
SHORTEST_SECRET = 16

_FORMAT = "flytevol/key"
_COST = {"n": 1 << 15, "r": 8, "p": 1}  # 32 MiB and some 70 ms: paid once by each process
_MOST_MEMORY = 256 << 20


def load_or_make(store: ObjectStore, secret: str, *, make: bool) -> bytes | None:
    """The store's data key. ``make``: a new one, if it has none and holds nothing yet; else None if it has none.

    Raises `EncryptionKeyError` for another secret, or a store that was begun without encryption.
    """
    check_secret(secret)
    found = store.get_tagged(KEY)  # by this verb, since it may well be absent: `Doubting` believes it
    if found is None and make:
        if any(store.list_dirs(prefix) for prefix in ("volumes/", "packs/")):
            raise not_encrypted(store)
        store.create(KEY, _wrapped(os.urandom(32), secret))
        found = store.get_tagged(KEY)  # perhaps another writer's, who was first
    return None if found is None else _unwrapped(store, found.data, secret)


def change_secret(store: ObjectStore, old: str, new: str) -> None:
    """Wrap the data key by another secret: from now on the old one opens nothing. One conditional put.

    Mounts that are open go on. Raises `EncryptionKeyError`, `ConflictError` if somebody else does the same.
    """
    check_secret(new)
    found: Tagged | None = store.get_tagged(KEY)
    if found is None:
        raise not_encrypted(store)
    if store.replace(KEY, _wrapped(_unwrapped(store, found.data, old), new), found.tag) is None:
        raise ConflictError(f"somebody else changed {store.url}/{KEY} meanwhile", hint="look which secret holds now")


def check_secret(secret: str) -> None:
    """Raise `UsageError` for a secret that anybody could guess."""
    if len(secret) < SHORTEST_SECRET:
        raise UsageError(
            f"a secret for encryption has at least {SHORTEST_SECRET} characters, this one has {len(secret)}",
            hint="make one: python -c 'import secrets; print(secrets.token_urlsafe(32))'",
        )


def not_encrypted(store: ObjectStore) -> EncryptionKeyError:
    """The error for a secret where none belongs."""
    return EncryptionKeyError(
        f"{store.url} is not encrypted, and a secret for encryption was given",
        hint="open it without one (unset FLYTE_VOL_ENCRYPTION_KEY, or give other store_options=), or use a new store: "
        "one is encrypted from its first object on, or never",
    )


def secret_missing(store: ObjectStore) -> EncryptionKeyError:
    """The error for an encrypted store without a secret."""
    return EncryptionKeyError(
        f"{store.url} is encrypted, and there is no secret to open it",
        hint="set FLYTE_VOL_ENCRYPTION_KEY, or give encryption= or StoreOptions(encryption=…)",
    )


def _wrapped(data_key: bytes, secret: str) -> bytes:
    salt, nonce = os.urandom(32), os.urandom(12)
    identity = key_id(data_key)
    sealed = aead()(_derived(secret, salt, **_COST)).encrypt(nonce, data_key, identity.encode())
    body: dict[str, Any] = {
        "format": _FORMAT,
        "format_version": 1,
        "requires": [],
        "id": identity,
        "kdf": {"name": "scrypt", **_COST, "salt": salt.hex()},
        "nonce": nonce.hex(),
        "wrapped": base64.b64encode(sealed).decode(),
    }
    return json.dumps(body, separators=(",", ":")).encode()


def _unwrapped(store: ObjectStore, data: bytes, secret: str) -> bytes:
    try:
        body: dict[str, Any] = json.loads(data.decode())
        if body["format"] != _FORMAT:
            raise ValueError(f"its format is {body['format']!r}")
        if body["format_version"] > 1 or body["requires"] or body["kdf"]["name"] != "scrypt":
            raise NewerFormatError(
                f"{store.url}/{KEY} is of a newer release", hint="install a newer release of flyteplugins-vol"
            )
        cost = {name: body["kdf"][name] for name in ("n", "r", "p")}
        _check_cost(cost)
        salt, nonce = bytes.fromhex(body["kdf"]["salt"]), bytes.fromhex(body["nonce"])
        sealed, identity = base64.b64decode(body["wrapped"], validate=True), str(body["id"])
        kek = _derived(secret, salt, **cost)
        if len(nonce) != 12 or len(sealed) != 48:
            raise ValueError("its key is of another length")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RecordDamagedError(
            f"{store.url}/{KEY} is damaged: {error}", hint="restore it from a copy: without it nothing can be read"
        ) from error
    try:
        return aead()(kek).decrypt(nonce, sealed, identity.encode())
    except Exception:  # the library's InvalidTag
        raise EncryptionKeyError(
            f"the secret does not open {store.url}",
            hint="give the one that it was made with, or that it was changed to last",
        ) from None


def _check_cost(cost: dict[str, Any]) -> None:
    """The numbers come from the store: they must not fill the memory."""
    n, r, p = cost["n"], cost["r"], cost["p"]
    if not all(type(value) is int and value > 0 for value in (n, r, p)) or 128 * n * r * p > _MOST_MEMORY:
        raise ValueError("its scrypt parameters are out of bounds")


@lru_cache(8)
def _derived(secret: str, salt: bytes, *, n: int, r: int, p: int) -> bytes:
    secret_bytes = secret.encode("utf-8", "surrogatepass")
    return hashlib.scrypt(secret_bytes, salt=salt, n=n, r=r, p=p, maxmem=2 * _MOST_MEMORY, dklen=32)
