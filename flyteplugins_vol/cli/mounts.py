"""Commands about live mounts: mount, umount, commit, refresh."""

from __future__ import annotations

import functools
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import click

from flyteplugins_vol.cli.addresses import version_at
from flyteplugins_vol.cli.completing import volume_names
from flyteplugins_vol.cli.errors import BROKEN_PIPE, ExistsError, NotFoundError, failure_of
from flyteplugins_vol.cli.interrupt import handled
from flyteplugins_vol.cli.mounting import IN_USE, Mounted, begin, mount_options, published_wire
from flyteplugins_vol.cli.options import DIRECTORY, LIVE_MOUNT, MOUNT_PATH, Options, common
from flyteplugins_vol.cli.output import version_wire
from flyteplugins_vol.config import cache_root
from flyteplugins_vol.errors import MountFailedError, VolumeError
from flyteplugins_vol.history.record import VersionRecord
from flyteplugins_vol.human import hidden, shown
from flyteplugins_vol.io import ROVolume
from flyteplugins_vol.mount import kernel_mounts
from flyteplugins_vol.mount.control import DaemonGone
from flyteplugins_vol.mount.live import LiveMount, live_mounts
from flyteplugins_vol.mount.mount_paths import clear_stale, wait_until_free

_PATIENCE = 5.0  # seconds for a mount to say that its daemon is gone
_FREE_SECONDS = 1.0  # for which whoever held a mount may take to let go of its path
_LOOK = 0.5  # seconds between two looks at whether the mount is still there


@click.command(short_help="Mount a volume at a directory.")
@click.argument("volume", shell_complete=volume_names)
@click.argument("directory", type=MOUNT_PATH, required=False)
@mount_options
@click.option("-d", "--detach", is_flag=True, help="Return when it is mounted; `flytevol umount` ends it.")
@click.option("--detached", is_flag=True, hidden=True)
@common
def mount(
    options: Options, volume: str, directory: str | None, detach: bool, detached: bool, **given: Any
) -> int | None:
    """Mount a volume until Ctrl-C, which publishes a new version and prints its locator.

    A locator (or NAME@VERSION) is forked first, since versions never change; a plain NAME is written to as it is.
    Without DIRECTORY: ~/flyte-volume. With --json: a line when it is mounted, and one in the end.

    \b
    flytevol mount data ./data
    flytevol mount s3://bucket/volumes/…/versions/….json ./work --fork experiment
    flytevol mount data@3 ./look --read-only
    flytevol mount data ./data --detach;  …;  flytevol umount ./data -m "what I did"
    """
    if detach and not detached:
        return _detach(options)
    serve(begin(options, volume, directory, given), volume, detached=detached)
    return None


def serve(mounted: Mounted, volume: str, *, detached: bool = False) -> None:
    """Say that it is mounted, wait for the end, publish, and print what was published. ``volume``: as it was called."""
    output = mounted.options.output

    def announce() -> None:
        if detached:
            output.line(shown(mounted.path))
            _let_go_of_the_terminal()
        elif mounted.options.as_json:
            output.line(json.dumps({"mount_path": mounted.path}))
            output.flush()
        else:
            kind = "a fork" if mounted.forked else "read-write" if mounted.volume.writable else "read-only"
            ends = "publishes" if mounted.commits else "ends it"
            output.note(f"mounted {volume} at {shown(mounted.path)} ({kind}); Ctrl-C {ends}")

    version = _until_told_to_end(mounted, announce)
    output.result(published_wire(mounted, version), str(version.locator) if version is not None else "")


@click.command(short_help="End a mount, and publish what was written.")
@click.argument("directory", type=LIVE_MOUNT)
@click.option("-m", "--message", help="Message of the new version.")
@click.option("--no-commit", is_flag=True, help="Publish nothing; the next mount of the volume takes it up.")
@click.option("--discard", is_flag=True, help="Publish nothing, and drop what was not committed.")
@click.option("--meta-dir", type=DIRECTORY, help="If the mount was made with one.")
@common
def umount(
    options: Options, directory: str, message: str | None, no_commit: bool, discard: bool, meta_dir: str | None
) -> None:
    """End a mount that some process of this user holds. Changes are published first, and the locator is printed.

    A mount whose daemon was killed is taken away; what was written is kept then, and `flytevol recover` has it. One
    inside which something else is mounted is left as it is: that would end with it.

    \b
    flytevol umount ./data -m "cleaned"
    flytevol umount ./data --discard
    """
    path = os.path.realpath(directory)
    _check_nothing_inside(path)
    try:
        found = _mount_at(directory, meta_dir)
    except NotFoundError:
        if not _was_dead(path):
            raise
        options.output.note("its daemon had died: what was not committed is kept, see `flytevol recover`")
        options.output.result({"mount_path": path, "version": None}, "")
        return
    version = None
    with _as_errors(found):
        if found.writable and not no_commit and not discard:
            version = _commit(options, found, message)
        if discard:
            found.abandon()
        else:
            version = _unmounted(options, found, keep=found.writable and no_commit) or version
    wait_until_free(path, _FREE_SECONDS)
    wire = {"mount_path": found.path, "version": None if version is None else version_wire(version)}
    options.output.result(wire, str(version.locator) if version is not None else "")


def _unmounted(options: Options, found: LiveMount, *, keep: bool) -> ROVolume | None:
    """End a mount; the last version of one that published."""
    answer = found.unmount(keep=keep)
    if answer.get("busy"):
        options.output.note(IN_USE)
    record = answer.get("record")
    return None if record is None else ROVolume.of(VersionRecord.from_wire(record), None)


@click.command(short_help="Publish a live mount as a new version.")
@click.argument("directory", type=LIVE_MOUNT)
@click.option("-m", "--message", help="Message of the new version.")
@click.option("--meta-dir", type=DIRECTORY, help="If the mount was made with one.")
@common
def commit(options: Options, directory: str, message: str | None, meta_dir: str | None) -> None:
    """Publish what is at a mount as a new version and print its locator; the mount stays in use.

    \b
    flytevol commit ./data -m "epoch 3"
    """
    found = _mount_at(directory, meta_dir)
    with _as_errors(found):
        version = _commit(options, found, message)
    options.output.result(version_wire(version), str(version.locator))


@click.command(short_help="Show another version at a live read-only mount.")
@click.argument("directory", type=LIVE_MOUNT)
@click.argument("version", required=False)
@click.option("--meta-dir", type=DIRECTORY, help="If the mount was made with one.")
@common
def refresh(options: Options, directory: str, version: str | None, meta_dir: str | None) -> None:
    """Let a read-only mount show the newest version of its volume, or VERSION, and print the locator of what it shows.

    Nothing is unmounted. Files that are open, and programs that run, keep what they have; who opens a file or lists a
    directory from then on gets the new version. VERSION is a locator or NAME@VERSION.

    \b
    flytevol refresh ./look
    flytevol refresh ./look data@3
    """
    found = _mount_at(directory, meta_dir)
    locator = version_at(version, options.store).locator if version is not None else None
    with _as_errors(found):
        shows = ROVolume.of(VersionRecord.from_wire(found.refresh(locator)))
    options.output.result(version_wire(shows), str(shows.locator))


def _until_told_to_end(mounted: Mounted, announce: Callable[[], None]) -> ROVolume | None:
    """Wait for a signal, or for the mount to end by itself, and publish.

    After Ctrl-C a commit that fails leaves the volume mounted; after SIGTERM and SIGHUP nobody is there to try again.
    """
    told = _Told()
    while True:
        with handled((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), told):
            announce()
            while not told.event.wait(_LOOK):
                if mounted.volume.mount_path is None:
                    return None
        if mounted.volume.mount_path is None:  # `flytevol umount` was faster
            return None
        told.event.clear()
        try:
            if told.number == signal.SIGINT:
                _check_nothing_inside(mounted.path)
            return mounted.publish()
        except VolumeError as error:
            if isinstance(error, MountFailedError) or told.number != signal.SIGINT:
                raise
            mounted.options.output.failure(failure_of(error))
            announce = functools.partial(_still_mounted, mounted)


class _Told:
    """The last signal that came."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.number = 0

    def __call__(self, number: int, _: Any) -> None:
        self.number = number
        self.event.set()


def _still_mounted(mounted: Mounted) -> None:
    path = shown(mounted.path)
    text = f"still mounted at {path}: Ctrl-C tries again, `flytevol umount --discard {shlex.quote(path)}` gives it up"
    mounted.options.output.warn(text)


def _detach(options: Options) -> int:
    """Run the same command in a session of its own, until it says that it is mounted."""
    arguments = sys.argv[1:]
    at = arguments.index("mount") + 1  # before it are options of flytevol itself, which have no values
    process = subprocess.Popen(  # with no `with`: whatever happens to the output, its end is not waited for
        [sys.executable, "-m", "flyteplugins_vol.cli", *arguments[:at], "--detached", *arguments[at:]],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        with process.stdout as told:
            path = hidden(os.fsdecode(told.readline()).rstrip("\n"))
    except KeyboardInterrupt:  # which no other session gets, and there is no mount that anybody was told of
        process.terminate()
        raise
    if not path:
        return process.wait()
    code = 0
    try:
        options.output.result({"mount_path": path, "pid": process.pid}, shown(path))
        options.output.flush()
    except BrokenPipeError:
        code = BROKEN_PIPE
    except OSError as error:
        failure = failure_of(error)
        options.output.failure(failure)
        code = failure.code
    os._exit(code)  # the other one lives on: nothing to wait for


def _let_go_of_the_terminal() -> None:
    sys.stdout.flush()
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)


def _mount_at(directory: str, meta_dir: str | None) -> LiveMount:
    path = os.path.realpath(directory)
    mounts = live_mounts([cache_root(), *([meta_dir] if meta_dir else [])])
    for found in mounts:
        if found.path == path:
            return found
    there = ", ".join(shown(found.path) for found in mounts) or "none"
    raise NotFoundError(
        f"no live mount of this user at {shown(path)}",
        hint=f"flytevol status shows them ({there}); one made with --meta-dir is found by --meta-dir",
    )


def _was_dead(path: str) -> bool:
    """Take away what a killed daemon has left there. One that hangs is not waited for: whoever asks it hangs too."""
    answers: list[bool] = []
    asking = threading.Thread(target=lambda: answers.append(clear_stale(path)), daemon=True)
    asking.start()
    asking.join(_PATIENCE)
    return answers == [True]


def _commit(options: Options, found: LiveMount, message: str | None) -> ROVolume:
    with options.output.progress("publishing") as bar:
        return ROVolume.of(VersionRecord.from_wire(found.commit(message, bar)))


def _check_nothing_inside(path: str) -> None:
    """With a mount of ours everything that is mounted inside it goes, whatever is written there at that moment."""
    mount = kernel_mounts.mount_at(path)
    inside = kernel_mounts.mounts_below(path) if mount is not None and mount.is_ours else []
    if inside:
        there = ", ".join(shown(one.path) for one in inside)
        last = inside[-1]
        command = "flytevol umount" if last.is_ours else "umount"
        raise ExistsError(
            f"inside {shown(path)} is mounted: {there}",
            hint=f"unmount what is inside first: {command} {shlex.quote(shown(last.path))}",
        )


@contextmanager
def _as_errors(found: LiveMount) -> Generator[None, None, None]:
    try:
        yield
    except DaemonGone as error:
        raise MountFailedError(
            f"the daemon of the mount {found.path} went away: {error}",
            hint=f"its log is {found.status.get('log_path')}; what was written is kept in {found.meta_dir}",
        ) from error
