"""`open_store`: from a URL and options to a store that is ready to use."""

from __future__ import annotations

from importlib.util import find_spec

from ..config import StoreOptions, store_options_from_environment
from ..errors import UsageError
from . import obstoreruntime
from .base import ObjectStore
from .doubting import Doubting
from .encrypted import Encrypted, Unencrypted
from .local import LocalStore
from .memory import MemoryStore
from .retrying import Retrying
from .url import NATIVE_SCHEMES, StoreUrl, parse_store_url

BACKENDS = ("auto", "obstore", "fsspec")
_TRUSTED = ("file", "memory")  # nothing is between them and us


def open_store(url: str, options: StoreOptions | None = None) -> ObjectStore:
    """The store at ``url``, retrying; without options, as the environment says. Touches neither disk nor network.

    Raises `UnknownSchemeError` for a scheme that no store speaks, `UsageError` for a URL that is none.
    """
    where = parse_store_url(url)
    options = options or store_options_from_environment(where.text)
    if options.backend not in BACKENDS:
        raise UsageError(f"no store backend {options.backend!r}", hint=f"one of {', '.join(BACKENDS)}")
    store = open_bare(where, options)
    if where.scheme not in _TRUSTED:
        store = Doubting(store)
    store = Encrypted(store, options.encryption) if options.encryption else Unencrypted(store)
    return Retrying(store, retries=options.retries, timeout=options.timeout)


def open_bare(where: StoreUrl, options: StoreOptions) -> ObjectStore:
    """The store itself, which tries each call once."""
    if options.backend == "fsspec" or where.scheme not in NATIVE_SCHEMES or _needs_s3fs(where, options):
        from .fsspecstore import FsspecStore  # fsspec takes 0.1 s to import

        return FsspecStore.opened(where, options)
    if where.scheme == "file":
        return LocalStore(where.text, where.path)
    if where.scheme == "memory":
        return MemoryStore(where.text)
    from .objectstore import CloudStore

    return CloudStore.opened(where, options)


def _needs_s3fs(where: StoreUrl, options: StoreOptions) -> bool:
    """Where keys are to be got from somebody, and in a forked child, where obstore does not work any more.

    If there is s3fs.
    """
    if where.scheme != "s3" or options.backend != "auto":
        return False
    asks = "profile" in options.config and "access_key_id" not in options.config
    return (asks or obstoreruntime.is_lost()) and find_spec("s3fs") is not None
