"""How much of an object is read at most, by what its key says it is.

A store may answer with terabytes, or without end, by mistake or by malice. So every store here reads an answer piece by
piece and stops one byte behind the most that it can be: an `ObjectTooLargeError`, and never more memory than that.

| key                                           | most, as it is stored                                   |
|-----------------------------------------------|---------------------------------------------------------|
| version records, and copies of deleted ones   | 24 MiB: the format's 16 MiB, encrypted and in base64    |
| lists of what collections marked              | 24 MiB: 200,000 names, encrypted and in base64          |
| refs, leases, ``keys/…``, ``gc/marks.json``   | 64 KiB; they have some 1,000 bytes                      |
| everything else (packs, index objects)        | 1 GiB of a container and 2 MiB for its encryption       |

Ranges and tails are bounded by their size. Who knows the size of a whole container asks for that range of it.
"""

from __future__ import annotations

import re
from typing import TypeVar

from ..errors import ObjectTooLargeError
from .base import Data

RECORD = 24 << 20
SMALL = 64 << 10
CONTAINER = (1 << 30) + (2 << 20)

B = TypeVar("B", bound=Data)

_KINDS = (
    (re.compile(r"volumes/[^/]+/(?:versions|deleted)/[^/]+|gc/lists/[^/]+"), RECORD),
    (re.compile(r"volumes/[^/]+/(?:refs/[^/]+|lease\.json)|keys/.+|gc/marks\.json"), SMALL),
)


def most_of(key: str) -> int:
    """The greatest number of bytes that the object of this key may have in the store."""
    return next((most for pattern, most in _KINDS if pattern.fullmatch(key)), CONTAINER)


def within(data: B, key: str, most: int) -> B:
    """``data``, if there are no more than ``most`` bytes of it. Raises `ObjectTooLargeError`."""
    if len(data) > most:
        raise too_large(key, most)
    return data


def too_large(key: str, most: int) -> ObjectTooLargeError:
    """The error for an answer of more than ``most`` bytes."""
    return ObjectTooLargeError(
        f"the store's answer for {key} has more than the {most:,} bytes that it can have: it was not read any further",
        hint="the object was replaced by something else, or what answers is no such store: restore it from a copy, "
        "and look at the store and at what is between it and this machine",
    )
