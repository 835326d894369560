"""Many files into a volume at once."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from flyteplugins_vol.errors import UsageError
from flyteplugins_vol.human import kind
from flyteplugins_vol.io.dual import dual
from flyteplugins_vol.io.transfer import Progress, Put, Upload
from flyteplugins_vol.io.tree import PathLike, as_text, error_at, normal


class BatchUpload:
    """See `WriteFiles.batch_upload`."""

    def __init__(self, volume: Any, force: bool, progress: Progress) -> None:
        self._volume = volume
        self._force = force
        self._progress = progress
        self._puts: list[Put] = []

    def put_file(self, source: str | os.PathLike[str] | BinaryIO, path: PathLike, *, mode: int | None = None) -> None:
        """A local file, or what is left in a binary file object, to a path in the volume.

        A path that ends with a slash is a directory, which gets it under its own name. ``mode``: permissions, by
        default those of the local file; of a file object, those of the file that it replaces, else 0644. Raises
        FileNotFoundError at once if there is no such local file.
        """
        text = as_text(path)
        if isinstance(source, (str, os.PathLike)):
            source = Path(source)
            if source.is_dir():
                raise error_at(errno.EISDIR, str(source))
            if not source.exists():
                raise error_at(errno.ENOENT, str(source))
            if not source.is_file():  # to open a fifo is to wait for whoever writes to it
                raise OSError(errno.EINVAL, f"is a {kind(source.stat().st_mode)}: give an open file", str(source))
            if text.endswith("/"):
                text += source.name
        if normal(text) == "/" or text.endswith("/"):
            raise UsageError(f"{text!r} names no file", hint="give the path that the file is to have")
        self._puts.append(Put(source, normal(text), mode))

    def put_directory(self, source: str | os.PathLike[str], path: PathLike) -> None:
        """All that is in a local directory to a directory of the volume, which is made if it is missing."""
        source = Path(source)
        if not source.is_dir():
            raise error_at(errno.ENOTDIR if source.exists() else errno.ENOENT, str(source))
        self._puts.append(Put(source, normal(path)))

    @dual
    def upload(self: Any) -> None:
        """Bring in all that was put so far. Blocks; the end of the ``with`` block does it.

        Raises FileExistsError, IsADirectoryError or NotADirectoryError for what is there already before the first one
        comes in.
        """
        puts, self._puts = self._puts, []
        job = Upload(self._volume._writing(), force=self._force, progress=self._progress)  # noqa: SLF001
        job.check(puts)
        for put in puts:
            job.put(put)

    def __enter__(self) -> BatchUpload:
        return self

    async def __aenter__(self) -> BatchUpload:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.upload.sync()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            await self.upload()
