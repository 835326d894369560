"""How a mount ends: for which cause it keeps, commits or drops what is not committed, and who is waited for.

| cause                           | function          | what is not committed                               |
|---------------------------------|-------------------|-----------------------------------------------------|
| request ``unmount``             | `on_unmount`      | kept for a resume; with ``keep: false`` committed   |
| request ``unmount`` at exit     | `on_unmount`      | committed if the mount has autocommit; else kept    |
| request ``abandon``             | `on_abandon`      | dropped, without waiting for anything               |
| SIGTERM, SIGINT                 | `on_signal`       | committed if the mount has autocommit; else kept    |
| the client process is gone      | `on_client_gone`  | committed if the mount has autocommit; else kept    |
| unmounted from outside          | `on_gone_outside` | kept                                                |

With ``keep: false`` the client has committed before. What programs wrote since then was answered with success, so it is
committed as well, once nobody can write any more; so is what they wrote since a commit at the end with autocommit.

A commit that takes longer than `COMMIT_SECONDS` is left: what was written is kept then. In all, an end takes at most
`GENTLE_SECONDS`, and seconds more where the store hangs, of the 30 s that Kubernetes gives after its SIGTERM.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import trio

from flyteplugins_vol.errors import CommitError, VolumeError
from flyteplugins_vol.model import MountSpec
from flyteplugins_vol.mount import kernel_mounts
from flyteplugins_vol.mount.commits import Commits
from flyteplugins_vol.mount.kernel_thread import KernelThread
from flyteplugins_vol.mount.protocols import Session
from flyteplugins_vol.mount.refresh import Refreshes
from flyteplugins_vol.mount.threads import done, in_thread

log = logging.getLogger(__name__)

COMMIT_SECONDS = 17.0
GENTLE_SECONDS = 20.0  # for that, the flush and a clean unmount
_HARD_SECONDS = 10.0  # for the rest, which waits for nobody else


@dataclass(frozen=True)
class Ending:
    """How a mount is to end."""

    why: str
    keep: bool = True  # what is not committed stays, for the next mount to resume
    flush: bool = True  # the kernel's dirty pages are wanted first
    rest: bool = False  # what was written up to the very end is to be in a version, or else is kept
    commit: bool = False
    gentle: bool = True  # wait for what is under way


def on_unmount(spec: MountSpec, *, keep: bool, at_exit: bool) -> Ending:
    """``at_exit``: nobody said so, the client's process ends."""
    commit = spec.autocommits and keep and at_exit
    return Ending("unmount was asked for", keep=keep, commit=commit, rest=not keep and not spec.read_only)


def on_abandon() -> Ending:
    return Ending("abandon was asked for", keep=False, flush=False, gentle=False)


def on_signal(spec: MountSpec, name: str) -> Ending:
    return Ending(f"received {name}", commit=spec.autocommits)


def on_client_gone(spec: MountSpec, client: int) -> Ending:
    return Ending(f"the client, process {client}, is gone", commit=spec.autocommits)


def on_gone_outside() -> Ending:
    return Ending("unmounted from outside", flush=False)


class End:
    """The one end of a mount: `begin` says that it has to come, `run` makes it come. Main thread."""

    def __init__(self, spec: MountSpec, kernel: KernelThread) -> None:
        self.ending: Ending | None = None
        """The cause that decides; None: nothing has ended the mount yet."""
        self.begun = trio.Event()
        self.over = trio.Event()
        self._spec = spec
        self._kernel = kernel
        self._gentle = trio.CancelScope()
        self._outcome: dict[str, Any] = {}
        self._failure: VolumeError | None = None

    @property
    def leaves_nothing(self) -> bool:
        """Whether the mount has ended, and what was not committed then was not to be kept."""
        return self._outcome.get("kept") is False

    def begin(self, ending: Ending) -> None:
        """The first cause decides, but an abandon comes before all others: it must not wait for them."""
        if self.ending is None or (self.ending.gentle and not ending.gentle):
            log.info("the mount ends: %s", ending.why)
            self.ending = ending
            self.begun.set()
        if not ending.gentle:
            self._gentle.cancel()

    async def outcome(self) -> dict[str, Any]:
        """Wait until it is over; raises the `VolumeError` of what could not be published, which is kept.

        ``kept`` says whether what is not committed stays, ``busy`` that somebody had the mount in use, and ``record``
        is that of the last version, where the last writes had to be in one.
        """
        await self.over.wait()
        if self._failure is not None:
            raise self._failure
        return self._outcome

    async def run(self, commits: Commits, refreshes: Refreshes) -> None:
        """End the mount as was begun. Raises `trio.TooSlowError` if not even the hard end comes."""
        assert self.ending is not None
        until = trio.current_time() + COMMIT_SECONDS  # for the commits of an end with autocommit, all together
        with self._gentle:
            with trio.move_on_after(GENTLE_SECONDS) as limit:
                await self._end_gently(self.ending, commits, refreshes)
            if limit.cancelled_caught:
                log.error("the mount did not end gently within %.0f s and is cut off", GENTLE_SECONDS)
        with trio.fail_after(_HARD_SECONDS):
            await in_thread(self._kernel.stop)
            await done(self._kernel.ended)
            await in_thread(_give_path_back, self._spec)
        ending = self.ending
        if ending.rest and self._kernel.ended.exception() is None:
            kept = await self._commit_rest(ending, commits)
            if self.ending is ending:  # nobody has abandoned it meanwhile
                self.ending = kept
        elif ending.commit and self._kernel.ended.exception() is None:
            await _commit_last(commits, until)
        self._outcome["kept"] = self.ending.keep
        with trio.fail_after(_HARD_SECONDS):
            if self._kernel.ended.exception() is None:
                await in_thread(self._kernel.finish, _closing(self.ending))
        self.over.set()

    async def _end_gently(self, ending: Ending, commits: Commits, refreshes: Refreshes) -> None:
        with trio.move_on_after(COMMIT_SECONDS) as limit:
            await commits.settle()
            await refreshes.settle()
            if ending.commit:
                await commits.commit_changes("autocommit at exit")
        if limit.cancelled_caught:
            log.error("a commit took longer than %.0f s and is given up: what was written is kept", COMMIT_SECONDS)
        if self._kernel.ended.done():
            return
        try:
            await in_thread(_unmount, self._spec)
        except OSError as error:
            log.info("in use (%s): the mount is detached", error)
            self._outcome["busy"] = True
            if ending.flush:
                await self._flush()

    async def _flush(self) -> None:
        try:
            await in_thread(self._kernel.barrier)
        except Exception as error:
            log.error("what programs wrote to open files last is lost: %s", error)

    async def _commit_rest(self, ending: Ending, commits: Commits) -> Ending:
        """Publish what came after the client's commit. Nobody is answered any more, so nothing comes after this."""
        self._failure = CommitError(
            f"what was written after the last commit could not be published within {COMMIT_SECONDS:.0f} s",
            hint="it is kept: mount the volume again, or `flytevol recover`",
        )
        with trio.move_on_after(COMMIT_SECONDS):
            try:
                record = await commits.commit_rest()
            except VolumeError as error:
                self._failure = error
            except Exception as error:  # of the local disk, say
                log.exception("the last commit failed")
                why = f"what was written after the last commit is in no version: {error!r}"
                self._failure = CommitError(why, hint=self._failure.hint)
            else:
                self._failure = None
                self._outcome["record"] = record
                return ending
        log.error("what was written after the last commit is in no version, and kept")
        return replace(ending, keep=True)


async def _commit_last(commits: Commits, until: float) -> None:
    """What programs wrote while, or after, the commit at the end was made. A failure is logged, and all is kept."""
    if trio.current_time() >= until:
        return  # that commit was given up
    with trio.move_on_at(until) as limit:
        await commits.commit_changes("autocommit at exit", is_last=True)
    if limit.cancelled_caught:
        log.error("the last commit took too long and is given up: what was written is kept")


def _unmount(spec: MountSpec) -> None:
    kernel_mounts.unmount(spec.mount_path, claim=spec.claim)


def _give_path_back(spec: MountSpec) -> None:
    """Nothing is mounted there any more: if the client is gone as well, somebody else may have the path."""
    kernel_mounts.unmount_by_force(spec.mount_path, spec.claim)
    if spec.claim is not None:
        os.close(spec.claim)


def _closing(ending: Ending) -> Callable[[Session], None]:
    if ending.gentle:
        return lambda session: session.close(ending.keep)
    return lambda session: session.abandon()
