"""Marks: what collections of a store found dead, for whoever publishes to look at. docs/FORMAT.md, section 8.

A collection deletes nothing that it did not mark long before. Whoever publishes creates its record and then looks at
the marks; a collection marks and then looks at the records. So one of the two sees the other, whatever their clocks
say. `gc/marks.json` is written by conditional put, and each collection begins by writing it: where it is as it was,
nothing has been deleted that was not about to be.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

from flyteplugins_vol.errors import StoreUnavailableError
from flyteplugins_vol.history.small_objects import Kind, parse, text
from flyteplugins_vol.store.base import ObjectStore
from flyteplugins_vol.store.container import INDEX, PACK, object_key

KEY = "gc/marks.json"
LISTS = "gc/lists/"
MOST = 200_000
"""Names in one list, at most: 14 MB. What does not find room waits for the next."""

_NAME = re.compile(r"[0-9a-f]{16}")
_OBJECT = re.compile(r"[0-9a-f]{64}")
_MOST_LISTS = 100
_TRIES = 5
_UPGRADE = "install a newer release of flyteplugins-vol"
_BEGIN_ANEW = "see that no `flytevol gc` runs, then remove that object; the next ones begin anew"
_MARKS = Kind("object of marks", "flytevol/marks", 1, ("requires",), _UPGRADE, _BEGIN_ANEW)
_LIST = Kind("list of marks", "flytevol/marked", 1, ("requires",), _UPGRADE, _BEGIN_ANEW)


@dataclass(frozen=True)
class Marks:
    """The lists of marked objects that are in force, the oldest first. ``run`` names the last collection that began."""

    run: str
    lists: tuple[str, ...]
    tag: str


def read_marks(store: ObjectStore) -> Marks | None:
    """What collections have marked; None where there never was one. One GET.

    Raises `RecordDamagedError`, `NewerFormatError`, `StoreError`.
    """
    found = store.get_tagged(KEY)
    if found is None:
        return None

    def build(body: dict[str, Any]) -> Marks:
        return Marks(text(body, "run"), _names(_NAME, body["lists"], _MOST_LISTS), found.tag)

    return parse(_MARKS, found.data, f"{store.url}/{KEY}", build)


def write_marks(store: ObjectStore, lists: Iterable[str], before: Marks | None) -> Marks | None:
    """Let these lists be in force, if the marks are as they were read ``before``. None: somebody else was first."""
    run, names = uuid.uuid4().hex[:16], tuple(lists)
    tag = store.replace(KEY, _encode(_MARKS, {"run": run, "lists": list(names)}), before.tag if before else None)
    return Marks(run, names, tag) if tag is not None else None


def create_list(store: ObjectStore, keys: Iterable[str]) -> str:
    """Write a list of containers' keys; its name."""
    name = uuid.uuid4().hex[:16]
    wanted = sorted(keys)
    body = {kind: [key.rpartition("/")[2] for key in wanted if key.startswith(f"{kind}/")] for kind in _KINDS}
    store.create(list_key(name), _encode(_LIST, body))
    return name


def read_list(store: ObjectStore, name: str) -> frozenset[str] | None:
    """Keys of the containers in a list; None where it was withdrawn. Raises as `read_marks`."""
    found = store.get_tagged(list_key(name))
    if found is None:
        return None

    def build(body: dict[str, Any]) -> frozenset[str]:
        return frozenset(
            object_key(code, one) for kind, code in _KINDS.items() for one in _names(_OBJECT, body[kind], MOST)
        )

    return parse(_LIST, found.data, f"{store.url}/{list_key(name)}", build)


def read_marked(store: ObjectStore) -> tuple[Marks | None, frozenset[str]]:
    """The marks, and the keys of all containers in their last list, of one moment. Raises as `read_marks`.

    What is not in the last list is not deleted, whatever the others say.
    """
    for _ in range(_TRIES):
        marks = read_marks(store)
        keys = read_list(store, marks.lists[-1]) if marks is not None and marks.lists else frozenset[str]()
        if keys is not None:
            return marks, keys
    raise _withdrawn(store)


def read_all_marked(store: ObjectStore) -> tuple[Marks | None, frozenset[str]]:
    """The marks, and the keys of all containers in any list in force, of one moment. Raises as `read_marks`.

    What is in an older list alone may have been deleted already, and one that does so may still be at work. No writer
    cares, since all that it creates has a new name; but a copy gives names again.
    """
    for _ in range(_TRIES):
        marks = read_marks(store)
        lists = [read_list(store, name) for name in marks.lists] if marks is not None else []
        if None not in lists:
            return marks, frozenset[str]().union(*(keys for keys in lists if keys is not None))
    raise _withdrawn(store)


def list_key(name: str) -> str:
    """Key of a list in its store."""
    return f"{LISTS}{name}.json"


_KINDS = {"packs": PACK, "index": INDEX}


def _withdrawn(store: ObjectStore) -> StoreUnavailableError:
    return StoreUnavailableError(f"{store.url}/{KEY} names lists that are not there", hint="try again in a minute")


def _encode(kind: Kind, body: dict[str, Any]) -> bytes:
    whole: dict[str, Any] = {"format": kind.format, "format_version": kind.version, "requires": [], **body}
    return json.dumps(whole, sort_keys=True, separators=(",", ":")).encode()


def _names(pattern: re.Pattern[str], value: Any, most: int) -> tuple[str, ...]:
    if not isinstance(value, list) or len(cast("list[Any]", value)) > most:
        raise ValueError("a field is no list, or too long")
    names = cast("list[Any]", value)
    if not all(isinstance(name, str) and pattern.fullmatch(name) for name in names):
        raise ValueError("a list has something else than names")
    return tuple(names)
