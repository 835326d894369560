"""``flytevol prune``: delete old versions by a policy."""

from __future__ import annotations

from datetime import timedelta

import click

from flyteplugins_vol.cli.addresses import opened_store, volume_at
from flyteplugins_vol.cli.completing import volume_names
from flyteplugins_vol.cli.durations import duration
from flyteplugins_vol.cli.options import Options, common
from flyteplugins_vol.cli.output import table
from flyteplugins_vol.errors import UsageError
from flyteplugins_vol.history.prune import Retention, plan_pruning
from flyteplugins_vol.history.prune import prune as prune_volume
from flyteplugins_vol.human import count, local

_NUMBER = click.IntRange(0)


@click.command(short_help="Delete old versions of a volume.")
@click.argument("volume", shell_complete=volume_names)
@click.option("--keep-last", type=_NUMBER, default=0, metavar="N", help="Keep the newest N.")
@click.option("--keep-daily", type=_NUMBER, default=0, metavar="N", help="Keep one for each of N days.")
@click.option("--keep-weekly", type=_NUMBER, default=0, metavar="N", help="Keep one for each of N weeks.")
@click.option("--keep-monthly", type=_NUMBER, default=0, metavar="N", help="Keep one for each of N months.")
@click.option("--keep-within", type=duration, metavar="SPAN", help="Keep all that are younger: 36h, 7d, 4w.")
@click.option("-y", "--yes", is_flag=True, help="Do it; else only show what would be done.")
@click.option("--dry-run", is_flag=True, help="Only show it: the default.")
@common
def prune(
    options: Options, volume: str, keep_last: int, keep_daily: int, keep_weekly: int, keep_monthly: int,
    keep_within: timedelta | None, yes: bool, dry_run: bool,
) -> None:  # fmt: skip
    """Delete the versions of a volume that no --keep-… keeps. Without --yes, only show which those are.

    What a tag names always stays, and so does everything that forks and other versions need. A locator of a deleted
    version leads nowhere. Space comes back by `flytevol gc`.

    \b
    flytevol prune data --keep-last 10 --keep-daily 30
    flytevol prune data --keep-within 4w --keep-monthly 12 --yes
    """
    policy = Retention(keep_last, keep_daily, keep_weekly, keep_monthly, keep_within)
    if policy == Retention():
        raise UsageError(
            "nothing says which versions to keep",
            hint="--keep-last 10 keeps the newest ten; also --keep-daily, --keep-weekly, --keep-monthly, --keep-within",
        )
    policy.check()
    done = yes and not dry_run
    output = options.output
    with opened_store(options.store) as store:
        entry = volume_at(store, volume)
        plan = plan_pruning(store, entry, policy)
        if done:
            with output.progress("pruning", of="versions") as bar:
                removed = set(prune_volume(store, entry, plan, bar))
        else:
            removed = {record.locator for record in plan.removed}
    word = "deleted" if done else "delete"
    said = {record.locator: word if record.locator in removed else "keep: named meanwhile" for record in plan.removed}
    versions = {
        **{record.locator: (record.created, said[record.locator]) for record in plan.removed},
        **{kept.locator: (kept.created, f"keep: {', '.join(kept.reasons)}") for kept in plan.kept},
    }  # fmt: skip
    order = sorted(versions, key=lambda at: (at.sequence, at.file))
    output.result(
        {
            "volume": str(entry),
            "dry_run": not done,
            "deleted": [str(locator) for locator in order if locator in removed],
            "kept": [{"locator": str(one.locator), "reasons": list(one.reasons)} for one in plan.kept],
        },
        table(
            ("VERSION", "CREATED", ""),
            [(at.file.removesuffix(".json")[:19], local(versions[at][0]), versions[at][1]) for at in order],
        ),
    )
    if not done and removed:
        output.note(f"{count(len(removed), 'version')} would be deleted: --yes does it")
