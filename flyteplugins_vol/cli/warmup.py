"""``flytevol warmup``: bring files into this machine's cache before anybody needs them."""

from __future__ import annotations

import click

from flyteplugins_vol.cli.addresses import path_in, version_at
from flyteplugins_vol.cli.completing import paths as volume_paths
from flyteplugins_vol.cli.completing import volume_names
from flyteplugins_vol.cli.options import Options, common
from flyteplugins_vol.human import size


@click.command(short_help="Fetch files into this machine's cache.")
@click.argument("volume", shell_complete=volume_names)
@click.argument("paths", nargs=-1, shell_complete=volume_paths)
@common
def warmup(options: Options, volume: str, paths: tuple[str, ...]) -> None:
    """Fetch files, or the whole volume, into the cache that all mounts of this machine share.

    \b
    flytevol warmup data
    flytevol warmup data@3 weights.bin images
    """
    version = version_at(volume, options.store)
    output = options.output
    with output.progress("warming up", of=""):
        fetched = version.warm_up.sync(*(path_in(version, path) for path in paths))
    output.result({"fetched_bytes": fetched}, f"fetched {size(fetched)}")
