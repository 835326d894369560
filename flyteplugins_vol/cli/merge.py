"""``flytevol merge``: versions that began as one are made one again."""

from __future__ import annotations

from typing import Any, Literal, cast

import click

from flyteplugins_vol.cli.addresses import check_free, fork_name, is_locator, opened_store, version_at, writer_at
from flyteplugins_vol.cli.completing import volume_names
from flyteplugins_vol.cli.options import Options, common
from flyteplugins_vol.cli.output import Output, path_wire, version_wire
from flyteplugins_vol.errors import MergeConflictError
from flyteplugins_vol.io import MergeConflict, ROVolume, RWVolume, Volume

_HINT = "--on-conflict first or last says whose changes are taken; or make them one with put, rm or restore"

_TOLD = 5  # versions in a message


@click.command(short_help="Merge versions that were forked from one.")
@click.argument("base", metavar="BASE", shell_complete=volume_names)
@click.argument("others", metavar="OTHER...", nargs=-1, required=True, shell_complete=volume_names)
@click.option("--into", metavar="VOLUME", help="Make the next version of this volume.", shell_complete=volume_names)
@click.option("--name", help="Make a new volume of this name; by default BASE's with -fork, or -fork-2, ….")
@click.option(
    "--on-conflict", type=click.Choice(["error", "first", "last"]), default="error", show_default=True,
    help="Which version wins: the one named first, or last.",
)  # fmt: skip
@click.option("-m", "--message", help="Message of the new version.")
@common
def merge(
    options: Options, base: str, others: tuple[str, ...], into: str | None, name: str | None, on_conflict: str,
    message: str | None,
) -> None:  # fmt: skip
    """Put together what OTHERs changed since they began as the version BASE, and print the new version's locator.

    What one alone changed is taken; what several changed in the same way is taken once. If a file was changed in
    different ways, or changed here and deleted there, nothing is published: each such path is printed, and the exit
    code is 4. A VOLUME that is merged into may have gone on since BASE: its newest version counts as named before all
    others. Only indexes are read, and no data is stored.

    \b
    flytevol merge data@3 job-1 job-2 job-3 --into data
    flytevol merge data@3 job-1 job-2 --name both -m "two jobs"
    flytevol merge data@3 job-1 job-2 --on-conflict last
    """
    if into is not None and name is not None:
        raise click.UsageError("use --into, or --name, not both")
    if into is not None and (is_locator(into) or "@" in into):
        raise click.UsageError("--into takes the name of a volume: a version never changes")
    beginning = version_at(base, options.store)
    versions = [version_at(other, options.store) for other in others]
    made = _merged(options, beginning, versions, into, name, on_conflict)
    try:
        with options.output.progress("publishing") as bar:
            version = made.finalize.sync(message or (_told(versions) if made.has_changes else None), progress=bar)
    finally:
        made.abandon.sync()
    options.output.result(version_wire(version), str(version.locator))


def _merged(
    options: Options, base: ROVolume, versions: list[ROVolume], into: str | None, name: str | None, on_conflict: str
) -> RWVolume:  # fmt: skip
    line: RWVolume | None = None
    if into is not None:
        line = writer_at(into, options.store)[0]
    else:
        with opened_store(base.store) as store:
            if name is not None:
                check_free(store, name)
            name = name or fork_name(store, base.name)
    how = cast("Literal['error', 'first', 'last']", on_conflict)
    try:
        with options.output.progress("merging", of=""):
            return Volume.merge.sync(base, *versions, into=line, name=name, on_conflict=how)
    except BaseException as error:
        if line is not None:
            line.abandon.sync()
        if isinstance(error, MergeConflictError):
            _show(options.output, error.conflicts)
            error.hint = _HINT
            error.message = error.message.partition(":\n")[0]  # they are on standard output
        raise


def _told(versions: list[ROVolume]) -> str:
    """The message of a version whose maker gave none."""
    names = [f"{one.name}@{int(str(one.version).partition('-')[0])}" for one in versions]
    more = f" and {len(names) - _TOLD} more" if len(names) > _TOLD else ""
    return f"merged {', '.join(names[:_TOLD])}{more}"


def _show(output: Output, conflicts: tuple[MergeConflict, ...]) -> None:
    if output.as_json:
        output.result({"conflicts": [_wire(conflict) for conflict in conflicts]})
        return
    for conflict in conflicts:
        output.line(str(conflict))


def _wire(conflict: MergeConflict) -> dict[str, Any]:
    return {**path_wire(conflict.path), "changes": dict(conflict.changes)}
