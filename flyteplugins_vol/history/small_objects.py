"""Refs and leases: JSON objects of some 1,000 bytes that anybody may have put there, read and written in one way.

Their names are no hashes, so the first of their fields is one, of all that follows: a bit that is flipped on the way
would else make a fence of another, or of a whole version one that is not there.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from blake3 import blake3

from flyteplugins_vol.errors import NewerFormatError, RecordDamagedError
from flyteplugins_vol.history.asking import insist
from flyteplugins_vol.store.base import ObjectStore, Tagged

T = TypeVar("T")

MAX_NUMBER = (1 << 53) - 1
"""The greatest number of the format: what every JSON library keeps exactly."""

_LONGEST_TEXT = 1024
_CHECK = b'{"check":"'
_REST = len(_CHECK) + 64 + 2  # where the bytes begin that are hashed


@dataclass(frozen=True)
class Kind:
    """One kind of small object: what its head says, and what a person does when it is another."""

    word: str
    format: str
    version: int
    needs: tuple[str, ...]  # fields with words that this release would have to know; it knows none
    if_newer: str
    if_damaged: str


def encode(body: dict[str, Any]) -> bytes:
    """The bytes of an object with these fields."""
    rest = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()[1:]
    return _CHECK + blake3(rest).hexdigest().encode() + b'",' + rest


def read(store: ObjectStore, key: str, understand: Callable[[Tagged], T]) -> T | None:
    """What ``understand`` makes of the object; None if there is none. Of a damaged one only after three GETs.

    Raises what ``understand`` raises, and `StoreError`.
    """

    def once() -> T | None:
        found = store.get_tagged(key)
        return None if found is None else understand(found)

    return insist(once)


def parse(kind: Kind, data: bytes, where: str, build: Callable[[dict[str, Any]], T]) -> T:
    """What ``build`` makes of the object's fields, once its head is one that this release knows.

    ``build`` may raise ValueError, KeyError and TypeError. Raises `RecordDamagedError`, `NewerFormatError`.
    """
    try:
        if data.startswith(_CHECK) and blake3(data[_REST:]).hexdigest().encode() != data[len(_CHECK) : _REST - 2]:
            raise ValueError("it was altered")
        body: dict[str, Any] = json.loads(data)
        if body["format"] != kind.format:
            raise ValueError(f"its format is {str(body['format'])[:100]!r}")
        needs = [word for field in kind.needs for word in body[field]]
        if number(body, "format_version", 1) > kind.version or needs:
            raise NewerFormatError(
                f"{where} has format {body['format_version']} and needs {str(needs)[:200] if needs else 'nothing else'}"
                f"; this release reads format {kind.version}",
                hint=kind.if_newer,
            )
        return build(body)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        why = f"{error} is missing" if isinstance(error, KeyError) else str(error)[:300]
        raise RecordDamagedError(f"{where} is no {kind.word}: {why}", hint=kind.if_damaged) from error


def number(body: dict[str, Any], name: str, least: int = 0, most: int = MAX_NUMBER) -> int:
    """An integer in its bounds; JSON's ``true``, ``1.0`` and ``NaN`` are none. Raises ValueError, KeyError."""
    value = body[name]
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"its {name} is out of bounds: {str(value)[:40]}")
    return value


def text(body: dict[str, Any], name: str) -> str:
    """A text of at most 1,024 characters. Raises ValueError, KeyError."""
    value = body[name]
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT:
        raise ValueError(f"its {name} is no text, or too long")
    return value


def flag(body: dict[str, Any], name: str) -> bool:
    """True or false. Raises ValueError, KeyError."""
    value = body[name]
    if not isinstance(value, bool):
        raise ValueError(f"its {name} is neither true nor false")
    return value
