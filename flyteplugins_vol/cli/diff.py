"""``flytevol diff``: what differs between two versions."""

from __future__ import annotations

import json
from typing import Any

import click

from flyteplugins_vol.cli.addresses import version_at
from flyteplugins_vol.cli.completing import volume_names
from flyteplugins_vol.cli.options import Options, common
from flyteplugins_vol.cli.output import Output, path_wire, table
from flyteplugins_vol.human import shown, size
from flyteplugins_vol.io import Volume
from flyteplugins_vol.io.comparing import Difference, FileChange, FileState

DIFFERS = 1
_LETTERS = {"added": "A", "removed": "D", "changed": "M", "attributes": "m"}
_OTHER_TYPE = "T"


@click.command(short_help="Show what differs between two versions.")
@click.argument("a", metavar="VOLUME", shell_complete=volume_names)
@click.argument("b", metavar="VOLUME", shell_complete=volume_names)
@click.option("--stat", "only_sums", is_flag=True, help="Show only how many files and bytes.")
@click.option("--exit-code", is_flag=True, help="End with 1 if anything differs.")
@common
def diff(options: Options, a: str, b: str, only_sums: bool, exit_code: bool) -> int | None:
    """Show what differs from one version to another, a line for each path, in the order of their bytes.

    A added, D deleted, M other content, T another type of file, m other mode, owner, time or extended attributes only.
    A directory that came or went is shown with all below it. Any two versions can be compared, also those of different
    volumes and stores. Only their indexes are read, no data.

    \b
    flytevol diff data@3 data
    flytevol diff data@3 data-fork --stat
    flytevol diff data@3 data --exit-code --quiet > changes.txt
    """
    with options.output.progress("comparing", of=""):
        found = Volume.diff.sync(version_at(a, options.store), version_at(b, options.store))
    with found:
        if options.as_json:
            _print_json(options.output, found, only_sums)
        elif only_sums:
            _print_sums(options.output, found)
        else:
            for change in found:
                options.output.line(f"{_letter(change)}\t{_path(change)}")
        if not len(found):
            options.output.note("nothing differs")
        return DIFFERS if exit_code and len(found) else None


def _letter(change: FileChange) -> str:
    is_other = change.old is not None and change.new is not None and change.old.kind != change.new.kind
    return _OTHER_TYPE if is_other else _LETTERS[change.change]


def _path(change: FileChange) -> str:
    there = change.new or change.old
    is_dir = there is not None and there.kind == "directory"
    return (shown(change.path.strip("/")) + ("/" if is_dir else "")) or "/"


def _print_sums(output: Output, found: Difference) -> None:
    sizes = {
        "added": f"+{size(found.new_bytes['added'])}",
        "removed": f"−{size(found.old_bytes['removed'])}",
        "changed": f"{size(found.old_bytes['changed'])} → {size(found.new_bytes['changed'])}",
        "attributes": "",
    }
    if len(found):
        rows = [(word, f"{found.files[word]:,}", sizes[word]) for word in found.files]
        output.result(None, table(("", "FILES", "SIZE"), rows, right=("FILES",)))


def _print_json(output: Output, found: Difference, only_sums: bool) -> None:
    """One document, of which the changes are written as they are read: there may be millions."""
    head = {
        "old": found.old,
        "new": found.new,
        "files": found.files,
        "old_bytes": found.old_bytes,
        "new_bytes": found.new_bytes,
    }
    if only_sums:
        output.result(head)
        return
    output.line(f'{json.dumps(head)[:-1]}, "changes": [')
    for number, change in enumerate(found, 1):
        output.line(json.dumps(_wire(change)) + ("," if number < len(found) else ""))
    output.line("]}")


def _wire(change: FileChange) -> dict[str, Any]:
    return {
        **path_wire(change.path),
        "change": change.change,
        "old": _state_wire(change.old),
        "new": _state_wire(change.new),
    }


def _state_wire(state: FileState | None) -> dict[str, Any] | None:
    if state is None:
        return None
    return {"kind": state.kind, "mode": f"{state.mode:04o}", "size": state.size}
