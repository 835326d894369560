"""What may not be replaced, found before the first file of a batch comes in: then none of them does."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from flyteplugins_vol.io.tree import FileTree, Found, Node, as_bytes, error_at, find, join, lookup


def check_free(place: Found, force: bool) -> None:
    """Raise IsADirectoryError or FileExistsError unless a file may be made at the place."""
    if place.node is not None and place.node.is_dir:
        raise error_at(errno.EISDIR, place.path)
    if place.node is not None and not force:
        raise error_at(errno.EEXIST, place.path)


class Conflicts:
    """Looks at the volume only where it has what a batch has as well: nothing below a directory that is new."""

    def __init__(self, tree: FileTree, *, force: bool) -> None:
        self._tree = tree
        self._force = force
        self._directories: dict[str, Node | None] = {}
        self._files: set[str] = set()

    def check_file(self, path: str) -> None:
        """Raise what stands in the way of a file, also another one of this batch."""
        if path in self._files and not self._force:
            raise error_at(errno.EEXIST, path)
        self._files.add(path)
        above, _, name = path.rpartition("/")
        directory = self._directory(above)
        if directory is not None:
            self._check(directory, as_bytes(name), path)

    def check_directory(self, source: Path, path: str) -> None:
        """Raise what stands in the way of all that is in a local directory."""
        todo = [(str(source), path)]
        while todo:
            source_path, path = todo.pop()
            directory = self._directory(path)
            if directory is None:
                continue
            with os.scandir(source_path) as entries:
                for entry in entries:
                    there = join(path, os.fsencode(entry.name))
                    if entry.is_dir(follow_symlinks=False):
                        todo.append((entry.path, there))
                    elif entry.is_symlink() or entry.is_file():
                        self._check(directory, os.fsencode(entry.name), there)

    def _check(self, directory: Node, name: bytes, path: str) -> None:
        check_free(Found(directory, name, lookup(self._tree, directory, name, path), path), self._force)

    def _directory(self, path: str) -> Node | None:
        """The directory; None if there is nothing of the name. Raises NotADirectoryError."""
        if path not in self._directories:
            try:
                node = find(self._tree, path or "/").node
            except FileNotFoundError:
                node = None
            if node is not None and not node.is_dir:
                raise error_at(errno.ENOTDIR, path)
            self._directories[path] = node
        return self._directories[path]
