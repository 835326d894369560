"""What is damaged is asked for again: perhaps it is whole in the store, and was harmed on its way from there."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from flyteplugins_vol.errors import DamageError

T = TypeVar("T")

_TIMES = 3


def insist(read: Callable[[], T]) -> T:
    """What ``read`` returns, at its third try at the latest. Its `DamageError` if that finds damage as well."""
    for _ in range(_TIMES - 1):
        try:
            return read()
        except DamageError:
            pass
    return read()
