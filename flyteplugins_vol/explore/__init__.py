"""The explorer: look around in a volume without mounting it. Reads the index only, until a preview asks for bytes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from flyteplugins_vol.errors import SetupError, UsageError

if TYPE_CHECKING:
    from flyteplugins_vol.explore.app import Source


def run(target: str | None, *, store: str | None, from_file: str | None, store_type: str = "sqlite") -> int:
    """Open the explorer in this terminal and return the exit code when it is closed.

    ``target``: a locator, a volume's name (``NAME``, ``NAME-ID``, ``NAME@VERSION``), an index file, a workspace or a
    mount; None: choose one of the store's volumes. ``store``: where names are looked up, and where the bytes of an
    index file are. ``from_file``: an index file. Raises `VolumeError` for anything that keeps it from opening.
    """
    from flyteplugins_vol.explore.sources import STORE_TYPES, resolve

    if store_type not in STORE_TYPES:
        raise UsageError(f"no store type {store_type!r}", hint=f"one of {', '.join(STORE_TYPES)}")
    if target is not None and from_file is not None:
        raise UsageError("a target and --from-file are two things to explore", hint="give one of them")
    if from_file is not None:
        from flyteplugins_vol.explore.connection import check_index_file
        from flyteplugins_vol.explore.sources import index_path

        check_index_file(index_path(from_file))  # said before the screen changes, and without a terminal as well
    return show(lambda note: resolve(target, store, from_file, note))


def show(source: Source) -> int:
    """Open the explorer on what ``source`` finds; see `run`."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(
            "the explorer needs a terminal", hint="use flytevol ls, tree, log or cat, which print and can be piped"
        )
    try:
        from flyteplugins_vol.explore.app import ExplorerApp
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("textual", "rich", "aiosqlite"):
            raise
        raise SetupError(
            f"the explorer needs {error.name}, which is not installed", hint="pip install 'flyteplugins-vol[tui]'"
        ) from error
    from flyteplugins_vol.explore.connection import close_all

    app = ExplorerApp(source)
    try:
        error = app.run()
    finally:
        close_all()
    if error is not None:
        raise error
    return app.return_code or 0
