"""Commands about whole volumes: new, list, delete, log, fork."""

from __future__ import annotations

import os
import shlex
import sys
from typing import Any

import click

from flyteplugins_vol.cli.addresses import (
    check_free,
    check_named_store,
    fork_name,
    is_locator,
    opened_store,
    version_at,
    volume_at,
)
from flyteplugins_vol.cli.completing import volume_names
from flyteplugins_vol.cli.errors import DeclinedError, failure_of
from flyteplugins_vol.cli.options import Options, common
from flyteplugins_vol.cli.output import Waiting, files_text, table, version_wire
from flyteplugins_vol.config import cache_root
from flyteplugins_vol.errors import UsageError, VolumeBusyError
from flyteplugins_vol.history.deletion import delete_version, delete_volume
from flyteplugins_vol.history.record import check_name, parse_locator
from flyteplugins_vol.history.volumes import VolumeEntry, find_volumes, list_versions
from flyteplugins_vol.human import count, local, shown, shown_text, size
from flyteplugins_vol.io import ROVolume, Volume, VolumeInfo, hosts
from flyteplugins_vol.io.mounting import workspace_of


@click.command(short_help="Make an empty volume.")
@click.argument("name")
@click.option("-m", "--message", help="Message of its first version.")
@click.option("--if-missing", is_flag=True, help="Succeed if there is one of this name already.")
@common
def new(options: Options, name: str, message: str | None, if_missing: bool) -> None:
    """Make an empty volume and print the locator of its first version.

    \b
    flytevol new models
    flytevol new models --store s3://bucket/volumes --if-missing
    """
    check_name(name)
    with opened_store(options.store) as store:
        if not if_missing:
            check_free(store, name, "--if-missing takes it as it is; or choose another name")
        if find_volumes(store, name):
            version = version_at(str(volume_at(store, name)), options.store)
        else:
            version = Volume.new(name, store.url).finalize.sync(message)
    options.output.result(version_wire(version), str(version.locator))


@click.command("list", short_help="List the volumes of a store.")
@common
def list_(options: Options) -> None:
    """List the volumes of a store, with their newest versions.

    \b
    flytevol list
    flytevol list --store s3://bucket/volumes --json
    """
    with opened_store(options.store) as store:
        check_named_store(store, options.store)
    found = Volume.list.sync(options.store)
    names = [volume.name for volume in found]
    rows = [_entry_row(volume, names.count(volume.name) > 1) for volume in found]
    if not rows:
        options.output.note(f"no volumes in {hosts.store_url(options.store)}")
    columns = ("NAME", "VERSION", "FILES", "SIZE", "CREATED", "MESSAGE")
    if rows or options.as_json:
        wire = [_entry_wire(volume) for volume in found]
        options.output.result(wire, table(columns, rows, right=("VERSION", "FILES", "SIZE")))


@click.command(short_help="Delete a volume, or one version.")
@click.argument("volume", shell_complete=volume_names)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Also a volume that somebody writes to right now.")
@common
def delete(options: Options, volume: str, yes: bool, force: bool) -> None:
    """Delete a volume with all its versions, or one version of it (a locator, NAME@VERSION).

    A volume that somebody has mounted for writing, on whatever machine, is not deleted without --force. Forks and other
    volumes keep everything that they need. The space comes back with a later garbage collection.

    \b
    flytevol delete old-data
    flytevol delete data@3 --yes
    """
    output = options.output
    if is_locator(volume) or "@" in volume:
        version = version_at(volume, options.store)
        _ask(yes, f"Delete version {version.version} of volume {version.name} for ever?")
        with opened_store(version.store) as store:
            delete_version(store, parse_locator(str(version.locator)))
        output.result({"deleted": [version.locator]}, f"deleted {version.locator}")
        return
    with opened_store(options.store) as store:
        entry = volume_at(store, volume)
        versions = list_versions(store, entry)
        _ask(yes, f"Delete volume {entry} in {store.url} with its {count(len(versions), 'version')} for ever?")
        try:
            delete_volume(store, entry, force=force, tell=Waiting(output, entry.name))
        except VolumeBusyError as error:
            error.hint = _how_it_ends(entry)
            raise
    told = f"deleted {entry}: {count(len(versions), 'version')}"
    output.result({"deleted": [str(locator) for locator in versions]}, told)


@click.command(short_help="Show the versions of a volume.")
@click.argument("volume", shell_complete=volume_names)
@click.option("-n", "--limit", type=click.IntRange(1), metavar="N", help="Show the newest N only.")
@click.option("-l", "--locators", is_flag=True, help="Print only the locators.")
@common
def log(options: Options, volume: str, limit: int | None, locators: bool) -> None:
    """Show a version and those that it came from, the newest first, with their tags; also those before a fork.

    \b
    flytevol log data
    flytevol log data@7 -n 3 --json
    """
    found = version_at(volume, options.store).log.sync(limit)
    if locators and not options.as_json:
        for one in found:
            options.output.line(str(one.locator))
        return
    tags = _tags(found)
    rows = [
        (
            f"{one.name}@{int(str(one.version).partition('-')[0])}", str(one.version).partition("-")[2][:10],
            local(one.created), shown_text(one.author or ""), size(one.stats.get("bytes", 0)),
            "+" + size(one.stats.get("new_pack_bytes", 0)),
            *([", ".join(tags.get(str(one.version), []))] if tags else []), shown_text(one.message or ""),
        )
        for one in found
    ]  # fmt: skip
    columns = ("VERSION", "HASH", "CREATED", "AUTHOR", "SIZE", "STORED", *(["TAGS"] if tags else []), "MESSAGE")
    wire = [{**version_wire(one), "tags": tags.get(str(one.version), [])} for one in found]
    options.output.result(wire, table(columns, rows, right=("SIZE", "STORED")))


@click.command(short_help="Make an independent copy of a version.")
@click.argument("volume", shell_complete=volume_names)
@click.option("--name", help="Name of the fork; by default its parent's with -fork, or -fork-2, ….")
@click.option("-m", "--message", help="Message of its first version.")
@common
def fork(options: Options, volume: str, name: str | None, message: str | None) -> None:
    """Make a volume that begins as this version, and print the locator of its first version. Copies no data.

    \b
    flytevol fork data --name experiment
    flytevol fork s3://bucket/volumes/…/versions/….json
    """
    parent = version_at(volume, options.store)
    with opened_store(parent.store) as store:
        if name is not None:
            check_free(store, name)
        made = parent.fork.sync(name or fork_name(store, parent.name)).finalize.sync(message)
    options.output.result(version_wire(made), str(made.locator))


def _tags(versions: list[ROVolume]) -> dict[str, list[str]]:
    """Tags of all volumes that these are versions of, by the name of the version: its hash makes it the only one."""
    tags: dict[str, list[str]] = {}
    for one in {version.id: version for version in versions}.values():
        for name, locator in one.tags.sync().items():
            tags.setdefault(parse_locator(locator).file.removesuffix(".json"), []).append(name)
    return tags


def _ask(yes: bool, question: str) -> None:
    if yes:
        return
    nobody = UsageError("nobody is there to answer", hint="--yes does not ask; else run it in a terminal")
    if not sys.stdin:  # Python's, of a process that was started without one
        raise nobody
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort as error:
        if isinstance(error.__context__, EOFError):
            click.echo(err=True)  # the question's line is still open
            raise nobody from None
        raise
    if not agreed:
        raise DeclinedError("the answer was no: nothing is deleted", hint="y deletes it, and --yes does not ask")


def _how_it_ends(volume: VolumeEntry) -> str:
    """What to do about a volume that somebody writes to, when it is to be deleted."""
    from flyteplugins_vol.mount.live import live_mounts  # no other command here needs Linux

    workspace = os.path.abspath(os.path.join(cache_root(), workspace_of(str(volume), volume.store_url)))
    here = [mount for mount in live_mounts([cache_root()]) if mount.meta_dir == workspace]
    ends = f"`flytevol umount {shlex.quote(shown(here[0].path))}` ends that mount" if here else "wait for its end"
    return f"{ends}; --force deletes the volume all the same"


def _entry_wire(volume: VolumeInfo) -> dict[str, Any]:
    return {
        "name": volume.name,
        "id": volume.id,
        "store": volume.store,
        "newest": None if volume.newest is None else version_wire(volume.newest),
        "error": None if volume.error is None else {**volume.error.to_wire(), "hint": failure_of(volume.error).hint},
    }


def _entry_row(volume: VolumeInfo, ambiguous: bool) -> tuple[str, ...]:
    name, version = str(volume) if ambiguous else volume.name, volume.newest
    if version is None:
        return name, "", "", "", "", f"({volume.error.message})" if volume.error is not None else "(no version)"
    number = str(int(str(version.version).partition("-")[0]))
    stats = version.stats
    files, total = files_text(stats.get("files", 0)), size(stats.get("bytes", 0))
    return name, number, files, total, local(version.created), shown_text(version.message or "")
