"""From `StoreOptions` to an obstore client for S3, Google Cloud Storage or Azure Blob Storage."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, S3Store

from ..config import StoreOptions
from ..errors import StoreAccessError
from .url import StoreUrl

Client: TypeAlias = "S3Store | GCSStore | AzureStore"


def new_client(where: StoreUrl, options: StoreOptions) -> Client:
    """A client that tries each request once. A `StoreAccessError` for options that it does not take."""
    make = _MAKERS.get(where.scheme, _azure)
    common: dict[str, Any] = {
        "client_options": _http(options),
        "retry_config": {"max_retries": 0, "retry_timeout": timedelta(seconds=options.timeout)},
    }
    try:
        return make(where, dict(options.config), common)
    except (BaseError, OSError, TypeError, ValueError) as error:  # its text may repeat a value: not shown
        raise StoreAccessError(
            f"the options for {where.text} are not accepted ({type(error).__name__})",
            hint=f"check names and values of: {', '.join(sorted(options.config)) or 'the environment variables'}",
        ) from None


def _http(options: StoreOptions) -> dict[str, Any]:
    """One request may take half the time of a call: a stalled one is tried again, a slow 16 MiB one gets through."""
    allowed = options.config.get("allow_http", "").lower() in _TRUE or options.config.get("endpoint", "")[:5] == "http:"
    return {
        "timeout": timedelta(seconds=max(1.0, options.timeout / 2)),
        "connect_timeout": timedelta(seconds=5),
        "allow_http": allowed,
        "user_agent": "flyteplugins-vol",
    }


def _s3(where: StoreUrl, config: dict[str, str], common: dict[str, Any]) -> S3Store:
    style = config.pop("addressing_style", "path")
    config.pop("allow_http", None)
    config.pop("profile", None)
    keys = {name: config.pop(name, "") for name in ("access_key_id", "secret_access_key", "session_token")}
    if style == "virtual":
        config["virtual_hosted_style_request"] = "true"
        if "endpoint" in config:  # the client takes the endpoint as it is, so the bucket must be in it
            config["endpoint"] = _with_bucket(config["endpoint"], where.host)
    if keys["access_key_id"]:
        common["credential_provider"] = _StaticKeys(keys)
        config.setdefault("skip_signature", "false")
    # Single deletes go as DELETE, which every S3 look-alike knows, and not as a bulk POST.
    settings: Any = {"disable_bulk_delete": True, **config}
    return S3Store(where.host, config=settings, **common)


class _StaticKeys:
    """Keys that were given. Through a provider, so that no AWS_SESSION_TOKEN of other keys in the environment joins."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        self._keys = keys

    def __call__(self) -> Any:
        never: datetime | None = None
        return {
            "access_key_id": self._keys["access_key_id"],
            "secret_access_key": self._keys["secret_access_key"],
            "token": self._keys["session_token"] or None,
            "expires_at": never,
        }


def _with_bucket(endpoint: str, bucket: str) -> str:
    parts = urlsplit(endpoint)
    return parts._replace(netloc=f"{bucket}.{parts.netloc}").geturl()


def _gs(where: StoreUrl, config: dict[str, str], common: dict[str, Any]) -> GCSStore:
    config.pop("allow_http", None)
    renamed = {"service_account_path": "service_account", "endpoint": "base_url"}
    settings: Any = {renamed.get(name, name): value for name, value in config.items()}
    return GCSStore(where.host, config=settings, **common)


def _azure(where: StoreUrl, config: dict[str, str], common: dict[str, Any]) -> AzureStore:
    config.pop("allow_http", None)
    container, _, account = where.host.partition("@")
    if account:  # container@account.dfs.core.windows.net
        config["account_name"] = account.split(".", 1)[0]
    if config.get("use_emulator", "").lower() in _TRUE:
        common["client_options"]["allow_http"] = True
    renamed = {"sas_token": "sas_key"}
    settings: Any = {renamed.get(name, name): value for name, value in config.items()}
    return AzureStore(container, config=settings, **common)


_TRUE = ("1", "true", "yes", "on")
_MAKERS = {"s3": _s3, "gs": _gs}
