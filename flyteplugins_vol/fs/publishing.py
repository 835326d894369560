"""The handle behind a file system: whose turn it is to change something, and when what was written is published.

Knows no paths; `filesystem` says fsspec's methods in those of the handle.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# fsspec says little about the types of its arguments.

from __future__ import annotations

import atexit
import errno
import functools
import logging
import os
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from fsspec.spec import AbstractFileSystem  # pyright: ignore[reportMissingTypeStubs]
from fsspec.transaction import Transaction  # pyright: ignore[reportMissingTypeStubs]

from flyteplugins_vol.errors import HandleClosedError
from flyteplugins_vol.fs.writing import ReadFile
from flyteplugins_vol.history.closer import later
from flyteplugins_vol.io import ROVolume, RWVolume, StoreOptions, Volume

log = logging.getLogger(__name__)

_MOMENT = 0.5  # seconds
_LAST_SECONDS = 10.0  # for which the end of a process waits for a thread that publishes

T = TypeVar("T")
P = ParamSpec("P")
F = TypeVar("F", bound="Publishing")


def in_turn(change: Callable[Concatenate[F, P], T]) -> Callable[Concatenate[F, P], T]:
    """One change at a time, of whatever thread: what publishes closes the handle, and with it what others wrote."""

    @functools.wraps(change)
    def wait(self: F, /, *args: P.args, **options: P.kwargs) -> T:
        with self.turn:
            return change(self, *args, **options)

    return wait


class _OneVersion(Transaction):
    """All that is written in a transaction is one version."""

    _begun = False

    def start(self) -> None:
        fs = cast("Publishing", self.fs)
        with fs.turn:
            fs.transactions += not self._begun
            self._begun = True
        super().start()

    def complete(self, commit: bool = True) -> None:
        fs = cast("Publishing", self.fs)
        with fs.turn:
            try:
                with fs.held_back():
                    super().complete(commit)
            finally:
                fs.transactions -= self._begun
                self._begun = False
            if commit or fs.others_wrote:  # what other threads were told was written is not dropped with it
                fs.written()
            else:
                fs.drop()


class _Turn:
    """A lock for the thread that has it to take again; ``ended`` is called when it is about to be given back."""

    def __init__(self, ended: Callable[[], None]) -> None:
        self._lock = threading.RLock()
        self._depth = 0
        self._ended = ended

    def __enter__(self) -> None:
        self._lock.acquire()
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        try:
            if self._depth == 1:
                self._ended()
        finally:
            self._depth -= 1
            self._lock.release()

    def taken_within(self, seconds: float) -> bool:
        """Enter if it is free within so many seconds; whether it was."""
        taken = self._lock.acquire(timeout=seconds)
        self._depth += taken
        return taken


class Publishing(AbstractFileSystem):
    """One volume, or a handle of it; `VolumeFileSystem` says what the arguments mean.

    Each thread has a transaction of its own. ``turn`` is held for every change.
    """

    transaction_type = _OneVersion

    def __init__(
        self, volume: str | Volume, *, store: str | None, store_options: StoreOptions | None,
        publish: bool | None, create: bool, message: str | None, **options: Any,
    ) -> None:  # fmt: skip
        self._of_thread = threading.local()
        super().__init__(**options)
        self._given = volume
        self._store = store
        self._store_options = store_options
        self._create = create
        self._message = message
        self._publishes = isinstance(volume, str) if publish is None else publish
        self._held_back = 0
        self.transactions = 0  # of all threads
        self.others_wrote = False  # while one of another thread was under way
        self._written = False  # through the handle: it holds the volume against other writers
        self.turn = _Turn(self._rest)
        _ALL[id(self)] = self  # its own hash is fsspec's
        self.open_files = 0
        self._unfinished: weakref.WeakSet[Any] = weakref.WeakSet()  # they
        self._readers: Counter[int] = Counter()  # files being read, by the id of a handle that was written through
        self._reading = threading.Lock()  # held for moments only
        self._opened: Volume | None = volume if isinstance(volume, Volume) else None

    # fsspec's own, each thread's for itself

    @property
    def _intrans(self) -> bool:
        return getattr(self._of_thread, "intrans", False)

    @_intrans.setter
    def _intrans(self, value: bool) -> None:
        self._of_thread.intrans = value

    @property
    def _transaction(self) -> Any:
        return getattr(self._of_thread, "transaction", None)

    @_transaction.setter
    def _transaction(self, value: Any) -> None:
        self._of_thread.transaction = value

    def start_transaction(self) -> Any:
        """As entering ``transaction``; fsspec's own does not begin it."""
        transaction = super().start_transaction()
        transaction.start()
        return transaction

    @property
    def volume(self) -> Volume:
        """The handle behind it."""
        with self.turn:
            if self._opened is None:
                self._opened = self._open_volume(str(self._given))
            return self._opened

    def _open_volume(self, address: str) -> Volume:
        if address.endswith(".json") or "://" in address:
            return Volume.from_locator.sync(address, store_options=self._store_options)
        if "@" in address:
            return Volume.find.sync(address, self._store, store_options=self._store_options)
        return Volume.from_name.sync(
            address, self._store, create_if_missing=self._create, store_options=self._store_options
        )

    def look(self, ask: Callable[[Volume], T]) -> T:
        """What the handle says. Another thread may let go of it meanwhile: then what the next one says."""
        while True:
            volume = self._opened or self.volume  # without waiting for whoever publishes
            try:
                return ask(volume)
            except HandleClosedError:
                if volume is self.volume:
                    raise

    def open_to_read(self, inside: str, size: int) -> Any:
        """An open file. The handle is not let go of before it is closed, even if another file is published first."""
        with self._reading:
            volume = self._opened if self._written and self._publishes else None
            if volume is not None:
                self._readers[id(volume)] += 1
        if volume is None:
            return self.look(lambda volume: _reader(volume, inside, size, None))
        try:
            return _reader(volume, inside, size, functools.partial(self._read, volume))
        except BaseException:
            self._read(volume)
            raise

    def _read(self, volume: Volume) -> None:
        """A file that was read in this handle is closed."""
        with self._reading:
            self._readers[id(volume)] -= 1
            if self._readers[id(volume)]:
                return
            del self._readers[id(volume)]
        # At the end of a turn the handle is let go of, if nothing else wants it: of this one, or of whoever has it now,
        # who may wait for this thread, which has others to close as well.
        if self.turn.taken_within(_MOMENT):
            self.turn.__exit__()

    @in_turn
    def commit(self, message: str | None = None) -> ROVolume | None:
        """Publish what was written as a version; None if nothing was."""
        volume = self.writable()
        if volume.mount_path is None and not volume.has_changes:
            return None
        return volume.commit.sync(message if message is not None else self._message)

    @contextmanager
    def one_version(self) -> Generator[None, None, None]:
        """What is written inside is published once, after it; what a body wrote that raises, goes with what follows."""
        with self.turn:
            with self.held_back():
                yield
            self.written()

    @contextmanager
    def held_back(self) -> Generator[None, None, None]:
        """Nothing is published inside."""
        with self.turn:
            self._held_back += 1
            try:
                yield
            finally:
                self._held_back -= 1

    @in_turn
    def written(self) -> None:
        """Something was changed: publish it, unless more is to come."""
        if self.transactions and not self._intrans:
            self.others_wrote = True
        if self._written and self._publishes and not (self._held_back or self.transactions or self.open_files):
            self.commit()
            self.others_wrote = False
            self._let_go()

    @in_turn
    def drop(self) -> None:
        """What was written and is in no version is gone, if this file system publishes by itself."""
        if self._publishes and not (self.open_files or self.transactions):
            self._let_go(wanted=False)
        elif self._publishes and self._has_changes:
            log.warning("a transaction is dropped while other threads write: what it removed or made stays so")

    @in_turn
    def writable(self) -> RWVolume:
        """The handle, to write, for as long as the turn lasts.

        One of a name that publishes by itself begins at the newest version.
        """
        if self._publishes and not self.open_files and not self._has_changes:
            self._let_go()
        volume = self.volume
        if not isinstance(volume, RWVolume):
            raise OSError(errno.EROFS, "a version is read-only: fork it, or name the volume, to write")
        self._written = True
        return volume

    def begin(self, file: Any) -> None:
        """A file is open for writing."""
        self.open_files += 1
        self._unfinished.add(file)

    def end(self, file: Any) -> None:
        """It is not any more."""
        self.open_files -= 1
        self._unfinished.discard(file)

    def finish(self) -> None:
        """The process ends: what was answered with success is published, and what was not closed is in no version."""
        if not self.turn.taken_within(_LAST_SECONDS):
            log.error("what was written to volume %s last may be in no version: a thread still publishes", self._given)
            return
        try:
            for file in list(self._unfinished):
                log.warning("%s was not closed, and is in no version", getattr(file, "path", "a file"))
                file.discard()
            if self._has_changes and self._publishes and (self.others_wrote or not self.transactions):
                self.commit()
        finally:
            self.turn.__exit__()

    def _rest(self) -> None:
        """A turn ends: a handle that was written through, and holds nothing, is kept for nobody."""
        busy = self.transactions or self.open_files or self._held_back
        if self._publishes and self._written and not busy and not self._has_changes:
            try:
                self._let_go()
            except Exception:
                log.exception("volume %s could not be closed", self._given)

    def begin_afresh(self) -> None:
        """In a forked child: the thread that had the turn is not there any more, and the session is the parent's."""
        self.turn, self._reading = _Turn(self._rest), threading.Lock()
        self._of_thread = threading.local()
        if isinstance(self._given, str):
            self._opened, self._written, self.open_files = None, False, 0
            self._readers, self._unfinished = Counter(), weakref.WeakSet()
            self._held_back, self.transactions, self.others_wrote = 0, 0, False

    @property
    def _has_changes(self) -> bool:
        return getattr(self._opened, "has_changes", False)

    def _let_go(self, *, wanted: bool = True) -> None:
        """Forget the handle that was opened by a name; files that are open in one that was only read stay so.

        One that was written through is closed, unless somebody still reads what it has just published: then it stays
        for what comes next, since nobody else can have written meanwhile. Not ``wanted``: what is in it is to vanish.
        """
        with self._reading:
            volume = self._opened
            if volume is None or not isinstance(self._given, str) or (wanted and self._readers[id(volume)]):
                return
            written, self._opened, self._written = self._written, None, False
        if written:
            volume.close.sync()


_ALL: weakref.WeakValueDictionary[int, Publishing] = weakref.WeakValueDictionary()


def _begin_afresh() -> None:
    for fs in list(_ALL.values()):
        fs.begin_afresh()


@atexit.register  # after that of `io`, and so called before it
def _finish() -> None:
    if any(fs.open_files for fs in list(_ALL.values())):
        finalized = threading.Event()
        later(finalized.set)  # files whose finalizer has closed them are on their way
        finalized.wait(_LAST_SECONDS)
    for fs in list(_ALL.values()):
        try:
            fs.finish()
        except Exception:
            log.exception("what was written to a volume last is in no version")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_afresh)


def _reader(volume: Volume, inside: str, size: int, closed: Callable[[], None] | None) -> ReadFile:
    return ReadFile(volume.open.sync(inside, "rb", buffering=size), size, volume.stat.sync(inside).size, closed)
