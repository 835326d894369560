"""Commands that make a new version without a mount: put, cp, rm. All that one command does is one version."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import click

from flyteplugins_vol.cli.addresses import path_in, place_in, writer_at
from flyteplugins_vol.cli.completing import paths as volume_paths
from flyteplugins_vol.cli.completing import volume_names
from flyteplugins_vol.cli.errors import NotFoundError
from flyteplugins_vol.cli.options import Options, common
from flyteplugins_vol.cli.output import version_wire
from flyteplugins_vol.errors import UsageError
from flyteplugins_vol.human import kind, shown
from flyteplugins_vol.io import RWVolume

F = TypeVar("F", bound=Callable[..., None])


def publishing(command: F) -> F:
    """Give a command the options ``--message`` and ``--fork``."""
    command = click.option("-m", "--message", help="Message of the new version.")(command)
    return click.option("--fork", metavar="NAME", help="Leave the volume as it is: make a fork of this name.")(command)


@click.command(short_help="Copy files into a volume.")
@click.argument("volume", shell_complete=volume_names)
@click.argument("sources", nargs=-1, required=True, type=click.Path(allow_dash=True))
@click.argument("dest", shell_complete=volume_paths)
@click.option("-f", "--force", is_flag=True, help="Replace files that exist.")
@publishing
@common
def put(
    options: Options, volume: str, sources: tuple[str, ...], dest: str, force: bool, message: str | None,
    fork: str | None,
) -> None:  # fmt: skip
    """Copy local files and directories to DEST and publish a new version; print its locator.

    A DEST that is a directory, ends with `/` or takes several sources gets them inside, under their own names. SOURCE
    `-` is standard input. A locator is forked first. Whatever goes wrong, also Ctrl-C: nothing is published. Fifos,
    sockets and devices in a directory are left out.

    \b
    flytevol put data ./images /                    → /images/…
    flytevol put data a.csv b.csv tables/ -m "two more"
    tar c src | flytevol put data - backup/src.tar --force
    """
    for source in sources:
        if source == "-" and not sys.stdin:  # Python's, of a process that was started without one
            raise UsageError("there is no standard input: it is closed", hint="give a file, or redirect one: - < FILE")
        if source != "-" and not os.path.exists(source):
            raise NotFoundError(
                f"there is no local file {shown(source)!r}",
                hint="local files come first; the last argument is the place in the volume",
            )
        if source != "-" and not os.path.isfile(source) and not os.path.isdir(source):
            command = f"flytevol put {shlex.quote(volume)} - NAME < {shlex.quote(shown(source))}"
            raise UsageError(
                f"{shown(source)} is a {kind(os.stat(source).st_mode)}: only files and directories can be put",
                hint=f"what comes out of it can: {command}",
            )
    with opened_writer(options, volume, fork) as (writer, publish):
        targets = _targets(writer, sources, dest)
        with (
            options.output.progress("putting", _total(sources)) as bar,
            writer.batch_upload(force=force, progress=bar) as batch,
        ):
            for source, target in zip(sources, targets, strict=True):
                if source == "-":
                    batch.put_file(sys.stdin.buffer, target)
                elif Path(source).is_dir():
                    batch.put_directory(source, target)
                else:
                    batch.put_file(source, target)
        options.output.note_skipped(bar)
        publish(message, skipped=bar.skipped)


@click.command(short_help="Copy files within a volume.")
@click.argument("volume", shell_complete=volume_names)
@click.argument("source", shell_complete=volume_paths)
@click.argument("dest", shell_complete=volume_paths)
@click.option("-r", "-R", "--recursive", is_flag=True, help="Copy directories with all below.")
@click.option("-f", "--force", is_flag=True, help="Replace files that exist.")
@publishing
@common
def cp(
    options: Options, volume: str, source: str, dest: str, recursive: bool, force: bool, message: str | None,
    fork: str | None,
) -> None:  # fmt: skip
    """Copy a file or a directory within a volume and publish a new version; print its locator.

    \b
    flytevol cp data config.yaml config.old.yaml
    flytevol cp data -r images backup/
    """
    with opened_writer(options, volume, fork) as (writer, publish):
        writer.copy.sync(path_in(writer, source), place_in(writer, dest), recursive=recursive, force=force)
        publish(message)


@click.command(short_help="Rename or move files within a volume.")
@click.argument("volume", shell_complete=volume_names)
@click.argument("source", shell_complete=volume_paths)
@click.argument("dest", shell_complete=volume_paths)
@click.option("-f", "--force", is_flag=True, help="Replace a file that exists.")
@publishing
@common
def mv(
    options: Options, volume: str, source: str, dest: str, force: bool, message: str | None, fork: str | None
) -> None:  # fmt: skip
    """Rename or move a file or a directory and publish a new version; print its locator. Moves no data.

    A DEST that is a directory gets it inside, under its own name.

    \b
    flytevol mv data model.bin model.old.bin
    flytevol mv data images archive/ -m "the old ones"
    """
    with opened_writer(options, volume, fork) as (writer, publish):
        writer.rename.sync(path_in(writer, source), place_in(writer, dest), force=force)
        publish(message)


@click.command(short_help="Remove files from a volume.")
@click.argument("volume", shell_complete=volume_names)
@click.argument("paths", nargs=-1, required=True, shell_complete=volume_paths)
@click.option("-r", "-R", "--recursive", is_flag=True, help="Remove directories with all below.")
@click.option("-f", "--force", is_flag=True, help="What is not there is no error.")
@publishing
@common
def rm(
    options: Options, volume: str, paths: tuple[str, ...], recursive: bool, force: bool, message: str | None,
    fork: str | None,
) -> None:  # fmt: skip
    """Remove files and publish a new version; print its locator. Older versions keep them.

    \b
    flytevol rm data old.csv
    flytevol rm data -r tmp cache -m "tidy up"
    """
    with opened_writer(options, volume, fork) as (writer, publish):
        for path in paths:
            try:
                writer.remove.sync(path_in(writer, path), recursive=recursive)
            except FileNotFoundError:
                if not force:
                    raise
        publish(message)


@contextmanager
def opened_writer(
    options: Options, address: str, fork: str | None
) -> Generator[tuple[RWVolume, Callable[..., None]], None, None]:
    """A volume to write to, and the function that publishes. Whatever is raised before, nothing is published."""
    writer, forked = writer_at(address, options.store, fork=fork)
    output = options.output

    def publish(message: str | None, **more: int) -> None:
        with output.progress("publishing") as bar:
            version = writer.finalize.sync(message, progress=bar)
        if forked:
            output.note(f"a fork: volume {version.name}-{version.id}")
        output.result({**version_wire(version), **more}, str(version.locator))

    try:
        yield writer, publish
    finally:
        writer.abandon.sync()


def _targets(writer: RWVolume, sources: tuple[str, ...], dest: str) -> list[str]:
    dest = place_in(writer, dest)
    inside = dest.endswith("/") or len(sources) > 1 or (writer.exists.sync(dest) and writer.stat.sync(dest).is_dir)
    if not inside:
        return [dest]
    if "-" in sources:
        raise UsageError("standard input needs the name of a file", hint="give it as DEST: dir/name")
    names = [os.path.basename(os.path.abspath(source)) for source in sources]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"several sources are named {', '.join(twice)}", hint="put them one by one")
    return [f"{dest.rstrip('/')}/{name}" for name in names]


def _total(sources: tuple[str, ...]) -> int | None:
    total = 0
    for source in sources:
        if source == "-":
            return None
        path = Path(source)
        if path.is_dir():
            total += sum(os.lstat(os.path.join(top, name)).st_size for top, _, names in os.walk(path) for name in names)
        elif path.exists():
            total += path.stat().st_size
    return total
