"""Refs: mutable names for versions, moved only from the version that the mover builds on."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from flyteplugins_vol.errors import UsageError
from flyteplugins_vol.history.record import volume_prefix
from flyteplugins_vol.history.small_objects import Kind, encode, number, parse, read, text
from flyteplugins_vol.store.base import ObjectStore, Tagged

MAIN = "main"

_KIND = Kind(
    word="ref",
    format="flytevol/ref",
    version=1,
    # Whoever reads a ref may go on to move it: so what only writers must know is refused here as well.
    needs=("requires", "requires_to_write"),
    if_newer="install a newer release of flyteplugins-vol",
    if_damaged="use the locator of a version instead",
)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_VERSION = re.compile(r"([0-9]{8}|[1-9][0-9]{8,15})-[0-9a-f]{40}\.json")
_WAITS = (0.1, 0.2)  # seconds, as of `Doubting`, which cannot know of a ref whether it must be there


@dataclass(frozen=True)
class Ref:
    """What a ref says: the file name of a version record, and the id of the writer that put it there.

    Who has a smaller ``fence`` has lost the lease, and may not move it (`lease` has the reason).
    """

    version: str
    writer: str
    tag: str
    fence: int = 0


def ref_key(volume_name: str, volume_id: str, ref: str = MAIN) -> str:
    """Key of a ref in its store. Raises `UsageError` for a name that none can have."""
    if not _NAME.fullmatch(ref):
        raise UsageError(
            f"{ref!r} cannot name a ref", hint="use 1 to 63 letters, digits, '.', '_' and '-', the first no sign"
        )
    return f"{volume_prefix(volume_name, volume_id)}/refs/{ref}.json"


def read_ref(store: ObjectStore, key: str) -> Ref | None:
    """The ref, or None if it was never set. One GET, if it is not damaged.

    Raises `RecordDamagedError`, `NewerFormatError`.
    """
    return read(store, key, lambda found: _ref(found, f"{store.url}/{key}"))


def _ref(found: Tagged, where: str) -> Ref:
    def build(body: dict[str, Any]) -> Ref:
        version = text(body, "version")
        if not _VERSION.fullmatch(version):  # it becomes part of a locator
            raise ValueError(f"{version[:100]!r} names no version")
        fence = number(body, "fence") if "fence" in body else 0
        return Ref(version, text(body, "writer"), found.tag, fence)

    return parse(_KIND, found.data, where, build)


def read_known_ref(store: ObjectStore, key: str, *, sleep: Callable[[float], None] = time.sleep) -> Ref | None:
    """As `read_ref`, of a ref that was set before: an answer of absence may be a cache's, and is looked at again."""
    for wait in _WAITS:
        if (ref := read_ref(store, key)) is not None:
            return ref
        sleep(wait)
    return read_ref(store, key)


def move_ref(
    store: ObjectStore, key: str, version: str, writer: str, tag: str | None, fence: int = 0
) -> str | None:  # fmt: skip
    """Let the ref name the version of this file name if it still has ``tag`` (None: if there is none).

    The new tag; None: lost.
    """
    body: dict[str, Any] = {
        "format": _KIND.format,
        "format_version": _KIND.version,
        "requires": [],
        "requires_to_write": [],
        "version": version,
        "writer": writer,
        "fence": fence,
        # unique bytes for each move: a store whose tag is a hash of the content would else repeat a tag
        "moved": datetime.now(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z"),
    }
    return store.replace(key, encode(body), tag)
