"""Bytes: where objects are kept, and how they are brought there and back.

`open_store` gives an `ObjectStore`; wrappers add retries, counts, faults and latency.
"""

from __future__ import annotations

from .base import Data, ObjectInfo, ObjectStore, StoreOptions, Tagged
from .open import open_store
from .url import parse_store_url

__all__ = ["Data", "ObjectInfo", "ObjectStore", "StoreOptions", "Tagged", "open_store", "parse_store_url"]
