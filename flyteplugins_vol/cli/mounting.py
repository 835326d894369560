"""What `mount` and `exec` share: their options, a mount to begin with, and what is published in the end."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from flyteplugins_vol.cli.addresses import version_at, writer_at
from flyteplugins_vol.cli.options import DIRECTORY, LocalPath, Options, not_empty
from flyteplugins_vol.cli.output import Waiting, version_wire
from flyteplugins_vol.config import cache_root
from flyteplugins_vol.errors import UsageError
from flyteplugins_vol.io import ROVolume, RWVolume
from flyteplugins_vol.io.mounting import workspace_of

F = TypeVar("F", bound=Callable[..., Any])


class Bytes(click.ParamType[Any]):
    """``500M``, ``20G``, ``1048576``: powers of 1024."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        number, unit = value.strip().upper().removesuffix("IB").removesuffix("B"), 0
        if number[-1:] in "KMGT" and number:
            unit = "KMGT".index(number[-1]) + 1
            number = number[:-1]
        try:
            return int(float(number) * 1024**unit)
        except ValueError:
            self.fail(f"{value!r} is no size; write 500M or 20G", param, ctx)


def mount_options(command: F) -> F:
    """The options of a mount."""
    options = (
        click.option("--read-only", is_flag=True, help="Mount the version itself; nothing can be written."),
        click.option("--no-commit", is_flag=True, help="Publish nothing in the end: what was written is dropped."),
        click.option("-m", "--message", help="Message of the new version."),
        click.option("--fork", metavar="NAME", help="Write to a fork of this name, whatever VOLUME is."),
        click.option("--subdir", metavar="PATH", callback=not_empty, help="Show only this directory of the volume."),
        click.option("--warmup", metavar="PATH", multiple=True, help="Fetch this at once, in the background."),
        click.option("--follow", type=float, metavar="SECONDS", help="Read-only: show newer versions."),
        click.option("--autocommit", type=float, metavar="SECONDS", help="Publish changes this often."),
        click.option("--autocommit-bytes", type=Bytes(), metavar="SIZE", help="Publish when that much was written."),
        click.option("--cache-dir", type=DIRECTORY, help="Where blocks are kept."),
        click.option("--cache-size", type=Bytes(), metavar="SIZE", help="Most that is kept there: 500M, 20G."),
        click.option("--meta-dir", type=DIRECTORY, help="Where changes are kept until a commit."),
        click.option("--max-uploads", type=click.IntRange(1), metavar="N", help="Most uploads at once."),
        click.option("--passthrough", is_flag=True, help="For large files: the kernel writes new ones by itself."),
        click.option("--xattr", is_flag=True, help="Offer extended attributes (user.*)."),
        click.option("--allow-other", is_flag=True, help="Let other users in."),
        click.option("--log-path", type=LocalPath(dir_okay=False), help="The daemon's log."),
    )
    for option in reversed(options):
        command = option(command)
    return command


IN_USE = "it was in use: what programs still write to its files is lost"


@dataclass
class Mounted:
    """A mount that this process holds, and what is to become of it."""

    options: Options
    volume: ROVolume | RWVolume
    path: str
    forked: bool
    commits: bool
    message: str | None
    kept: str  # the directory of what was written and is in no version
    resumed: bool  # with what a killed process wrote

    def publish(self) -> ROVolume | None:
        """End the mount as was asked for: the new version, or None. Raises as `RWVolume.finalize`; it lives on then.

        Where nothing is published, what was written is dropped, unless the mount began with what somebody else wrote.
        """
        if not self.commits or not isinstance(self.volume, RWVolume):
            if self.resumed and isinstance(self.volume, RWVolume):
                self.volume.leave.sync()
                self.options.output.note(
                    "what a killed process had written, and what was written since, is kept: `flytevol recover` has it"
                )
            else:
                self.volume.abandon.sync()
            return None
        with self.options.output.progress("publishing") as bar:
            version = self.volume.finalize.sync(self.message, progress=bar)
        if bar.in_use:
            self.options.output.note(IN_USE)
        return version


def begin(options: Options, address: str, path: str | None, given: dict[str, Any]) -> Mounted:
    """Mount what an address names: read-only, a fork, or the line of a name."""
    read_only, no_commit = given.pop("read_only"), given.pop("no_commit")
    message, fork = given.pop("message"), given.pop("fork")
    mount = {name: value for name, value in given.items() if value not in (None, False, ())}
    if read_only:
        wrong = [name for name in ("autocommit", "autocommit_bytes", "max_uploads", "passthrough") if name in mount]
        if wrong or fork or message:
            raise UsageError("a read-only mount has nothing to publish", hint="leave out --read-only, or the others")
        volume: ROVolume | RWVolume = version_at(address, options.store)
        forked = False
    else:
        if "follow" in mount:
            raise UsageError("only a read-only mount follows others' versions", hint="add --read-only")
        volume, forked = writer_at(address, options.store, fork=fork)
    told = Waiting(options.output, volume.name)
    where = volume.mount.sync(None if path is None else os.path.abspath(path), progress=told, **mount)
    left = [one.left for one in RWVolume.recoverable(given.get("meta_dir"))]
    if any((one.volume_id, one.store_url) == (volume.id, volume.store) for one in left):
        options.output.note("what a killed process wrote is in no version, and not here: `flytevol recover` has it")
    root = os.path.abspath(os.path.expanduser(given.get("meta_dir") or cache_root()))
    kept = os.path.join(root, workspace_of(f"{volume.name}-{volume.id}", volume.store))
    status = volume.status()
    if mount.get("passthrough") and not status["passthrough"]:
        options.output.note(f"no passthrough; why is in {status['log_path']}. The mount is as without it")
    resumed = bool(status["resumed"])
    return Mounted(options, volume, str(where), forked, not (read_only or no_commit), message, kept, resumed)


def published_wire(mounted: Mounted, version: ROVolume | None) -> dict[str, Any]:
    """What is told of the end of a mount, as JSON values."""
    return {"mount_path": mounted.path, "version": None if version is None else version_wire(version)}
