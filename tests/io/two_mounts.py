"""Two mounts of one volume: a writer's, and a reader's that is shown what the writer publishes."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flyteplugins_vol.io import ROVolume, RWVolume, Volume

if TYPE_CHECKING:
    from tests.io.conftest import World


class Pair:
    """A writer's mount and, from `look` on, a reader's mount of the same volume."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.writer: RWVolume = world.new()
        self.w: Path = self.writer.mount.sync(world.path("w"))
        self.reader: ROVolume
        self.r: Path

    def look(self, **options: Any) -> Path:
        self.reader = self.world.load(self.publish().locator)
        self.options = {"cache_dir": self.world.path("cache-r"), **options}  # what the writer has there is not here
        self.r = self.reader.mount.sync(self.world.path("r"), **self.options)
        return self.r

    def publish(self) -> ROVolume:
        return self.writer.commit.sync()

    def step(self) -> None:
        """Publish, and have the reader show it."""
        version = self.publish()
        assert self.reader.refresh.sync()
        assert self.reader.locator == version.locator

    def is_tidy(self) -> bool:
        """Whether nobody needs a former version any more; a refresh to what is shown has the kernel asked for that."""
        self.reader.refresh.sync(self.reader.locator)
        return self.reader.status()["former_versions"] == 0

    def requests(self, work: Callable[[], object]) -> dict[str, int]:
        """What the kernel asked the reader's daemon for while this ran."""
        self.reader.status()
        before = self.reader.status()["requests"]
        work()
        after = self.reader.status()["requests"]
        return {kind: count - before.get(kind, 0) for kind, count in after.items() if count != before.get(kind, 0)}


def tree(root: Path, *, times: bool = False) -> dict[str, tuple[Any, ...]]:
    """What programs see of what is below a directory. ``times``: those too, which the writer's kernel has otherwise."""
    found: dict[str, tuple[Any, ...]] = {}
    for directory, names, files in os.walk(root):
        for name in ["." if directory == str(root) else "", *names, *files]:
            path = Path(directory, name)
            if not name:
                continue
            facts = path.lstat()
            content: Any = None
            if stat.S_ISREG(facts.st_mode):
                content = path.read_bytes()
            elif stat.S_ISLNK(facts.st_mode):
                content = path.readlink()
            found[str(path.relative_to(root))] = (
                facts.st_ino, facts.st_mode, facts.st_nlink, facts.st_size,
                *((facts.st_mtime_ns, facts.st_ctime_ns) if times else ()), content,
            )  # fmt: skip
    return found


def is_over(volume: Volume) -> bool:
    return volume.mount_path is None
