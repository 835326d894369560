"""Walking through the directories of a volume."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

from flyteplugins_vol.io.tree import PathLike, as_text, error_at, find, normal, text_of

if TYPE_CHECKING:
    from flyteplugins_vol.io.reading import ReadFiles


class Walk:
    """See `ReadFiles.walk`."""

    def __init__(self, volume: ReadFiles, path: PathLike) -> None:
        self._volume = volume
        self._path = path

    def __iter__(self) -> Iterator[tuple[str, list[str], list[str]]]:
        tree = self._volume._reading()  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001
        found = find(tree, self._path)
        node = found.existing()
        if not node.is_dir:
            raise error_at(errno.ENOTDIR, as_text(self._path))
        todo = [(normal(self._path), node)]
        while todo:
            where, directory = todo.pop()
            children = dict(tree.scan(directory))
            directories = [text_of(name) for name, child in children.items() if child.is_dir]
            nodes = {text_of(name): child for name, child in children.items() if child.is_dir}
            yield where, directories, [text_of(name) for name, child in children.items() if not child.is_dir]
            todo.extend((f"{where.rstrip('/')}/{name}", nodes[name]) for name in reversed(directories) if name in nodes)

    async def __aiter__(self) -> AsyncIterator[tuple[str, list[str], list[str]]]:
        steps = iter(self)
        while (step := await asyncio.to_thread(next, steps, None)) is not None:
            yield step
