"""``flytevol explore``: the explorer, which is loaded only here and needs the extra ``tui``."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from flyteplugins_vol.cli.completing import volume_names
from flyteplugins_vol.cli.interrupt import leave_signals_alone
from flyteplugins_vol.cli.options import LocalPath, Options, common
from flyteplugins_vol.errors import SetupError, UsageError

_EXPLORER = "flyteplugins_vol.explore"


@click.command(short_help="Look around in a volume.")
@click.argument("target", required=False, shell_complete=volume_names)
@click.option("--from-file", metavar="FILE", type=LocalPath(), help="An index file on this machine.")
@click.option("--store-type", default="sqlite", show_default=True, help="What kind of file that is.")
@common
def explore(options: Options, target: str | None, from_file: str | None, store_type: str) -> int:
    """Open the explorer: the tree, the versions, what changed, what is in the files. Mounts nothing.

    TARGET is a volume, a locator, an index file, or the path of a mount; without one, choose from the store's volumes.

    \b
    flytevol explore data
    flytevol explore --from-file index.db
    """
    if options.as_json:
        raise UsageError("the explorer is for people", hint="ls, log and stat have --json")
    if not (sys.stdin and sys.stdin.isatty() and sys.stdout.isatty()):  # None where it is closed
        raise UsageError("the explorer needs a terminal", hint="ls, tree, cat and log work without one")
    try:
        leave_signals_alone()  # the terminal is to be put in order again
        explorer: Any = importlib.import_module(_EXPLORER)
        return explorer.run(target, store=options.store, from_file=from_file, store_type=store_type)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "textual":
            raise
        raise SetupError("the explorer needs textual", hint="pip install 'flyteplugins-vol[tui]'") from error
