"""``flytevol verify``: is everything there, and which files are not."""

from __future__ import annotations

from typing import Any

import click

from flyteplugins_vol.cli.addresses import version_at
from flyteplugins_vol.cli.completing import volume_names
from flyteplugins_vol.cli.options import Options, common
from flyteplugins_vol.cli.output import path_wire
from flyteplugins_vol.human import count, shown, size
from flyteplugins_vol.io.upkeep import Verification

DAMAGED = 7


@click.command(short_help="Check that all of a version is in the store.")
@click.argument("volume", shell_complete=volume_names)
@click.option("--deep", is_flag=True, help="Read every block and check its hash, too.")
@common
def verify(options: Options, volume: str, deep: bool) -> int | None:
    """Check a version: its record, its whole index, and that the store has every pack it needs. Reads nothing locally.

    Names each file that cannot be read whole, by all its paths, and what is wrong. Exit code 7 if anything is, 6 if the
    store did not answer.

    \b
    flytevol verify data
    flytevol verify data@3 --deep
    flytevol verify s3://bucket/volumes/…/versions/….json --json
    """
    version = version_at(volume, options.store)
    with options.output.progress("verifying") as bar:
        found = version.verify.sync(deep, progress=bar)
    options.output.result(_wire(found), _text(found))
    return None if found.ok else DAMAGED


def _wire(found: Verification) -> dict[str, Any]:
    return {
        "locator": found.locator,
        "deep": found.deep,
        "ok": found.ok,
        "packs": found.packs,
        "blocks": found.blocks,
        "read_bytes": found.read_bytes,
        "problems": [{"kind": one.kind, "key": one.key, "message": one.message} for one in found.problems],
        "files": [
            {"paths": [path_wire(path) for path in file.paths], "bytes": file.bytes, "reasons": list(file.reasons)}
            for file in found.files
        ],
    }


def _text(found: Verification) -> str:
    lines = [f"{one.kind}: {one.key + ': ' if one.key else ''}{one.message}" for one in found.problems]
    for file in found.files:
        paths = [shown(path) for path in file.paths] or ["(a file that was deleted while it was open)"]
        lines += [f"broken: {path}: {count(file.bytes, 'byte')}: {'; '.join(file.reasons)}" for path in paths]
    looked = f"{count(found.packs, 'pack')}, {count(found.blocks, 'block')}"
    read = f", {size(found.read_bytes)} read and checked" if found.deep else ""
    broken = f"{count(len(found.problems), 'problem')}, {count(len(found.files), 'broken file')}"
    lines.append(f"{'whole' if found.ok else broken}: {looked}{read}")
    return "\n".join(lines)
