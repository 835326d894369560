"""Requests of the kernel for each thing that programs do: a number that does not depend on the machine.

The mount is a default one, where only root can come in; one with `default_permissions` (of an ordinary user, or with
``allow_other``) reads a directory's attributes again after each change of it, which is one GETATTR more for a create.

With its writeback cache the kernel owns the times of regular files, and sends each change of ctime by unlink, rename or
link as a SETATTR at once; without it, there is none.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flyteplugins_vol.io import RWVolume
from tests.posix.conftest import mounted_volume

pytestmark = [
    pytest.mark.fuse,
    pytest.mark.skipif(os.geteuid() != 0, reason="the counts are those of root's mounts"),
]

N = 50
BACKGROUND = {"forget", "statfs", "flush"}  # FLUSH is refused once; forgets come when the kernel likes


# --- what is counted: each does `N` times what its name says -------------------------------------------------------


def create(root: Path) -> None:
    for number in range(N):
        _write(root / f"{number}", os.O_EXCL)


def read_again(root: Path) -> None:
    for number in range(N):
        fd = os.open(root / f"{number}", os.O_RDONLY)
        assert os.read(fd, 100) == b"small"
        os.close(fd)


def stat_after_listing(root: Path) -> None:
    for number in range(N):
        (root / f"{number}").stat()


def look_for_what_is_absent(root: Path) -> None:
    for _ in range(N):
        assert not (root / "absent").exists()


def remove_tree(root: Path) -> None:
    shutil.rmtree(root / "tree")


def write_and_rename(root: Path) -> None:
    for _ in range(N):
        _write(root / "new")
        (root / "new").rename(root / "name")


def _write(path: Path, flags: int = 0) -> None:
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | flags)
    os.write(fd, b"small")
    os.close(fd)


def _nothing(root: Path) -> None:
    return


def _files(root: Path) -> None:
    create(root)
    read_again(root)
    os.listdir(root)


def _tree(root: Path) -> None:
    (root / "tree").mkdir()
    create(root / "tree")


PREPARED: dict[Callable[[Path], None], Callable[[Path], None]] = {
    create: _nothing,
    read_again: _files,
    stat_after_listing: _files,
    look_for_what_is_absent: look_for_what_is_absent,
    remove_tree: _tree,
    write_and_rename: _nothing,
}

# --- how many ------------------------------------------------------------------------------------------------------

DEFAULT: dict[str, Any] = {}
WITHOUT_WRITEBACK = {"writeback": False}
FOR_ALL = {"allow_other": True}

# The wire driver is asked neither to open nor to create in one go, and is told of no close: see its module.
WIRE = {"lookup": 1, "mknod": 1, "write": 1}
PYFUSE3 = {"lookup": 1, "create": 1, "write": 1, "release": 1}
TIMES = {"setattr": 1}
# A rename asks for its target each time; three SETATTRs: after the close, and both files' ctime at the rename.
RENAME = {"lookup": 2, "rename": 1, "setattr": 3}
READ = {"open": 1, "release": 1}
PASSED = {"lookup": 1, "create": 1, "release": 1}  # no write: the kernel does it by itself

# (options of the mount, what is done, requests for each over the drivers wire and pyfuse3)
REQUESTS: list[tuple[dict[str, Any], Callable[[Path], None], dict[str, int], dict[str, int]]] = [
    (DEFAULT, create, {**WIRE, **TIMES}, {**PYFUSE3, **TIMES}),
    (FOR_ALL, create, {**WIRE, **TIMES, "getattr": 1}, {**PYFUSE3, **TIMES, "getattr": 1}),
    (WITHOUT_WRITEBACK, create, WIRE, PYFUSE3),
    (DEFAULT, read_again, {}, READ),
    (DEFAULT, stat_after_listing, {}, {}),
    (DEFAULT, look_for_what_is_absent, {}, {}),
    (DEFAULT, remove_tree, {"unlink": 1, "setattr": 1}, {"unlink": 1, "setattr": 1}),
    (WITHOUT_WRITEBACK, remove_tree, {"unlink": 1}, {"unlink": 1}),
    (DEFAULT, write_and_rename, {**WIRE, **RENAME}, {**PYFUSE3, **RENAME}),
]

PASSTHROUGH: list[tuple[Callable[[Path], None], dict[str, int]]] = [
    (create, PASSED),
    (read_again, READ),
    (stat_after_listing, {}),
    (look_for_what_is_absent, {}),
    (remove_tree, {"unlink": 1}),
    (write_and_rename, {**PASSED, "lookup": 2, "rename": 1}),
]


@pytest.mark.parametrize("options", [DEFAULT, WITHOUT_WRITEBACK, FOR_ALL], ids=str)
def test_requests(driver: str, options: dict[str, Any]) -> None:
    rows = [(act, wire if driver == "wire" else pyfuse3) for of, act, wire, pyfuse3 in REQUESTS if of == options]
    if driver == "passthrough":
        rows = PASSTHROUGH if options == DEFAULT else []
    with mounted_volume(driver, **options) as (volume, root):
        (root / "warm").write_text("x")  # what a mount asks only once
        (root / "warm").read_text()
        (root / "warm").unlink()
        found = {act.__name__: _counted(volume, act, root / act.__name__) for act, _ in rows}
    assert found == {act.__name__: expected for act, expected in rows}


def _counted(volume: RWVolume, act: Callable[[Path], None], root: Path) -> dict[str, float]:
    """Of what ``act`` does `N` times in a new directory: requests for each."""
    root.mkdir()
    PREPARED[act](root)
    before = Counter(volume.status()["requests"])
    act(root)
    after = Counter(volume.status()["requests"])
    found = {kind: round(count / N, 1) for kind, count in (after - before).items() if kind not in BACKGROUND}
    return {kind: count for kind, count in found.items() if count >= 0.1}
