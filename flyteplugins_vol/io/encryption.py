"""Encrypted stores, as users ask for them: a secret, or a function that gets one from a key service."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

from flyteplugins_vol.config import StoreOptions
from flyteplugins_vol.io import hosts
from flyteplugins_vol.store.keys import change_secret, check_secret, secret_missing
from flyteplugins_vol.store.open import open_store
from flyteplugins_vol.store.url import parse_store_url

KeySource: TypeAlias = "str | Callable[[str], str]"
"""At least 16 characters; or a function that gets the store's URL and returns them, such as a call of a KMS."""


def with_secret(url: str, options: StoreOptions | None, encryption: KeySource | None) -> StoreOptions | None:
    """The options with the secret in them, the rest as given or as the environment says; unchanged without one.

    Raises `UsageError` for a secret that is too short, and what the function raises.
    """
    if encryption is None:
        return options
    secret = encryption(url) if callable(encryption) else encryption
    check_secret(secret)
    return replace(hosts.store_options(url, options), encryption=secret)


def change_encryption_secret(
    store: str, new: KeySource, *, old: KeySource | None = None, store_options: StoreOptions | None = None
) -> None:
    """Let another secret open an encrypted store; the old one opens it no more. No data is rewritten. Blocks.

    ``old`` is what the environment says (``FLYTE_VOL_ENCRYPTION_KEY``), if it is not given. Open mounts go on.
    Raises `EncryptionKeyError` if the old one is wrong, `ConflictError`, `StoreError`.
    """
    url = parse_store_url(store).text
    options = hosts.store_options(url, with_secret(url, store_options, old))
    with open_store(url, options) as opened:
        if not options.encryption:
            raise secret_missing(opened)
        change_secret(opened, options.encryption, new(url) if callable(new) else new)
