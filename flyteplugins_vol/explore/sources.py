"""From what a person named (a locator, a name, a path) to what to show. Everything blocks; nothing is shown here."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from flyteplugins_vol.config import cache_root
from flyteplugins_vol.errors import LocatorError, UsageError, VolumeError
from flyteplugins_vol.explore.connection import check_index_file
from flyteplugins_vol.explore.versions import Versions
from flyteplugins_vol.history.record import VersionRecord, check_name, parse_locator
from flyteplugins_vol.history.volumes import VolumeEntry
from flyteplugins_vol.io.hosts import store_url
from flyteplugins_vol.mount import control

STORE_TYPES = ("sqlite",)
_COPIES = 5
_CONTROL_SECONDS = 2.0
_ID = re.compile(r"-[0-9a-f]{16}$")

Note = Callable[[str], None]


@dataclass(frozen=True)
class Shown:
    """What to open. ``index`` is None until the record's index is on this machine."""

    title: str
    versions: Versions | None  # None: no store is known, so neither history nor previews
    record: VersionRecord | None
    index: str | None = None
    note: str = ""  # what it is, where it is no version
    owned: str | None = None  # a directory to remove in the end


@dataclass(frozen=True)
class Choice:
    """Nothing was named: the volumes of a store to choose from."""

    versions: Versions
    volumes: list[VolumeEntry]


def resolve(target: str | None, store: str | None, from_file: str | None, note: Note) -> Shown | Choice:
    """Raises `VolumeError`."""
    if from_file is not None:
        return index_file(from_file, store)
    if target is None:
        return _choice(store, note)
    if looks_like_locator(target):
        return _locator(target, note)
    if os.path.exists(target):
        return _path(os.path.realpath(target), store, note)
    if os.sep in target:
        raise UsageError(f"there is no {target}", hint="give a locator, a volume's name, or the path of an index file")
    return _name(target, store, note)


def index_file(path: str, store: str | None) -> Shown:
    """An index file somewhere on this machine, as it is now: a workspace's own is copied, since it changes."""
    path = index_path(path)
    versions = Versions(store) if store else None
    state = _state_beside(path)
    if state is None and not os.path.exists(path + "-wal"):
        check_index_file(path)
        return Shown(os.path.basename(path), versions, None, path, "index file")
    check_index_file(path)
    record = None
    base = state.get("base") if state else None
    if isinstance(base, str):
        versions, record = _base(base, versions)
    owned = tempfile.mkdtemp(prefix="flytevol-explore-")
    try:
        copy = _copy_of_live(path, owned)
        check_index_file(copy)
    except BaseException:
        shutil.rmtree(owned, ignore_errors=True)
        raise
    title = record.volume_name if record else os.path.basename(os.path.dirname(path))
    return Shown(title, versions, record, copy, "workspace, not committed", owned)


def index_path(path: str) -> str:
    """The file itself; of a workspace's directory, the index in it."""
    path = os.path.realpath(os.path.expanduser(path))
    return os.path.join(path, "index.db") if os.path.isdir(path) else path


def looks_like_locator(text: str) -> bool:
    return "://" in text or ("/versions/" in text and text.endswith(".json"))


def _locator(text: str, note: Note) -> Shown:
    where = parse_locator(text if "://" in text else f"file://{quote(os.path.abspath(text))}")
    versions = Versions(where.store_url)
    where = parse_locator(f"{versions.store_url}/{where.key}")  # file:///a//b and file:///a/b are one store
    note("reading the version record")
    record = versions.record(str(where))
    return Shown(record.volume_name, versions, record)


def _name(name: str, store: str | None, note: Note) -> Shown:
    try:
        check_name(_ID.sub("", name.partition("@")[0]))
    except VolumeError as error:
        raise LocatorError(
            f"{name[:300]!r} is no locator, no file, and cannot name a volume",
            hint="give a locator, a volume's name, or the path of an index file",
        ) from error
    versions = Versions(store_url(store))
    note(f"looking for {name} in {versions.store_url}")
    return Shown(name, versions, versions.newest(name))


def _choice(store: str | None, note: Note) -> Choice:
    versions = Versions(store_url(store))
    note(f"listing the volumes of {versions.store_url}")
    volumes = versions.volumes()
    if not volumes:
        raise UsageError(
            f"{versions.store_url} has no volumes",
            hint="give a locator, a volume's name, an index file, or another store with --store",
        )
    return Choice(versions, volumes)


def _path(path: str, store: str | None, note: Note) -> Shown:
    if not os.path.isdir(path) or os.path.exists(os.path.join(path, "index.db")):
        return index_file(path, store)
    note("asking the mounts of this machine")
    meta_dir, base = _mount(path)
    if meta_dir is not None and os.path.exists(os.path.join(meta_dir, "index.db")):
        return index_file(meta_dir, store)
    if base is not None:
        return _locator(base, note)
    raise UsageError(
        f"{path} is a directory, and no volume is mounted there",
        hint="give a locator, a volume's name, the path of an index file, or that of a mount",
    )


def _mount(path: str) -> tuple[str | None, str | None]:
    """Workspace and base locator of the live mount at a path."""
    for kind in ("workspaces", "mounts"):
        parent = os.path.join(cache_root(), kind)
        for name in os.listdir(parent) if os.path.isdir(parent) else ():
            meta_dir = os.path.join(parent, name)
            for status in _statuses(meta_dir):
                if status.get("mount_path") == path:
                    return meta_dir, status.get("base")
    return None, None


def _statuses(meta_dir: str) -> list[dict[str, Any]]:
    sockets = os.path.join(meta_dir, "control")
    found: list[dict[str, Any]] = []
    for name in os.listdir(sockets) if os.path.isdir(sockets) else ():
        try:
            found.append(control.request(os.path.join(sockets, name), {"request": "status"}, None, _CONTROL_SECONDS))
        except (control.DaemonGone, TimeoutError, VolumeError):
            continue  # a daemon that has ended leaves its socket
    return found


def _state_beside(path: str) -> dict[str, Any] | None:
    """What a workspace's state.json says, see history/local.py; None: this is no workspace."""
    try:
        with open(os.path.join(os.path.dirname(path), "state.json"), encoding="utf-8") as file:
            state = json.load(file)
    except (OSError, ValueError):
        return None
    return state if isinstance(state, dict) else None  # pyright: ignore[reportUnknownVariableType]


def _base(base: str, versions: Versions | None) -> tuple[Versions | None, VersionRecord | None]:
    """The version that a workspace builds on; without it there is still the tree."""
    try:
        versions = versions or Versions(parse_locator(base).store_url)
        return versions, versions.record(base)
    except VolumeError:
        return versions, None


def _copy_of_live(path: str, directory: str) -> str:
    """A copy of an index that a daemon may be writing: all rows that it has committed to SQLite.

    The main file changes only in a checkpoint, which moves its time; what is in the log behind it is whole up to its
    last commit, whatever the copy cut off.
    """
    copy = os.path.join(directory, "index.db")
    for _ in range(_COPIES):
        before = os.stat(path)
        shutil.copyfile(path, copy)
        if os.path.exists(path + "-wal"):
            shutil.copyfile(path + "-wal", copy + "-wal")
        after = os.stat(path)
        if (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size):
            break
    _fold_in_log(copy)
    return copy


def _fold_in_log(copy: str) -> None:
    """So that the copy can be read as it is, by many connections and without its log."""
    import sqlite3

    db = sqlite3.connect(copy, isolation_level=None)
    try:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        db.execute("PRAGMA journal_mode=DELETE").fetchall()
    except sqlite3.DatabaseError as error:
        raise UsageError(f"the index cannot be read just now: {error}", hint="try again") from error
    finally:
        db.close()
