"""Files that tell their file system when they are done."""

from __future__ import annotations

import errno
import io
import os
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol, cast

from flyteplugins_vol.history.unmounted import later
from flyteplugins_vol.io import RWVolume


class Owner(Protocol):
    """What a file tells its file system."""

    open_files: int

    @property
    def turn(self) -> AbstractContextManager[Any]: ...
    def written(self) -> None: ...


class NewFile(io.BufferedWriter):
    """A file that takes its name when it is closed, or when its transaction is complete."""

    def __init__(self, owner: Owner, volume: RWVolume, path: str, size: int, *, autocommit: bool) -> None:
        if volume.exists.sync(path) and volume.stat.sync(path).is_dir:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        self._owner = owner
        self._volume = volume
        self._autocommit = autocommit
        self.path = path
        self._temporary = f"{path.rpartition('/')[0]}/.flytevol-{uuid.uuid4().hex[:12]}"
        self._settled = False
        raw: Any = cast("io.BufferedWriter", volume.open.sync(self._temporary, "xb")).detach()
        super().__init__(raw, size)
        owner.open_files += 1

    def close(self) -> None:
        if self.closed:
            return
        with self._owner.turn:
            try:
                super().close()
            except BaseException:
                self.discard()
                raise
            finally:
                self._owner.open_files -= 1
            if self._autocommit:
                self.commit()

    def __del__(self) -> None:  # in any thread, whatever locks that has, and whoever has the turn may wait for it
        if not self.closed:
            later(self.close)

    def commit(self) -> None:
        """Take the name."""
        if self._settled:
            return
        self._settled = True
        with self._owner.turn:
            self._volume.rename.sync(self._temporary, self.path, force=True)
            self._owner.written()

    def discard(self) -> None:
        """Vanish."""
        if not self._settled:
            self._settled = True
            self._volume.remove.sync(self._temporary)


def changed_file(owner: Owner, file: Any) -> Any:
    """An open file that is changed in place: it tells its file system when it is closed."""
    kind = cast("type[Any]", type(file))

    def close(self: Any) -> None:
        if self.closed:
            return
        with owner.turn:
            try:
                kind.close(self)
            finally:
                owner.open_files -= 1
            owner.written()

    made = type(f"Changed{kind.__name__}", (kind,), {"close": close})(file.detach())
    owner.open_files += 1
    return made


def read_file(file: Any, closed: Callable[[], None]) -> Any:
    """An open file that is read: it says once that it is closed, in another thread, as a finalizer may close it."""
    kind = cast("type[Any]", type(file))

    def close(self: Any) -> None:
        if not self.closed:
            kind.close(self)
            later(closed)

    return type(f"Read{kind.__name__}", (kind,), {"close": close})(file.detach())
