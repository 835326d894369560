"""``flytevol gc``: delete what no version of a store refers to."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Any

import click

from flyteplugins_vol.cli.addresses import check_is_store, opened_store
from flyteplugins_vol.cli.durations import days, duration
from flyteplugins_vol.cli.options import Options, common, not_empty
from flyteplugins_vol.history.collect import ABANDONED, GRACE, Collection, Tally
from flyteplugins_vol.human import count, size
from flyteplugins_vol.io import Volume


@click.command(short_help="Free the space of deleted versions.")
@click.argument("url", metavar="[STORE]", required=False, callback=not_empty)
@click.option(
    "--grace",
    type=duration,
    default=GRACE,
    metavar="SPAN",
    show_default="7d",
    help="Delete what was marked so long ago; at least 1d.",
)
@click.option(
    "--abandoned",
    type=duration,
    default=ABANDONED,
    metavar="SPAN",
    show_default="90d",
    help="Age of what no version has named; at least 7d.",
)
@click.option("-y", "--yes", is_flag=True, help="Do it; else only show what would be done.")
@click.option("--dry-run", is_flag=True, help="Only show it: the default.")
@common
def gc(options: Options, url: str | None, grace: timedelta, abandoned: timedelta, yes: bool, dry_run: bool) -> None:
    """Delete the packs and index objects of a whole store that no version of any volume refers to.

    Each call marks what it finds, and deletes what was marked by a call at least --grace before and is not referred to
    since. So run it with --yes once a day or a week. What was uploaded and never got into a version stays for
    --abandoned, since a killed mount may be resumed. Mounts, uploads and forks that are under way need not stop.
    Nothing is deleted if anything in the store cannot be read.

    \b
    flytevol gc
    flytevol gc s3://bucket/volumes --yes
    flytevol gc --yes --grace 4w --json
    """
    if url is not None:
        options.store = url
    with opened_store(options.store) as store:
        check_is_store(store)  # before anything is written to what may be somebody's directory
    done = yes and not dry_run
    with options.output.progress("collecting", of="objects") as bar:
        found = Volume.gc.sync(options.store, dry_run=not done, grace=grace, abandoned=abandoned, progress=bar)
    options.output.result(_wire(found), _text(found, grace))
    if not done:
        options.output.note("nothing was written: --yes does it")


def _wire(found: Collection) -> dict[str, Any]:
    wire = asdict(found)
    wire["next"] = found.next.isoformat() if found.next is not None else None
    return wire


def _text(found: Collection, grace: timedelta) -> str:
    would = "would be " if found.dry_run else ""
    lines = [
        f"{count(found.versions, 'version')} in {_tally(found.objects)}",
        f"{would}deleted: {_tally(found.deleted)}",
        f"{would}marked, and deleted {days(grace)} later: {_tally(found.marked)}",
        f"in no version, and kept for now: {_tally(found.recent)}",
    ]
    if found.kept_deleted:
        lines.append(f"kept besides, for a week: what {count(found.kept_deleted, 'deleted version')} referred to")
    if found.next is not None and not found.dry_run:
        lines.append(f"next: {found.next.astimezone():%Y-%m-%d %H:%M}")
    return "\n".join(lines)


def _tally(found: Tally) -> str:
    return f"{count(found.objects, 'object')}, {size(found.bytes)}"
