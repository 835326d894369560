"""From what a person types to a volume: a locator, a name, or a name with a version (`history.finding`).

In Python that is `Volume.find`; here a locator may be a path, and errors have exit codes and hints of their own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import closing
from itertools import count
from typing import Any

from flyteplugins_vol.cli.errors import AmbiguousError, ExistsError, NotFoundError
from flyteplugins_vol.config import store_from_environment
from flyteplugins_vol.errors import UsageError, VolumeError
from flyteplugins_vol.history.finding import versions_meant
from flyteplugins_vol.history.record import Locator, VersionRecord, check_name, load_record
from flyteplugins_vol.history.volumes import VolumeEntry, find_volumes, head
from flyteplugins_vol.human import hidden, shown
from flyteplugins_vol.io import ROVolume, RWVolume, Volume, hosts
from flyteplugins_vol.store.base import ObjectStore
from flyteplugins_vol.store.open import open_store
from flyteplugins_vol.store.url import parse_store_url

_SHOWN = 20  # candidates in a message
_OURS = {"volumes", "packs", "gc"}  # top directories of which a store that is not new has some
_FORK = re.compile(r"-fork(?:-[0-9]+)?$")
_LONGEST_NAME = 63


def opened_store(url: str | None) -> Any:
    """The store that was named, or the default one; closed after the ``with`` block."""
    where = hosts.store_url(url)
    try:
        return closing(open_store(where, hosts.store_options(where, None)))
    except VolumeError:
        raise
    except Exception as error:  # file systems of fsspec fail each in its own way when they lack something
        raise UsageError(
            f"{shown(where.partition('://')[0])}:// cannot be opened as a store ({type(error).__name__})",
            hint="use file://, s3://, gs:// or abfs://",
        ) from error


def check_named_store(store: ObjectStore, url: str | None) -> None:
    """`NotFoundError` for a directory that is not there, if somebody has named it: this user's own may be yet to be."""
    where = parse_store_url(store.url)
    if where.scheme == "file" and (url or store_from_environment()) and not os.path.lexists(where.path):
        raise NotFoundError(
            f"there is no store {store.url}",
            hint="--store names another one; `flytevol new` makes a store with its first volume",
        )
    if where.scheme == "file" and os.path.exists(where.path) and not os.path.isdir(where.path):
        raise NotFoundError(f"there is no store {store.url}: it is no directory", hint="--store names another one")


def check_is_store(store: ObjectStore) -> None:
    """`NotFoundError` where nothing is of a store's making."""
    if not _OURS & set(store.list_dirs("")):
        raise NotFoundError(
            f"there is no store at {store.url}: nothing there is of a volume",
            hint="give the URL that --store has for other commands",
        )


def is_locator(text: str) -> bool:
    return "://" in text or "/versions/" in text or text.endswith(".json")


def version_at(text: str, store: str | None) -> ROVolume:
    """The version that an address names. Raises `UsageError` and what `Volume.from_locator` raises."""
    if is_locator(text):
        return Volume.from_locator.sync(_absolute(text))
    with opened_store(store) as opened:
        return ROVolume.of(_record_at(opened, text))


def writer_at(text: str, store: str | None, *, fork: str | None = None, forks: bool = False) -> tuple[RWVolume, bool]:
    """A volume to write to, and whether it is a fork.

    The line of a name goes on; a locator, or a name with a version, is forked, since versions never change. ``forks``:
    in any case. ``fork``: the fork's name, by default `fork_name`. Raises `ExistsError` for one that is taken.
    """
    name, at, _ = text.partition("@")
    if is_locator(text) or at or forks or fork is not None:
        version = version_at(text, store)
        with opened_store(version.store) as opened:
            if fork is not None:
                check_free(opened, fork)
            return version.fork.sync(fork or fork_name(opened, version.name)), True
    with opened_store(store) as opened:
        volume = volume_at(opened, name)
        record = _head(opened, volume)
    return RWVolume(name=volume.name, volume_id=volume.id, store=opened.url, options=None, record=record), False


def fork_name(store: ObjectStore, name: str) -> str:
    """A name for a fork of a volume that no other has: the parent's with ``-fork``, ``-fork-2``, and so on."""
    stem = _FORK.sub("", name)
    for number in count(1):
        end = "-fork" if number == 1 else f"-fork-{number}"
        chosen = f"{stem[: _LONGEST_NAME - len(end)]}{end}"
        if not find_volumes(store, chosen):
            return chosen
    raise AssertionError


def check_free(store: ObjectStore, name: str, hint: str = "choose another name") -> None:
    """With two volumes of a name, every use of the name would be refused: `ExistsError`."""
    there = find_volumes(store, check_name(name))
    if there:
        raise ExistsError(f"there is a volume {name!r} in {store.url}: {there[0]}", hint=hint)


def volume_at(store: ObjectStore, name: str) -> VolumeEntry:
    """The one volume of a name. Raises `NotFoundError`, or `AmbiguousError` with the candidates."""
    found = find_volumes(store, name)
    if len(found) > 1:
        lines = [f"  {volume}{_summary(store, volume)}" for volume in found[:_SHOWN]]
        more = [f"  and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
        raise AmbiguousError(
            "\n".join([f"{len(found)} volumes in {store.url} are named {shown(name)!r}:", *lines, *more]),
            hint="give one of these instead of the name",
        )
    if not found:
        raise NotFoundError(
            f"no volume {shown(name)!r} in {store.url}",
            hint="flytevol list shows what is there; --store names another store, a locator needs none",
        )
    return found[0]


def path_in(volume: Volume, text: str) -> str:
    r"""A path of the command line; if there is none, and its escapes (``\n``, ``\xff``) lead to one, that one.

    Raises `UsageError` for an empty one.
    """
    return _written_out(volume, text, len(text))


def place_in(volume: Volume, text: str) -> str:
    """A path of the command line at which something is to be made: as `path_in`, for as much of it as is there."""
    end = len(text.rstrip("/"))
    while end > 0 and "\\" in text[:end]:
        found = _written_out(volume, text, end)
        if found != text or _is_there(volume, text[:end]):
            return found
        end = text.rfind("/", 0, end)
    return _written_out(volume, text, len(text))


def _written_out(volume: Volume, text: str, end: int) -> str:
    """The path, with the escapes before ``end`` as what they stand for if that, and not the text itself, is there."""
    if not text:
        raise UsageError(
            "an empty path names no file", hint="/ is the volume's root; is a variable of the shell unset?"
        )
    if "\\" in text[:end] and not _is_there(volume, text[:end]):
        plain = hidden(text[:end])
        if _is_there(volume, plain):
            return plain + text[end:]
    return text


def _is_there(volume: Volume, path: str) -> bool:
    try:
        volume.stat.sync(path, follow_symlinks=False)
    except OSError:
        return False
    return True


def _record_at(store: ObjectStore, text: str) -> VersionRecord:
    name, at, version = text.partition("@")
    volume = volume_at(store, name)
    if not at:
        return _head(store, volume)
    return load_record(store, _version(store, volume, version))


def _head(store: ObjectStore, volume: VolumeEntry) -> VersionRecord:
    locator = head(store, volume)
    if locator is None:
        raise NotFoundError(
            f"volume {volume} in {store.url} has no version", hint="commit one, or name a version: NAME@VERSION"
        )
    return load_record(store, locator)


def _version(store: ObjectStore, volume: VolumeEntry, text: str) -> Locator:
    found = versions_meant(store, volume, text)
    if len(found) > 1:
        raise AmbiguousError(
            "\n".join([f"{len(found)} versions of {volume} are meant by {shown(text)!r}:", *_lines(found)]),
            hint="give more of the version",
        )
    if not found:
        raise NotFoundError(
            f"volume {volume} has no version {shown(text)!r}", hint=f"flytevol log {volume.name} shows its versions"
        )
    return found[0]


def _lines(versions: Sequence[Locator]) -> list[str]:
    lines = [f"  {locator.file.removesuffix('.json')}" for locator in versions[:_SHOWN]]
    return [*lines, f"  and {len(versions) - _SHOWN} more"] if len(versions) > _SHOWN else lines


def _summary(store: ObjectStore, volume: VolumeEntry) -> str:
    locator = head(store, volume)
    return f"  newest version {locator.file.removesuffix('.json')}" if locator is not None else "  no version"


def _absolute(text: str) -> str:
    """A locator of a directory on this machine may be given as a path, as a shell completes it."""
    if "://" in text:
        return text
    if os.path.exists(text) or text.startswith("/"):
        return parse_store_url(os.path.abspath(text)).text
    raise UsageError(
        f"{shown(text)!r} is neither a locator nor the path of one",
        hint="a locator looks like s3://bucket/prefix/volumes/NAME-ID/versions/NUMBER-HASH.json",
    )
