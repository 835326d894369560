"""Open files of a file system: they tell it when they begin and end, whoever closes them, and in whatever thread."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Any, Protocol, cast

from flyteplugins_vol.history.closer import later
from flyteplugins_vol.io import RWVolume
from flyteplugins_vol.io.unfinished import UnfinishedFile

log = logging.getLogger(__name__)


class Owner(Protocol):
    """What a file tells its file system."""

    @property
    def turn(self) -> AbstractContextManager[Any]: ...
    def begin(self, file: Any) -> None: ...
    def end(self, file: Any) -> None: ...
    def written(self) -> None: ...


class NewFile(io.BufferedWriter):
    """A file that takes its name when it is closed, or when its transaction is complete."""

    _held = False  # whether the owner counts it as open: not yet if `__init__` fails

    def __init__(self, owner: Owner, volume: RWVolume, path: str, size: int, *, autocommit: bool) -> None:
        self._owner = owner
        self._autocommit = autocommit
        self.path = path
        self._settled = False
        self._file = UnfinishedFile(volume, path)
        super().__init__(self._file.raw, size)
        self._held = True
        owner.begin(self)

    def close(self) -> None:
        with self._owner.turn:
            if self._held:
                self._end()
                if self._autocommit:
                    self.commit()

    def __del__(self) -> None:  # in any thread, whatever locks that has, and whoever has the turn may wait for it
        if self._held:
            later(self.close)

    def commit(self) -> None:
        """Take the name; what is open yet ends here. Raises IsADirectoryError."""
        with self._owner.turn:
            if self._held:
                self._end()
            if self._settled:
                return
            try:
                self._file.finish()
            except BaseException:
                self.discard()
                raise
            self._settled = True
            self._owner.written()

    def discard(self) -> None:
        """Vanish."""
        with self._owner.turn:
            if self._held:
                self._held = False
                self._owner.end(self)
                with suppress(Exception):  # what does not reach it is not wanted
                    super().close()
            if not self._settled:
                self._settled = True
                self._file.drop()

    def _end(self) -> None:
        """Bring what is buffered into the file. What cannot be whole vanishes."""
        try:
            if self.closed:  # a collection of garbage has closed what is below it before this, and its buffer is gone
                log.error("%s was dropped while it was open, and is in no version: close files", self.path)
                self.discard()
            else:
                super().close()
        except BaseException:
            self.discard()
            raise
        finally:
            if self._held:
                self._held = False
                self._owner.end(self)


def changed_file(owner: Owner, file: Any, size: int) -> Any:
    """An open file that is changed in place: it tells its file system when it is closed."""
    kind = cast("type[Any]", type(file))
    held = True

    def end(self: Any) -> bool:
        nonlocal held
        if not held:
            return False
        held = False
        try:
            kind.close(self)
        finally:
            owner.end(self)
        return True

    def close(self: Any) -> None:
        with owner.turn:
            if end(self):
                owner.written()

    def discard(self: Any) -> None:  # with the handle: there is nothing of its own to undo
        with owner.turn:
            end(self)

    def drop(self: Any) -> None:
        if held:
            later(self.close)

    verbs = {"close": close, "commit": close, "discard": discard, "__del__": drop}
    made = type(f"Changed{kind.__name__}", (kind,), verbs)(file.detach(), size)
    owner.begin(made)
    return made


class ReadFile(io.BufferedReader):
    """A file that is read. ``size``, in bytes, is what fsspec's own helpers look for."""

    _closed: Callable[[], None] | None = None

    def __init__(self, file: Any, buffered: int, size: int, closed: Callable[[], None] | None) -> None:
        """``closed`` is called once, in another thread, since a finalizer may close it."""
        super().__init__(file.detach(), buffered)
        self.size = size
        self._closed = closed

    def close(self) -> None:
        try:
            super().close()
        finally:
            closed, self._closed = self._closed, None
            if closed is not None:
                later(closed)


def close_both(outer: Any, inner: Any) -> Any:
    """The end of what compresses is also that of the file which it compresses to, as most do not see to it."""
    close_outer = outer.close

    def close() -> None:
        try:
            close_outer()
        finally:
            inner.close()

    with suppress(AttributeError):  # those without attributes of their own do
        outer.close = close
    return outer
