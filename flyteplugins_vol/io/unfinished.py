"""A file that is written over some time and has its name when it is whole: what `make_file` is for bytes at hand."""

from __future__ import annotations

import io
import os
from contextlib import ExitStack

from flyteplugins_vol.io.transfer import check_free, give_name
from flyteplugins_vol.io.tree import find
from flyteplugins_vol.io.volume import RWVolume


class UnfinishedFile:
    """``raw`` takes the bytes; when it is closed, `finish` or `drop` ends it. Symlinks at the path are followed.

    A commit meanwhile does not have it; one of a mount has a file named ``.flytevol-…``. Raises OSError, `VolumeError`.
    """

    def __init__(self, volume: RWVolume, path: str) -> None:
        self._tree = tree = volume._writing()  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001
        self._path = path
        self._held = ExitStack()
        place = find(tree, path)
        check_free(place, force=True)
        self._mode = 0o644 if place.node is None else place.node.mode & 0o1777
        self._node = self._held.enter_context(tree.unnamed(place.directory, 0o600))
        try:
            self.raw: io.RawIOBase = tree.open(self._node, os.O_WRONLY)
        except BaseException:
            self.drop()
            raise

    def finish(self) -> None:
        """Give it its name, which another file loses; it has that one's mode. After an error, `drop` it."""
        place = find(self._tree, self._path)
        check_free(place, force=True)
        self._tree.set_attributes(self._node, mode=self._mode, mtime=None)
        give_name(self._tree, self._node, place, force=True)
        self.drop()

    def drop(self) -> None:
        """Let go of it: what has no name by now is gone."""
        self._held.close()
