"""Requests of the kernel for each thing that programs do: a number that does not depend on the machine.

The mount is a default one, where only root can come in; an ordinary user's (`default_permissions`) reads a directory's
attributes again after each change of it, which is one GETATTR more for a create.

With its writeback cache the kernel owns the times of regular files, and sends each change of ctime by unlink, rename or
link as a SETATTR at once; without it, there is none.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from flyteplugins_vol.io import RWVolume
from tests.posix.conftest import mounted_volume

pytestmark = [
    pytest.mark.fuse,
    pytest.mark.skipif(os.geteuid() != 0, reason="the counts are those of root's mounts"),
]

N = 50
BACKGROUND = {"forget", "statfs", "flush"}  # FLUSH is refused once; forgets come when the kernel likes


class Counted:
    def __init__(self, volume: RWVolume, root: Path) -> None:
        self._volume, self.root = volume, root
        (root / "warm").write_text("x")  # what a mount asks only once
        (root / "warm").read_text()
        (root / "warm").unlink()

    def requests(self, act: Callable[[], object]) -> dict[str, float]:
        """Of what ``act`` does ``N`` times: requests for each."""
        before = Counter(self._volume.status()["requests"])
        act()
        after = Counter(self._volume.status()["requests"])
        found = {kind: count / N for kind, count in (after - before).items() if kind not in BACKGROUND}
        return {kind: round(count, 1) for kind, count in found.items() if count >= 0.1}


@pytest.fixture
def counted(volume: tuple[RWVolume, Path]) -> Counted:
    return Counted(*volume)


def _create(root: Path) -> None:
    for number in range(N):
        fd = os.open(root / f"{number}", os.O_CREAT | os.O_WRONLY | os.O_EXCL)
        os.write(fd, b"small")
        os.close(fd)


def _read(root: Path) -> None:
    for number in range(N):
        fd = os.open(root / f"{number}", os.O_RDONLY)
        assert os.read(fd, 100) == b"small"
        os.close(fd)


def test_create_write_close(counted: Counted) -> None:
    found = counted.requests(lambda: _create(counted.root))
    assert found == {"lookup": 1, "create": 1, "write": 1, "setattr": 1, "release": 1}


def test_open_and_read_what_is_cached(counted: Counted) -> None:
    _create(counted.root)
    _read(counted.root)
    assert counted.requests(lambda: _read(counted.root)) == {"open": 1, "release": 1}


def test_stat_after_a_listing(counted: Counted) -> None:
    _create(counted.root)
    os.listdir(counted.root)
    assert counted.requests(lambda: [(counted.root / f"{number}").stat() for number in range(N)]) == {}


def test_an_absent_name_again(counted: Counted) -> None:
    (counted.root / "absent").exists()
    assert counted.requests(lambda: [(counted.root / "absent").exists() for _ in range(N)]) == {}


def test_remove_a_tree(counted: Counted) -> None:
    (counted.root / "tree").mkdir()
    _create(counted.root / "tree")
    assert counted.requests(lambda: shutil.rmtree(counted.root / "tree")) == {"unlink": 1, "setattr": 1}


def test_remove_a_tree_without_writeback() -> None:
    with mounted_volume(writeback=False) as (vol, root):
        counted = Counted(vol, root)
        (root / "tree").mkdir()
        _create(root / "tree")
        assert counted.requests(lambda: shutil.rmtree(root / "tree")) == {"unlink": 1}


def test_write_and_rename(counted: Counted) -> None:
    def replace() -> None:
        for _ in range(N):
            (counted.root / "new").write_text("x")
            (counted.root / "new").rename(counted.root / "name")

    # A rename asks for its target each time; three SETATTRs: after the close, and both files' ctime at the rename.
    found = counted.requests(replace)
    assert found == {"lookup": 2, "create": 1, "write": 1, "release": 1, "rename": 1, "setattr": 3}
