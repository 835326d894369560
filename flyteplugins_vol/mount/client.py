"""The client of one mount: starts its daemon, asks it for things, and leaves nothing behind.

Blocking and thread-safe, and imports neither trio nor pyfuse3: the process that uses a mount must not pay for them, nor
serve it (a page fault on its own mount with the GIL held would be for ever). Every request has a connection of its own,
so an `abandon` does not wait for a `commit`.

Nothing stays: not after an exception or Ctrl-C (atexit), nor after a kill (the daemon watches this process). A forked
child has the object but not the mount: it may ask for things, its exit changes nothing.
"""

from __future__ import annotations

import atexit
import os
import select
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from flyteplugins_vol.config import daemon_environment
from flyteplugins_vol.errors import MountFailedError, NotMountedError, VolumeError, from_wire
from flyteplugins_vol.model import MountSpec
from flyteplugins_vol.mount import kernel_mounts, preflight
from flyteplugins_vol.mount.control import DaemonGone, decode, request
from flyteplugins_vol.mount.handshake import greeting
from flyteplugins_vol.mount.logs import open_log
from flyteplugins_vol.mount.mount_paths import Claim, claim
from flyteplugins_vol.mount.protocols import Progress
from flyteplugins_vol.portable import make_workspace

DAEMON = "flyteplugins_vol.mount.daemon"

_LOG_NAME = "daemon.log"
_LOG_SHOWN = 15  # lines of the log in an error
_LOG_SEARCHED = 200  # last lines in which a crash report is looked for
_END_SECONDS = 70.0  # the daemon takes at most 20 to end gently, 10 to cut off, 17 for the rest and 10 to close
_STATUS_SECONDS = 30.0
_KILL_SECONDS = 5.0  # for a daemon that has told its error, or was told to end


class MountClient:
    """A live mount. Make one with `spawn`; it is over after `unmount` or `abandon`."""

    def __init__(self, spec: MountSpec, place: Claim, daemon: _Daemon) -> None:
        self.spec = spec
        self.mount_path = Path(place.path)
        self._place = place
        self._daemon = daemon
        self._control = ""
        self._owner = os.getpid()
        self._cleaning = threading.Lock()
        self._over = False  # the end was asked for
        self._clean = threading.Event()  # and has come

    @classmethod
    def spawn(
        cls,
        spec: MountSpec,
        *,
        place: Claim | None = None,
        progress: Progress | None = None,
        daemon: str = DAEMON,
    ) -> MountClient:
        """Start the daemon and return when the mount answers.

        ``place`` is a claim of ``spec.mount_path`` (made here if it is not given), which is released with the mount.
        Raises the daemon's own error if it has one; `SetupError` if this machine is not ready; `MountFailedError`, with
        the end of the log, if the daemon dies or says nothing for ``spec.timeout`` seconds.
        """
        place = place or claim(spec.mount_path, volume_name=spec.volume_name, home="/")
        try:
            spec = replace(
                spec, mount_path=place.path, claim=place.fd, log_path=_log_path(spec), mount_id=uuid.uuid4().hex
            )
            preflight.check(spec)
            client = cls(spec, place, _Daemon(spec, daemon))
        except BaseException:
            place.release()
            raise
        try:
            client._greet(progress)
        except VolumeError:
            client._clean_up(_KILL_SECONDS)  # it ends by itself
            raise
        except BaseException:
            client._clean_up(0)
            raise
        atexit.register(client._at_exit)
        return client

    # ----------------------------------------------------------------------------------------- requests

    def commit(
        self,
        message: str | None = None,
        progress: Progress | None = None,
        produced_by: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Publish a version; its record. Raises the error of the daemon: nothing is published, the mount lives on.

        ``produced_by`` replaces what the mount's spec said of who makes its versions.
        """
        more = {"produced_by": dict(produced_by)} if produced_by is not None else {}
        return self._ask({"request": "commit", "message": message, **more}, progress, None)

    def refresh(self, to: str | None = None) -> dict[str, Any]:
        """Have a read-only mount show the version at a locator, or the newest; the record of what it shows then.

        Raises the error of the daemon: the mount shows what it did.
        """
        return self._ask({"request": "refresh", "to": to}, None, None)

    def status(self) -> dict[str, Any]:
        return self._ask({"request": "status"}, None, _STATUS_SECONDS)

    def unmount(self, keep: bool = True) -> dict[str, Any]:
        """Unmount, end the daemon and reap it. Idempotent.

        ``keep``: what is not committed stays for a resume. Else what was written since the last commit is committed, so
        that nothing is dropped which was answered with success; raises as `commit`, and then it is kept as well.

        Returns what the daemon said: ``kept``; ``record``, of the last version, where it was not; ``busy`` if
        programs had files open. Nothing if it had ended already.
        """
        return self._end({"request": "unmount", "keep": keep})

    def leave(self) -> None:
        """Unmount because this process ends: a mount with autocommit publishes first, any other keeps. Idempotent."""
        self._end({"request": "unmount", "keep": True, "exit": True})

    def abandon(self) -> None:
        """Drop the mount and what was not committed, without waiting for anything under way. Bounded, idempotent."""
        self._end({"request": "abandon"})

    @property
    def is_alive(self) -> bool:
        """Whether the mount can be used: the daemon lives, and nobody has ended it from here."""
        return not self._over and not self._daemon.ended(0)

    # ------------------------------------------------------------------------------------------- inside

    @property
    def _is_cut_off(self) -> bool:
        """Whether the directory is gone in which the daemon listens: somebody was there, or it is at its very end."""
        return not os.path.isdir(os.path.dirname(self._control))

    def _ask(self, message: Mapping[str, Any], progress: Progress | None, timeout: float | None) -> dict[str, Any]:
        if self._over:
            raise NotMountedError(f"the volume is not mounted at {self.mount_path} any more", hint="mount it again")
        try:
            return request(self._control, message, progress, timeout)
        except TimeoutError:
            raise self._failure(f"does not answer within {timeout:.0f} s") from None
        except DaemonGone:
            if self._over:
                raise NotMountedError(
                    f"the volume was unmounted from {self.mount_path} meanwhile", hint="mount it again"
                ) from None
            if self._is_cut_off and not self._daemon.ended(1.0):
                raise MountFailedError(
                    f"the daemon of the mount {self.mount_path} cannot be reached: somebody has removed "
                    f"{self.spec.meta_dir}, which it works in",
                    hint="copy what you need out of the mount while it answers, abandon() it and mount again; what is "
                    "in no version cannot be published any more",
                ) from None
            raise self._failure("has died") from None

    def _end(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """An orderly end; by force if the daemon is not able to. Whoever comes second waits for the first."""
        if os.getpid() != self._owner:
            raise NotMountedError("a forked child cannot end its parent's mount", hint="end it in the parent")
        first, self._over = not self._over, True
        patience = _END_SECONDS
        answer: dict[str, Any] = {}
        try:
            if first or message["request"] == "abandon":
                try:
                    answer = request(self._control, message, None, _END_SECONDS)
                except TimeoutError:
                    patience = 0
                except DaemonGone:  # ended, or ending, by itself: but for the last moment it has a directory then
                    if self._is_cut_off:
                        patience = 1.0
        finally:
            self._clean_up(patience)
        return answer

    def _clean_up(self, patience: float) -> None:
        """Leave no process and no mount, whatever state they are in; the daemon has ``patience`` seconds to end."""
        with self._cleaning:
            if self._clean.is_set():
                return
            self._over = True
            if not self._daemon.ended(patience) and not self._daemon.terminate(_KILL_SECONDS):
                self._daemon.kill()
            # Also cuts the connection: a daemon with threads inside its own mount cannot even die before.
            kernel_mounts.unmount_by_force(self._place.path, self._place.fd)
            self._daemon.reap(_KILL_SECONDS)
            self._place.release()
            self._clean.set()
        atexit.unregister(self._at_exit)

    def _at_exit(self) -> None:
        if os.getpid() == self._owner and not self._clean.is_set():
            with suppress(Exception):
                self.leave()

    def _greet(self, progress: Progress | None) -> None:
        """Tell the daemon its mount and wait for it to be ready."""
        self._daemon.handshake.settimeout(self.spec.timeout)
        try:
            self._daemon.handshake.sendall(greeting(self.spec, os.getpid()))
            with self._daemon.handshake.makefile("rb") as lines:
                for line in lines:
                    answer = decode(line)
                    if "ready" in answer:
                        self._control = answer["ready"]["control"]
                        return
                    if "error" in answer:
                        raise from_wire(answer["error"])
                    if progress is not None:
                        progress(answer.get("progress", {}))
        except TimeoutError:
            raise self._failure(f"said nothing for {self.spec.timeout:.0f} s while starting") from None
        except (BrokenPipeError, ConnectionResetError):
            pass
        raise self._failure("died while starting")

    def _failure(self, what: str) -> MountFailedError:
        self._daemon.ended(1.0)
        tail = _tail(self.spec.log_path)
        return MountFailedError(
            f"the daemon of the mount {self.mount_path} {what}" + (f"; its log ends with\n{tail}" if tail else ""),
            hint=f"the log is {self.spec.log_path}; what was written is kept in {self.spec.meta_dir}",
        )


class _Daemon:
    """The daemon's process, watched by a pidfd: that works in forked children too, where there is nothing to reap."""

    def __init__(self, spec: MountSpec, module: str) -> None:
        log = _opened_log(spec)
        self.handshake, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", module],
                    stdin=theirs.fileno(),
                    stdout=log,
                    stderr=log,
                    pass_fds=() if spec.claim is None else (spec.claim,),
                    start_new_session=True,  # Ctrl-C is for the client
                    env=daemon_environment(),
                    cwd=Path(__file__).parents[2],  # so that -m finds the package that runs here
                )
            finally:
                os.close(log)
        self._pidfd = os.pidfd_open(self._process.pid)

    def ended(self, seconds: float) -> bool:
        """Whether it has ended, or does within so many seconds."""
        if self._pidfd < 0:
            return True
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(seconds * 1000)) or self._is_dead_but_for_a_thread()

    def _is_dead_but_for_a_thread(self) -> bool:
        """Killed while a thread told the kernel something: that waits for answers which nobody gives any more."""
        try:
            with open(f"/proc/{self._process.pid}/stat", "rb") as stat:
                return stat.read().rpartition(b") ")[2].startswith(b"Z")
        except OSError:
            return False

    def terminate(self, seconds: float) -> bool:
        self._process.terminate()
        return self.ended(seconds)

    def kill(self) -> None:
        self._process.kill()

    def reap(self, seconds: float) -> None:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        self.handshake.close()
        os.close(self._pidfd)
        self._pidfd = -1


def _log_path(spec: MountSpec) -> str:
    return os.path.abspath(spec.log_path or os.path.join(spec.meta_dir, _LOG_NAME))


def _opened_log(spec: MountSpec) -> int:
    assert spec.log_path is not None
    while True:
        try:
            return open_log(spec.log_path)
        except FileNotFoundError:
            if spec.log_path != _log_path(replace(spec, log_path=None)):
                raise
            make_workspace(spec.meta_dir)  # the workspace's last daemon has removed it just now


def _tail(path: str | None) -> str:
    """The last lines of the log; of a crash report, which is long, the first."""
    if path is None:
        return ""
    try:
        with open(path, encoding="utf-8", errors="replace") as log:
            lines = log.readlines()[-_LOG_SEARCHED:]
    except OSError:
        return ""
    crashes = [number for number, line in enumerate(lines) if line.startswith("Fatal Python error")]
    shown = lines[crashes[-1] :][:_LOG_SHOWN] if crashes else lines[-_LOG_SHOWN:]
    return "".join(f"  {line}" for line in shown).rstrip()
