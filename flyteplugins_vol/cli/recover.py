"""``flytevol recover``: what processes that died left on this machine, and in no version."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from flyteplugins_vol.cli.addresses import check_free, opened_store
from flyteplugins_vol.cli.errors import AmbiguousError, NotFoundError
from flyteplugins_vol.cli.mounting import Mounted
from flyteplugins_vol.cli.mounts import serve
from flyteplugins_vol.cli.options import DIRECTORY, MOUNT_PATH, Options, common
from flyteplugins_vol.cli.output import Waiting, files_text, table, version_wire
from flyteplugins_vol.errors import RefMovedError, UsageError
from flyteplugins_vol.history.record import parse_locator
from flyteplugins_vol.human import local, shown, size
from flyteplugins_vol.io import RWVolume
from flyteplugins_vol.io.recovery import Recoverable

if TYPE_CHECKING:
    from flyteplugins_vol.mount.leftovers import Leftover


@click.command(short_help="Publish, mount or drop what a killed process left.")
@click.argument("what", required=False, metavar="[VOLUME|DIRECTORY]")
@click.option("--commit", "how", flag_value="commit", help="Publish it as the volume's next version.")
@click.option("--fork", metavar="NAME", help="Publish it as a volume of its own.")
@click.option("--mount", "directory", type=MOUNT_PATH, metavar="DIR", help="Mount it until Ctrl-C, then publish it.")
@click.option("--discard", "how", flag_value="discard", help="Delete it.")
@click.option("-m", "--message", help="Message of the new version.")
@click.option("--meta-dir", type=DIRECTORY, help="If the mount was made with one.")
@common
def recover(
    options: Options, what: str | None, how: str | None, fork: str | None, directory: str | None, message: str | None,
    meta_dir: str | None,
) -> None:  # fmt: skip
    """Show what mounts that ended without a commit left on this machine; with an option, do something about it.

    The next mount of the volume takes it up by itself, unless somebody else has written to the volume meanwhile, or
    another task mounts it: then it is set aside, and stays until it is recovered here. What somebody else has gone on
    without can be no next version of its volume: --fork publishes it.

    \b
    flytevol recover
    flytevol recover data --commit -m "what the job had done"
    flytevol recover data --fork data-rescued
    flytevol recover ~/.cache/flytevol/workspaces/data-…~1 --mount ./look
    flytevol recover data --discard
    """
    found = RWVolume.recoverable(meta_dir)
    asked = [name for name, given in (("--fork", fork), ("--mount", directory), (f"--{how}", how)) if given]
    if len(asked) > 1:
        raise UsageError(f"{' and '.join(asked)} do not go together", hint="give one of them")
    if what is not None:
        found = _named(found, what)
    if not asked:
        if not found and not options.as_json:
            options.output.note("nothing to recover: all that was written is in a version, or in a live mount")
        elif found or options.as_json:
            options.output.result([_wire(one) for one in found], _table(found))
        return
    if what is None:
        raise UsageError(f"{asked[0]} needs to know of what", hint="flytevol recover lists what there is")
    one = _only(found, what)
    if how == "discard":
        one.discard.sync()
        options.output.result({"discarded": one.path}, "")
        return
    if fork is None:
        _check_next(one)
    else:
        with opened_store(one.left.store_url) as store:
            check_free(store, fork)
    if directory is not None:
        serve(_mounted(options, one, directory, message), one.left.volume_name)
        return
    with options.output.progress("publishing") as bar:
        doing = one.commit.sync(message, progress=bar) if how else one.fork.sync(fork, message, progress=bar)
    options.output.result(version_wire(doing), str(doing.locator))


def _mounted(options: Options, one: Recoverable, directory: str, message: str | None) -> Mounted:
    volume = one.volume.sync()
    told = Waiting(options.output, volume.name)
    where = volume.mount.sync(os.path.abspath(directory), progress=told)
    return Mounted(
        options, volume, str(where), forked=False, commits=True, message=message, kept=one.path, resumed=True
    )


def _check_next(one: Recoverable) -> None:
    """Not first when it is to be published: then it is a version that nobody is led to, one more with each Ctrl-C."""
    try:
        one.check_next.sync()
    except RefMovedError as error:
        error.hint = f"flytevol recover {shlex.quote(shown(one.path))} --fork NAME publishes it as a volume of its own"
        raise


def _named(found: Sequence[Recoverable], what: str) -> list[Recoverable]:
    by_path = [one for one in found if one.path == os.path.abspath(os.path.expanduser(what))]
    return by_path or [one for one in found if what in (one.left.volume_name, _own(one))]


def _only(found: Sequence[Recoverable], what: str) -> Recoverable:
    if not found:
        raise NotFoundError(f"nothing of {shown(what)} is to be recovered", hint="flytevol recover lists what there is")
    if len(found) > 1:
        places = "\n".join(shown(one.path) for one in found)
        raise AmbiguousError(f"{len(found)} workspaces are of {shown(what)}:\n{places}", hint="give one's directory")
    return found[0]


def _own(one: Recoverable) -> str:
    return f"{one.left.volume_name}-{one.left.volume_id}"


def _wire(one: Recoverable) -> dict[str, Any]:
    return asdict(one.left)


def _table(found: Sequence[Recoverable]) -> Table:
    rows = [
        (
            one.left.volume_name, local(one.left.changed), files_text(one.left.files), size(one.left.bytes),
            size(one.left.staged), _next(one.left), shown(one.path),
        )
        for one in found
    ]  # fmt: skip
    columns = ("VOLUME", "LAST WRITTEN", "FILES", "SIZE", "UNSENT", "STATE", "DIRECTORY")
    return table(columns, rows, right=columns[2:5])


def _next(left: Leftover) -> str:
    if left.aside:
        return "set aside"
    own = left.base is not None and parse_locator(left.base).volume_id == left.volume_id
    return "resumed by the next mount" if own else "of a volume without a version"
