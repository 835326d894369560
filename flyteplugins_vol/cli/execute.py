"""``flytevol exec``: mount, run, publish, and end as the command did. The way into Slurm jobs, containers and cron."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import click

from flyteplugins_vol.cli.completing import volume_names
from flyteplugins_vol.cli.errors import Failure
from flyteplugins_vol.cli.interrupt import handled
from flyteplugins_vol.cli.lookup import NOT_FOUND, NOT_RUNNABLE, refused
from flyteplugins_vol.cli.mounting import Mounted, begin, mount_options, published_wire
from flyteplugins_vol.cli.options import MOUNT_PATH, TO_WRITE, Options, common
from flyteplugins_vol.errors import VolumeError

_PASSED_ON = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGCONT", "SIGWINCH")
_FROM_A_TERMINAL = ("SIGINT", "SIGQUIT", "SIGWINCH")  # which sends them to the command as well


@click.command("exec", short_help="Run a command with a volume mounted.")
@click.argument("volume", shell_complete=volume_names)
@click.option("--at", "directory", type=MOUNT_PATH, metavar="DIR", help="Mount path; by default ~/flyte-volume.")
@mount_options
@click.option(
    "--commit",
    "when",
    type=click.Choice(["success", "always", "never"]),
    default="success",
    show_default=True,
    help="After which end of the command to publish.",
)
@click.option("--chdir", is_flag=True, help="Run the command in the mounted directory.")
@click.option("--locator-file", type=TO_WRITE, help="Write the new version's locator here.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@common
def execute(
    options: Options, volume: str, directory: str | None, when: str, chdir: bool, locator_file: str | None,
    command: tuple[str, ...], **given: Any,
) -> int:  # fmt: skip
    """Mount VOLUME, run COMMAND, publish what it wrote if it succeeded, unmount, and exit with its exit code.

    Signals are passed on to the command, but for those that are ignored (nohup). Its output is its own: the new locator
    goes to standard error and into --locator-file. With --json: a line there, in the end. A locator (or NAME@VERSION)
    is forked first; a plain NAME is written to as it is. The mount path is in the command's environment as
    FLYTEVOL_MOUNT.

    Exit codes: the command's; 128 + n if signal n ended it; 125 if flytevol failed; 126 and 127 if the command could
    not be run or found.

    \b
    flytevol exec data --at ./data -- python train.py --out ./data/model
    flytevol exec data@3 --at /data --read-only -- ls -l /data
    srun flytevol exec "$LOCATOR" --at "$SLURM_TMPDIR/data" --locator-file out.txt -- ./job.sh
    """
    if (why := refused(command[0], at=directory, chdir=chdir)) is not None:
        return _unrunnable(options, *why)
    mounted = begin(options, volume, directory, given)
    code, ran = _run(options, command, mounted.path, chdir)
    publishes = ran and (when == "always" or (when == "success" and code == 0))
    return _end(mounted, code, publishes, locator_file, ran=ran)


def _unrunnable(options: Options, code: int, why: str) -> int:
    options.output.failure(Failure("command", why, "", code))
    return code


def _run(options: Options, command: tuple[str, ...], path: str, chdir: bool) -> tuple[int, bool]:
    """The exit code, and whether the command ran at all."""
    environment = {**os.environ, "FLYTEVOL_MOUNT": path}
    with _signals_passed_on() as started:
        try:
            process = subprocess.Popen(command, env=environment, cwd=path if chdir else None)
        except FileNotFoundError:
            return _unrunnable(options, NOT_FOUND, f"there is no command {command[0]!r}"), False
        except OSError as error:
            why = f"{command[0]!r} cannot be run: {error.strerror}"
            return _unrunnable(options, NOT_RUNNABLE, why), False
        started(process)
        code = process.wait()
    return (code if code >= 0 else 128 - code), True


@contextmanager
def _signals_passed_on() -> Generator[Callable[[subprocess.Popen[bytes]], None], None, None]:
    """Signals go to the process that the yielded function is told of; those that come before wait for it."""
    running: list[subprocess.Popen[bytes]] = []
    early: list[int] = []

    def pass_on(number: int, _: Any) -> None:
        if number in from_terminal and _in_foreground():
            return
        if running:
            running[0].send_signal(number)
        else:
            early.append(number)

    def started(process: subprocess.Popen[bytes]) -> None:
        running.append(process)
        for number in early:
            process.send_signal(number)

    from_terminal = [getattr(signal, name) for name in _FROM_A_TERMINAL]
    with handled([getattr(signal, name) for name in _PASSED_ON], pass_on):
        yield started


def _in_foreground() -> bool:
    """Whether a terminal's Ctrl-C reaches us and the command alike."""
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


def _end(mounted: Mounted, code: int, publishes: bool, locator_file: str | None, *, ran: bool) -> int:
    output = mounted.options.output
    mounted.commits = mounted.commits and publishes
    writable = mounted.volume.writable
    try:
        version = mounted.publish()
    except VolumeError as error:
        output.warn(f"what was written is kept in {mounted.kept}")
        if code:
            output.warn(f"not published: {error.message}")
            return code
        raise
    if output.as_json and ran:
        sys.stderr.write(json.dumps({**published_wire(mounted, version), "code": code}) + "\n")
    elif version is not None:
        output.err.print(str(version.locator), markup=False)
    if version is not None:
        if locator_file is not None:
            with open(locator_file, "w", encoding="utf-8") as file:
                file.write(f"{version.locator}\n")
    elif writable and code and not output.as_json:
        output.warn(f"the command ended with {code}: nothing is published (--commit always would)")
    return code
