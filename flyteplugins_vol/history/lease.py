"""The lease: which workspace may publish to a volume, on whatever machine. docs/FORMAT.md, section 5.

One small object, written by conditional put only. Its holder renews it while it lives and marks it as released when it
ends. Whoever finds it held watches it: what does not change for as long as it was lent is taken over. So only
durations are compared, each on one machine's clock, and clocks that differ do no harm.

Watching cannot tell a dead holder from one that is paused, so the lease alone keeps nobody from publishing. The ref
does: each taking has a greater *fence*, the ref bears the fence of who moved it last, and who takes a lease over puts
its own into the ref before it reads it. A holder that wakes up then finds a ref that it cannot move any more.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any

from flyteplugins_vol.errors import LeaseLostError, RecordDamagedError, StoreError, VolumeBusyError
from flyteplugins_vol.history.holding import KIND, LEAP, MOST_AHEAD, Holding, lease_key, look_at_lease, nobodys
from flyteplugins_vol.history.lease_note import LeaseNote, Released
from flyteplugins_vol.history.processes import Process
from flyteplugins_vol.history.refs import Ref, move_ref, read_known_ref, read_ref, ref_key
from flyteplugins_vol.history.small_objects import MAX_NUMBER, encode
from flyteplugins_vol.store.base import ObjectStore

log = logging.getLogger(__name__)

_LOOK = 1.0  # seconds between two looks at somebody else's lease, at most
_LONGEST_USER = 200  # characters: who reads it refuses long ones
_SLACK = 1.0  # seconds by which the end of a lease may differ from what it was lent for: it is rounded
_HINT = "end it there, wait until it ends, fork the volume, or mount it read-only"

Tell = Callable[[Mapping[str, Any]], None]


class Lease:
    """One workspace's lease of one volume. Every method blocks; thread-safe."""

    def __init__(
        self, store: ObjectStore, volume_name: str, volume_id: str, holder: str, *, seconds: float, user: str | None,
        fresh: bool, clock: Callable[[], float] | None = None, process: Process | None = None,
        note: LeaseNote | None = None,
    ) -> None:  # fmt: skip
        """``fresh``: the volume has no version yet, so it is not looked for a lease before one is created."""
        self.seconds = seconds
        self.fence = 0
        self.ref: Ref | None = None  # as it was read in a taking over: nobody else has moved it since
        self._store = store
        self._key = lease_key(volume_name, volume_id)
        self._ref_key = ref_key(volume_name, volume_id)
        self._volume = volume_name
        self._holder = holder
        self._user = user
        self._fresh = fresh
        self._clock = clock or _clock
        self._process = process or Process.current()
        self._note = note
        self._since = ""
        self._count = 0
        self._tag: str | None = None
        self._until = 0.0
        self._lost: str | None = None
        self._lock = threading.Lock()

    @property
    def lost(self) -> bool:
        """Whether somebody else has it by now."""
        return self._lost is not None

    def take(self, tell: Tell, wait: Callable[[float], object] = time.sleep) -> None:
        """Return when the lease is ours; the fence is greater than that of everybody before.

        Somebody else's is watched until it changes (`VolumeBusyError`), or has not for as long as it was lent. On the
        same machine nobody needs to watch: there is one clock, and it can be seen who is dead.
        """
        released = self._note.take() if self._note is not None else None
        if released is not None and self._put(released.fence + 1, released.tag):
            return
        found = None if self._fresh else self._look()
        while True:
            if found is not None and not found.released and not self._is_over(found):
                found = self._watched(found, tell, wait)
            ended = found is None or found.released  # else its holder may be about to publish
            if self._put(self._next_fence(found), found.tag if found is not None else None):
                break
            found = self._look()  # somebody was faster
        if not ended:
            log.info("the lease of volume %s is taken over from %s", self._volume, found)
            self._fence_ref()

    def renew(self) -> None:
        """Put off its end. Afterwards `lost` may be true. Raises `StoreError`: it goes on as it was."""
        with self._lock:
            if self.lost or self._put(self.fence, self._tag):
                return
            found = look_at_lease(self._store, self._key)
            ours = (self._holder, self.fence, False)
            if found is None or found.damage or (found.holder, found.fence, found.released) == ours:
                # an earlier renewal of ours, whose answer was lost; or an operator removed it, or somebody broke it
                if self._put(self.fence, found.tag if found is not None else None):
                    return
                found = look_at_lease(self._store, self._key)
            self._lost = str(found) if found is not None else "somebody else"
        log.error(
            "the lease of volume %s was taken over by %s: nothing that is written here can become its next version; "
            "it stays on local disk, and a commit makes a version that can be forked",
            self._volume, self._lost,
        )  # fmt: skip

    def check(self) -> int:
        """The fence to publish with. Raises `LeaseLostError`; `StoreError` if it lapsed and cannot be renewed now."""
        if not self.lost and self._clock() >= self._until:
            self.renew()
        if self.lost:
            raise self.taken_over()
        return self.fence

    def taken_over(self) -> LeaseLostError:
        """What to raise when somebody else has it, also if it is the ref that says so."""
        if not self.lost:
            with suppress(StoreError):
                self.renew()  # to learn who
        return LeaseLostError(
            f"volume {self._volume} is written to by {self._lost or 'somebody else'}, who took the lease over while "
            "this writer was paused or cut off from the store",
            hint="what was written is kept on local disk",
        )

    def release(self) -> None:
        """Let others have it at once. Raises `StoreError`: they will have to wait until it ends."""
        with self._lock:
            if self.lost or not self.fence or not self._put(self.fence, self._tag, released=True):
                return
            if self._note is not None and self._tag is not None:
                self._note.write(Released(self._tag, self.fence))

    def status(self) -> dict[str, Any]:
        """For people. ``left``: seconds until somebody else may take it, if it is not renewed."""
        left = max(0.0, self._until - self._clock())
        return {"fence": self.fence, "since": self._since, "left": round(left, 1), "lost_to": self._lost}

    def _look(self) -> Holding | None:
        """The lease; one that says what cannot be is nobody's."""
        found = look_at_lease(self._store, self._key)
        if found is None or found.fence <= MOST_AHEAD or found.fence - self._ref_fence() <= MOST_AHEAD:
            return found
        return nobodys(found.tag, found.data, f"{self._store.url}/{self._key} has the fence {found.fence}")

    def _next_fence(self, found: Holding | None) -> int:
        if found is not None and not found.damage:
            return found.fence + 1
        if self._fresh:
            return 1
        fence = self._ref_fence() + (LEAP if found is not None else 1)  # an operator may have removed the lease
        if fence > MAX_NUMBER:
            raise RecordDamagedError(
                f"the ref of volume {self._volume} has a fence that no writer can go beyond",
                hint="fork the volume, and write to the fork",
            )
        return fence

    def _ref_fence(self) -> int:
        ref = read_ref(self._store, self._ref_key)
        return ref.fence if ref is not None else 0

    def _is_over(self, found: Holding) -> bool:
        """Whether it is known without watching that it may be taken over. Raises `VolumeBusyError`: that it may not."""
        # A workspace has one process at a time: its lock on local disk is ours by now.
        if found.holder == self._holder or found.process.is_dead():
            return True
        if not found.process.is_here():
            return False
        left = found.until - self._clock()
        if left > found.seconds + _SLACK:  # further off than it was lent for: not believed
            return False
        if left > 0:
            raise self._busy(found)
        return True

    def _watched(self, held: Holding, tell: Tell, wait: Callable[[float], object]) -> Holding | None:
        """The lease once it may be taken. Raises `VolumeBusyError` when it is renewed."""
        log.info("volume %s is held by %s: watching whether its lease is renewed", self._volume, held)
        seen = self._clock()
        while True:
            left = seen + held.seconds - self._clock()
            tell({"phase": "lease", "holder": str(held), "left": max(0.0, left)})
            over = left <= 0  # before the look: it has to be unchanged after all that time
            found = self._look()
            if found is None or found.released:
                return found
            if found.data != held.data:
                raise self._busy(found)
            if over:
                return found
            wait(min(_LOOK, held.seconds / 10, left))

    def _busy(self, found: Holding) -> VolumeBusyError:
        return VolumeBusyError(
            f"volume {self._volume} is open for writing already, by {found}",
            hint=f"{_HINT}; the lease of a writer that died ends by itself after {found.seconds:.0f} s",
        )

    def _fence_ref(self) -> None:
        """Let nobody with a smaller fence move the ref from now on."""
        while True:
            self.ref = ref = read_known_ref(self._store, self._ref_key)
            if ref is None or ref.fence >= self.fence:
                return
            if move_ref(self._store, self._ref_key, ref.version, ref.writer, ref.tag, self.fence) is not None:
                return
            # the one before us was just about to publish: look again

    def _put(self, fence: int, tag: str | None, *, released: bool = False) -> bool:
        began = self._clock()
        self._count += 1
        now = datetime.now(timezone.utc)
        if fence != self.fence:
            self._since = _time(now, "seconds")
        new = self._store.replace(self._key, self._encoded(fence, began, now, released), tag)
        if new is None:
            return False
        self._tag, self.fence, self._until = new, fence, began + self.seconds
        return True

    def _encoded(self, fence: int, began: float, now: datetime, released: bool) -> bytes:
        body: dict[str, Any] = {
            "format": KIND.format,
            "format_version": KIND.version,
            "requires": [],
            "holder": self._holder,
            "fence": fence,
            "released": released,
            "milliseconds": round(self.seconds * 1000),
            "until": round((began + self.seconds) * 1000),
            "since": self._since,
            "written": _time(now, "microseconds"),
            "count": self._count,  # so no two states have the same bytes, also where a clock stands still
            "expires": _time(now + timedelta(seconds=self.seconds), "seconds"),
            "host": self._process.host,
            "pid": self._process.pid,
            "machine": self._process.machine,
            "started": self._process.started,
            "user": self._user[:_LONGEST_USER] if self._user is not None else None,
        }
        return encode(body)


class LeaseKeeper:
    """A thread that takes a lease, renews it, and releases it in the end."""

    def __init__(self, lease: Lease, tell: Tell) -> None:
        self.lease = lease
        self._tell = tell
        self._stop = threading.Event()
        self._answered = threading.Event()
        self._refused: BaseException | None = None
        self._owner = os.getpid()
        self._releases = True
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to take it, or to try again after a refusal. Idempotent."""
        if self._thread is None or (self._refused is not None and not self._thread.is_alive()):
            self._refused = None
            self._answered.clear()
            self._thread = threading.Thread(target=self._run, name="lease", daemon=True)
            self._thread.start()

    @property
    def begun(self) -> bool:
        """Whether it was ever asked for."""
        return self._thread is not None

    def wait(self) -> None:
        """Return when it is ours. Raises as `Lease.take`."""
        self._answered.wait()
        if self._refused is not None:
            raise self._refused

    def fence(self) -> int:
        """See `Lease.check`; takes the lease first, if that was not begun or was refused."""
        self.start()
        self.wait()
        return self.lease.check()

    def status(self) -> dict[str, Any] | None:
        """See `Lease.status`; None: not taken, or not yet."""
        return self.lease.status() if self._answered.is_set() and self._refused is None else None

    def close(self, seconds: float, *, release: bool = True) -> None:
        """Let go, and ``release`` it if that takes no longer than this. A forked child leaves it to its parent."""
        if self._thread is not None and os.getpid() == self._owner:
            self._releases = release
            self._stop.set()
            self._thread.join(seconds)

    def _run(self) -> None:
        try:
            self.lease.take(self._tell, self._pause)
        except BaseException as error:
            self._refused = error
            return
        finally:
            self._answered.set()
        while not self._stop.wait(self.lease.seconds / 3):
            try:
                self.lease.renew()
            except Exception as error:
                if not self._stop.is_set():  # else the store may be closed by now
                    log.warning("the lease could not be renewed, and is tried again: %s", error)
            if self.lease.lost:
                return
        if not self._releases:
            return
        try:
            self.lease.release()
        except Exception as error:
            log.info("the lease was not released, and ends by itself: %s", error)

    def _pause(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise VolumeBusyError("stopped while waiting for the lease", hint="mount again")


def _clock() -> float:
    """Seconds that also pass while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def _time(moment: datetime, precision: str) -> str:
    return moment.isoformat(timespec=precision).replace("+00:00", "Z")
