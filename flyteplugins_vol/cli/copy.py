"""``flytevol copy``: a version, or all of a volume, in another store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import click

from flyteplugins_vol.cli.addresses import opened_store, version_at
from flyteplugins_vol.cli.completing import volume_names
from flyteplugins_vol.cli.options import Options, common
from flyteplugins_vol.cli.output import Waiting, version_wire
from flyteplugins_vol.config import copy_encryption_secret
from flyteplugins_vol.human import count, size
from flyteplugins_vol.io import Copied, StoreOptions, hosts
from flyteplugins_vol.store.url import parse_store_url


@click.command(short_help="Copy a version to another store.")
@click.argument("volume", shell_complete=volume_names)
@click.option("--to", "target", required=True, metavar="STORE", help="URL of the other store: s3://bucket/prefix, ….")
@click.option("--name", help="Name of the copy, if not that of the volume: then it is a volume of its own.")
@click.option("--history", is_flag=True, help="Also all versions that are not newer, and their tags.")
@click.option("-f", "--force", is_flag=True, help="With --history: also move tags that name another version there.")
@common
def copy(options: Options, volume: str, target: str, name: str | None, history: bool, force: bool) -> None:
    """Bring a version to another store, and print its locator there. Only what is missing there is sent.

    The copy keeps its name, id, number and hash, and is a volume to be mounted, forked and committed to. Copy again to
    bring what is new: the volume there then goes on to that version, unless somebody has committed there. What was cut
    off is taken up by the next try. If the other store has another secret, $FLYTE_VOL_COPY_ENCRYPTION_KEY is that one;
    set, but empty: it is not encrypted.

    \b
    flytevol copy data --to s3://other/volumes
    flytevol copy data --history --to file:///mnt/backup
    flytevol copy data@3 --to s3://other/volumes --name data-2024
    """
    if force and not history:
        raise click.UsageError("--force is about tags, which --history brings")
    if history and name is not None:
        raise click.UsageError("--name makes a volume of its own, with one version: leave out --history, or --name")
    output = options.output
    version = version_at(volume, options.store)
    with opened_store(target):  # a scheme that cannot be opened is told of in the same words as everywhere
        pass
    with output.progress("copying") as bar:
        waiting = Waiting(output, version.name)

        def tell(event: Mapping[str, Any]) -> None:
            (waiting if event["phase"] == "lease" else bar)(event)

        found = version.copy_to.sync(
            target, name=name, history=history, force=force, store_options=_options(target), progress=tell
        )
    wire = {
        **version_wire(found.version),
        "copied": asdict(found.copied),
        "skipped": asdict(found.skipped),
        "versions": found.versions,
        "tags": list(found.tags),
        "moved": found.moved,
    }
    output.result(wire, str(found.version.locator))
    output.note(_told(found))


def _options(target: str) -> StoreOptions | None:
    secret = copy_encryption_secret()
    url = parse_store_url(target).text
    return replace(hosts.store_options(url, None), encryption=secret) if secret is not None else None


def _told(found: Copied) -> str:
    sent = f"sent {count(found.copied.objects, 'object')}, {size(found.copied.bytes)}"
    there = f"{count(found.skipped.objects, 'object')}, {size(found.skipped.bytes)}, were there"
    new = f"{count(found.versions, 'version')} new there" if found.versions else "no version is new there"
    return f"{sent}; {there}; {new}"
