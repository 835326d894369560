"""Store URLs: taken apart, checked and written in one way, so that equal stores have equal URLs.

    file:///absolute/path      a directory (a plain absolute path means the same)
    memory://name              this process's memory
    s3://bucket/prefix         and gs://, az:// (abfs://, abfss://): object storage
    other://host/prefix        whatever fsspec knows

Credentials have no place in them: a store's URL is recorded and shown.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import SplitResult, quote, unquote, urlsplit

from ..errors import UnknownSchemeError, UsageError

AZURE_SCHEMES = ("az", "abfs", "abfss")
"""Azure Blob Storage: ``abfs://container/prefix``, or ``abfs://container@account.dfs.core.windows.net/prefix``."""

NATIVE_SCHEMES = ("file", "memory", "s3", "gs", *AZURE_SCHEMES)
"""Schemes that need nothing but the core's own dependencies."""

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_HINT = "a store is file:///path, s3://bucket/prefix, gs://…, abfs://… or memory://name"


class StoreUrl(NamedTuple):
    """The parts of a store URL; ``path`` is decoded, and has no slash at its end."""

    scheme: str
    host: str  # bucket, container or name; '' for file
    path: str  # absolute for file, relative to the bucket otherwise
    text: str  # the whole, normalised


def parse_store_url(url: str) -> StoreUrl:
    """Take a store URL apart. A `UsageError` says what is wrong with it, and never repeats a credential."""
    if any(ord(letter) < 32 for letter in url):  # urlsplit would drop some of them in silence
        raise UsageError("a store URL has no control characters", hint=_HINT)
    if any("\ud800" <= letter <= "\udfff" for letter in url):
        raise UsageError("a store URL is text: a byte that is not UTF-8 is written as %hh", hint=_HINT)
    if url.startswith("/"):
        return _file(_clean(url))
    parts = _split(url)
    if parts.query or parts.fragment:
        raise UsageError("a store URL has no '?' and no '#'", hint=_HINT)
    host = _host(parts.scheme, parts.netloc)
    path = _clean(unquote(parts.path))
    if parts.scheme == "file":
        if host not in ("", "localhost") or not parts.path.startswith("/"):
            raise UsageError("a file:// URL needs an absolute path: three slashes", hint=_HINT)
        return _file(path)
    if not host and parts.scheme in NATIVE_SCHEMES:
        raise UsageError(f"{parts.scheme}:// names no bucket", hint=_HINT)
    text = f"{parts.scheme}://{host}{quote(path, safe=_PLAIN)}"
    return StoreUrl(parts.scheme, host, path.lstrip("/"), text)


def unknown_scheme(scheme: str, *, hint: str = "") -> UnknownSchemeError:
    """The error for a scheme that no store speaks."""
    known = ", ".join(f"{name}://" for name in NATIVE_SCHEMES)
    return UnknownSchemeError(f"no store speaks {scheme}://", hint=hint or f"use one of {known}, or one fsspec knows")


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if "://" not in url or not _SCHEME.fullmatch(parts.scheme):
        raise UsageError("this is not a store URL, nor an absolute path", hint=_HINT)
    return parts


def _host(scheme: str, netloc: str) -> str:
    """The host, once it is sure that no user or password hides in it; ``container@account`` is Azure's own form."""
    user, at, _ = netloc.rpartition("@")
    if at and (scheme not in AZURE_SCHEMES or ":" in user or "@" in user):
        raise UsageError(
            f"this {scheme}:// URL carries a user name or a password",
            hint="give credentials by the environment (AWS_ACCESS_KEY_ID, …) or by StoreOptions; URLs are recorded",
        )
    return netloc


def _clean(path: str) -> str:
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in path:
        raise UsageError("a store URL has no '..' and no NUL in its path", hint=_HINT)
    return "".join(f"/{part}" for part in parts)


def _file(path: str) -> StoreUrl:
    return StoreUrl("file", "", path or "/", f"file://{quote(path or '/', safe=_PLAIN)}")


_PLAIN = "/-_.~+=@,:()!'*&$"
