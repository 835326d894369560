"""``flytevol restore``: files as they were in another version."""

from __future__ import annotations

import click

from flyteplugins_vol.cli.addresses import is_locator, path_in, version_at
from flyteplugins_vol.cli.completing import paths as volume_paths
from flyteplugins_vol.cli.completing import volume_names
from flyteplugins_vol.cli.errors import NotFoundError
from flyteplugins_vol.cli.options import Options, common
from flyteplugins_vol.cli.writing import opened_writer, publishing
from flyteplugins_vol.human import count, shown
from flyteplugins_vol.io import ROVolume


@click.command(short_help="Bring files back as they were in another version.")
@click.argument("volume", shell_complete=volume_names)
@click.argument("path", shell_complete=volume_paths)
@click.option("--from", "source", metavar="VERSION", help="Where from; by default the version before the newest.")
@click.option("--to", metavar="PATH", help="Another path for it.")
@click.option("-f", "--force", is_flag=True, help="Replace what is there, a directory with all that it has now.")
@publishing
@common
def restore(
    options: Options, volume: str, path: str, source: str | None, to: str | None, force: bool, message: str | None,
    fork: str | None,
) -> None:  # fmt: skip
    """Bring PATH, a file or a directory with all below, back as it was and publish a new version; print its locator.

    VERSION is one of VOLUME (3, a tag, digits of a hash), or another of the same store: NAME@VERSION or a locator. Its
    blocks are referred to, so no data is read or stored, whatever the size. Owners, modes, times, extended attributes,
    links and holes come back too. PATH / is the whole volume.

    \b
    flytevol restore data config.yaml --from 3 --force
    flytevol restore data images                          deleted by the last version
    flytevol restore data / --from v1.0 --force -m "back to v1.0"
    flytevol restore data model.bin --from other@5 --to model.other.bin
    """
    version = _version(volume, source, options.store)
    with opened_writer(options, volume, fork) as (writer, publish):
        with options.output.progress("restoring", of=""):
            target = None if to is None else path_in(writer, to)
            done = writer.restore.sync(path_in(version, path), version, to=target, overwrite=force)
        options.output.note(f"from {version.name}@{_number(version)}: {count(done.files, 'file')}")
        publish(message or f"restored {shown(path)} from {version.name}@{_number(version)}", restored=done.files)


def _version(volume: str, text: str | None, store: str | None) -> ROVolume:
    """The version that ``--from`` names."""
    text = text and text.removeprefix("@")
    if text is not None and (is_locator(text) or "@" in text):
        return version_at(text, store)
    if text is not None and not is_locator(volume):
        return version_at(f"{volume.partition('@')[0]}@{text}", store)
    newest = version_at(volume, store)
    if text is not None:
        return version_at(f"{newest.name}-{newest.id}@{text}", newest.store)
    before = newest.log.sync(2)[1:]
    if not before:
        raise NotFoundError(f"there is no version before {newest.name}@{_number(newest)}", hint="--from names another")
    return before[0]


def _number(version: ROVolume) -> int:
    return int(str(version.version).partition("-")[0])
