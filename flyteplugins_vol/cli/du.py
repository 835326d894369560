"""``flytevol du``: how much space the versions of a volume take."""

from __future__ import annotations

from typing import Any

import click

from flyteplugins_vol.cli.addresses import is_locator, version_at
from flyteplugins_vol.cli.completing import volume_names
from flyteplugins_vol.cli.options import Options, common
from flyteplugins_vol.cli.output import files_text, table
from flyteplugins_vol.human import local, size
from flyteplugins_vol.io import Space, VersionSpace

_COLUMNS = ("VERSION", "CREATED", "FILES", "SIZE", "STORED", "EXCLUSIVE", "FREED")


@click.command(short_help="Show how much space versions take.")
@click.argument("volume", shell_complete=volume_names)
@common
def du(options: Options, volume: str) -> None:
    """Show how much space each version of a volume takes, the newest first, and what would be free without it.

    SIZE is of its files, STORED of all packs and index objects that it refers to. EXCLUSIVE are blocks that no other
    version has, also none of a fork; FREED is what deleting the version would free: packs and index objects that only
    this one needs, whole ones. The last line is about all versions together, as if the volume were deleted. A
    locator, or NAME@VERSION, shows one version. Reads the indexes of the whole store, no data.

    \b
    flytevol du data
    flytevol du data@3 --json
    """
    version = version_at(volume, options.store)
    with options.output.progress("looking", of="versions") as bar:
        found = version.space.sync(progress=bar)
    is_one = is_locator(volume) or "@" in volume
    versions = [one for one in reversed(found.versions) if not is_one or one.locator.file == f"{version.version}.json"]
    rows = [_row(one) for one in versions]
    if not is_one:
        rows.append(("all", "", "", "", size(found.stored), size(found.exclusive), size(found.freed)))
    options.output.result(_wire(found, versions), table(_COLUMNS, rows, right=_COLUMNS[2:]))


def _row(one: VersionSpace) -> tuple[str, ...]:
    sizes = (one.bytes, one.stored, one.exclusive, one.freed)
    name = f"{one.locator.volume_name}@{one.locator.sequence}"
    return name, local(one.created), files_text(one.files), *map(size, sizes)


def _wire(found: Space, versions: list[VersionSpace]) -> dict[str, Any]:
    return {
        "stored": found.stored,
        "exclusive": found.exclusive,
        "freed": found.freed,
        "versions": [
            {
                "locator": str(one.locator),
                "created": one.created,
                "message": one.message,
                "files": one.files,
                "bytes": one.bytes,
                "stored": one.stored,
                "exclusive": one.exclusive,
                "freed": one.freed,
            }
            for one in versions
        ],
    }
