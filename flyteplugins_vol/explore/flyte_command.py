"""``flyte explore volume``: the explorer for what a Flyte run produced, as a plug-in of Flyte's command line."""

from __future__ import annotations

from typing import Any

import click

from flyteplugins_vol.errors import UsageError, VolumeError
from flyteplugins_vol.explore import run, show
from flyteplugins_vol.explore.sources import STORE_TYPES, Choice, Note, Shown, resolve


@click.group("explore")
def explore() -> None:
    """Look into what runs produced."""


@explore.command("volume")
@click.argument("run_name", metavar="[RUN]", required=False)
@click.argument("action_name", metavar="[ACTION]", required=False)
@click.option("--op-name", metavar="NAME", help="The output to look at, where an action has several volumes.")
@click.option("--from-file", metavar="PATH", help="An index file on this machine, instead of a run.")
@click.option("--store-type", type=click.Choice(STORE_TYPES), default="sqlite", help="What the index file is.")
@click.option("--store", metavar="URL", help="Where the bytes of an index file are.")
@click.pass_obj
def volume(
    config: Any, run_name: str | None, action_name: str | None, op_name: str | None, from_file: str | None,
    store_type: str, store: str | None,
) -> None:  # fmt: skip
    """Browse the volume that a run produced: files, history, changes. Nothing is mounted.

    \b
    flyte explore volume my-run                 the volume output of the run
    flyte explore volume my-run a3 --op-name o0 of one action, one of its outputs
    flyte explore volume --from-file index.db   an index file on this machine
    """  # noqa: D301 - click's sign to leave lines alone
    try:
        if from_file is not None or run_name is None:
            if run_name is not None or from_file is None:
                raise UsageError("give a run, or --from-file", hint="flyte get run shows the runs")
            run(None, store=store, from_file=from_file, store_type=store_type)
            return
        show(_source(config, run_name, action_name, op_name))
    except VolumeError as error:
        raise click.ClickException(str(error)) from error


def _source(config: Any, run_name: str, action_name: str | None, op_name: str | None) -> Any:
    def source(note: Note) -> Shown | Choice:
        from flyteplugins_vol.explore.flyte_runs import volume_of_run

        note(f"looking for the volume of run {run_name}")
        return resolve(volume_of_run(config, run_name, action_name, op_name), None, None, note)

    return source
