"""``flytevol tag``: names for versions."""

from __future__ import annotations

import click

from flyteplugins_vol.cli.addresses import version_at
from flyteplugins_vol.cli.completing import volume_names
from flyteplugins_vol.cli.options import Options, common
from flyteplugins_vol.cli.output import table
from flyteplugins_vol.history.record import parse_locator
from flyteplugins_vol.io import ROVolume


@click.command(short_help="Give a version a name, or show the names.")
@click.argument("volume", shell_complete=volume_names)
@click.argument("name", required=False)
@click.option("-l", "--list", "shows", is_flag=True, help="Show the tags of the volume: the default without NAME.")
@click.option("-d", "--delete", "deletes", is_flag=True, help="Delete the tag; the version stays.")
@click.option("-f", "--force", is_flag=True, help="Also if the tag names another version already.")
@common
def tag(options: Options, volume: str, name: str | None, shows: bool, deletes: bool, force: bool) -> None:
    """Let NAME stand for a version: VOLUME@NAME finds it, and `flytevol prune` never deletes it.

    A NAME has letters, digits, '.', '_' and '-', and is not a number: that is a version's. It stays with its version
    when others are committed.

    \b
    flytevol tag data@3 v1.0
    flytevol tag data stable --force
    flytevol tag --list data
    flytevol tag --delete data v1.0
    """
    if (shows and (deletes or force or name is not None)) or (deletes and (force or name is None)):
        raise click.UsageError("use VOLUME NAME, --list VOLUME, or --delete VOLUME NAME")
    if force and name is None:
        raise click.UsageError("--force needs a NAME")
    version = version_at(volume, options.store)
    if name is None:
        _show(options, version)
    elif deletes:
        version.untag.sync(name)
        options.output.result({"deleted": name}, f"deleted tag {name} of {version.name}")
    else:
        version.tag.sync(name, force=force)
        options.output.result({"tag": name, "locator": version.locator}, str(version.locator))


def _show(options: Options, version: ROVolume) -> None:
    tags = version.tags.sync()
    if not tags:
        options.output.note(f"{version.name} has no tags")
    if tags or options.as_json:
        at = {name: parse_locator(locator) for name, locator in tags.items()}
        rows = [(name, f"{one.volume_name}@{one.sequence}", one.hash[:10]) for name, one in at.items()]
        wire = [{"tag": name, "locator": locator} for name, locator in tags.items()]
        options.output.result(wire, table(("TAG", "VERSION", "HASH"), rows))
