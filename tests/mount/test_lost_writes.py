"""What the kernel took and the workspace refused: no commit passes over it unless somebody was told."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyteplugins_vol.errors import CommitError, LostWritesError, StoreUnavailableError
from flyteplugins_vol.model import ROOT_INO, Caller
from flyteplugins_vol.mount.client import MountClient
from flyteplugins_vol.mount.lost_writes import LostWrites
from flyteplugins_vol.mount.operations import Operations
from flyteplugins_vol.mount.scheduler import Scheduler
from tests.mount.conftest import DRIVERS, Mount, committed
from tests.mount.memory_workspace import MemoryFetcher, MemoryWorkspace

RANGES = st.tuples(st.integers(0, 30), st.integers(1, 10)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@given(st.lists(st.tuples(st.booleans(), RANGES), max_size=30))
def test_the_ranges_are_those_that_were_lost_last(steps: list[tuple[bool, tuple[int, int]]]) -> None:
    lost, expected = LostWrites(lambda ino: f"/{ino}"), set[int]()
    for is_lost, (start, end) in steps:
        (lost.lost if is_lost else lost.written)(1, start, end)
        expected = expected | set(range(start, end)) if is_lost else expected - set(range(start, end))
    found = [place for start, end in lost.ranges.get(1, []) for place in range(start, end)]
    assert set(found) == expected
    assert bool(lost.ranges) == bool(expected)


@pytest.fixture
def operations() -> tuple[Operations, MemoryWorkspace, int]:
    workspace = MemoryWorkspace()
    made = Operations(workspace, MemoryFetcher(workspace), Scheduler(), error=lambda number: OSError(number, "refused"))
    return made, workspace, workspace.mknod(ROOT_INO, b"file", 0o100644, 0, Caller(0, 0)).ino


def at_once(request: Coroutine[Any, Any, Any]) -> Any:
    """The answer to a request that does not wait."""
    with pytest.raises(StopIteration) as ended:
        request.send(None)
    return ended.value.value


@pytest.mark.logs_warnings
def test_a_write_from_the_cache_that_is_taken_in_part_is_refused(
    operations: tuple[Operations, MemoryWorkspace, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, workspace, ino = operations
    write = workspace.write
    monkeypatch.setattr(workspace, "write", lambda ino, offset, data: write(ino, offset, data[:4]))
    assert made.write_now(ino, 0, b"12345678", False) == 4  # whoever waits for the answer looks at it
    with pytest.raises(OSError, match="refused") as caught:
        made.write_now(ino, 0, b"12345678", True)
    assert caught.value.errno == errno.ENOSPC
    assert made.losses.ranges == {ino: [(4, 8)]}


def test_what_was_lost_is_read_by_nobody_as_zeros_and_copied_by_the_kernel_alone(
    operations: tuple[Operations, MemoryWorkspace, int],
) -> None:
    made, workspace, ino = operations
    workspace.write(ino, 0, bytes(100))
    made.losses.lost(ino, 50, 200)
    assert at_once(made.read(ino, 0, 50)) == bytes(50)
    for request, number in ((made.read(ino, 0, 51), errno.EIO), (made.copy_range(ino, 0, 7, 0, 100), errno.EXDEV)):
        with pytest.raises(OSError, match="refused") as caught:
            request.send(None)
        assert caught.value.errno == number
    assert at_once(made.lseek(ino, 10, os.SEEK_HOLE)) == 200
    assert at_once(made.lseek(ino, 10, os.SEEK_DATA)) == 10


def test_so_many_ranges_are_one() -> None:
    lost = LostWrites(lambda ino: f"/{ino}")
    for number in range(5000):
        lost.lost(1, number * 10, number * 10 + 5)
        lost.lost(1, 0, 5)
    assert len(lost.ranges[1]) <= 1000
    assert min(lost.ranges[1])[0] == 0
    assert max(end for _, end in lost.ranges[1]) == 49995


def test_they_are_noted_for_the_next_mount(tmp_path: Path) -> None:
    path = tmp_path / "lost"
    lost = LostWrites(lambda ino: f"/{ino}")
    lost.note()
    lost.keep_in(str(path), resumed=False)
    lost.note()
    assert not path.exists()
    lost.lost(1, 0, 5)
    lost.lost(1, 5, 9)
    lost.note()
    before = os.stat(path)
    lost.note()
    assert os.stat(path).st_ino == before.st_ino  # nothing was to be written
    again = LostWrites(lambda ino: f"/{ino}")
    again.keep_in(str(path), resumed=True)
    assert again.ranges == lost.ranges == {1: [(0, 9)]}
    again.written(1, 0, 3)
    again.note()
    assert json.loads(path.read_text()) == {"lost": [[1, [[3, 9]]]]}
    again.forget(1)
    again.note()
    assert not path.exists()
    path.write_text('{"lost": [[1')
    again.keep_in(str(path), resumed=True)
    assert again.ranges == {}
    again.keep_in(str(path), resumed=False)
    assert not path.exists()


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def client(mount: Mount) -> MountClient:
    """A mount with a file of which the last half was refused."""
    client = mount()
    root = client.mount_path
    (root / "whole").write_bytes(b"a" * 8192)
    with open(root / "file", "wb", 0) as file:
        file.write(b"b" * 8192)
        os.fsync(file.fileno())
        (root / "full").touch()
        file.write(b"c" * 8192)  # into the kernel's cache: a success
        with pytest.raises(OSError, match="No space"):
            os.fsync(file.fileno())
    (root / "full").unlink()
    assert (root / "file").read_bytes() == b"b" * 8192 + b"c" * 8192  # what is told of nowhere else
    return client


@pytest.mark.fuse
def test_a_commit_names_what_is_not_whole_and_the_next_one_publishes_it(client: MountClient) -> None:
    with pytest.raises(LostWritesError, match="'/inode-3' is not as programs wrote it") as caught:
        client.commit()
    assert "commit once more" in caught.value.hint
    (client.mount_path / "full").touch()
    with pytest.raises(OSError, match="No space"):
        (client.mount_path / "another").write_bytes(b"x")
    with pytest.raises(LostWritesError, match=r"'/inode-[0-9]+' is"):  # nobody was told of this one
        client.commit()
    with pytest.raises(StoreUnavailableError):
        client.commit("fail late")
    with pytest.raises(OSError, match="No space"):
        (client.mount_path / "another").write_bytes(b"x")
    assert client.commit()["number"] == 1
    with pytest.raises(OSError, match="No space"):
        (client.mount_path / "another").write_bytes(b"x")
    with pytest.raises(LostWritesError, match=r"'/inode-[0-9]+' is"):  # another time is another matter
        client.commit()


def again(root: Path) -> None:
    (root / "file").write_bytes(b"d" * 20000)


def a_part(root: Path) -> None:
    with open(root / "file", "r+b", 0) as file:
        os.pwrite(file.fileno(), b"e" * 8192, 8192)


def another(root: Path) -> None:
    (root / "new").write_bytes(b"f")
    (root / "new").rename(root / "file")


def shorter(root: Path) -> None:
    os.truncate(root / "file", 8192)


@pytest.mark.fuse
@pytest.mark.parametrize("repair", [again, a_part, another, shorter, lambda root: (root / "file").unlink()])
def test_what_is_written_again_or_gone_is_no_matter(client: MountClient, repair: Callable[[Path], Any]) -> None:
    repair(client.mount_path)
    found = (client.mount_path / "file").read_bytes() if (client.mount_path / "file").exists() else None
    client.commit()
    tree = committed(client)["tree"]
    if found is None:
        assert "file" not in tree
    else:
        import base64

        assert base64.b64decode(tree["file"]) == found


@pytest.mark.fuse
def test_a_file_that_is_still_open_is_flushed_and_missed(mount: Mount) -> None:
    client = mount()
    (client.mount_path / "full").touch()
    fd = os.open(client.mount_path / "open", os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"dirty")
    with pytest.raises(CommitError, match=r"not as programs wrote it|could not be flushed"):
        client.commit()
    with pytest.raises(OSError, match="No space"):
        os.fsync(fd)
    os.close(fd)


@pytest.mark.fuse
def test_a_program_that_waits_for_the_answer_has_heard_it(mount: Mount) -> None:
    client = mount(writeback=False)
    (client.mount_path / "full").touch()
    with open(client.mount_path / "file", "wb", 0) as file, pytest.raises(OSError, match="No space"):
        file.write(b"x")
    assert client.commit()["number"] == 1


@pytest.mark.fuse
def test_autocommit_publishes_nothing_that_is_not_whole_and_does_not_count_as_told(mount: Mount) -> None:
    client = mount(autocommit=0.2)
    (client.mount_path / "full").touch()
    with pytest.raises(OSError, match="No space"):
        (client.mount_path / "file").write_bytes(b"x")
    before = client.status()["commits"]
    log = Path(client.spec.log_path or Path(client.spec.meta_dir, "daemon.log"))
    while "autocommit did not happen: lost-writes" not in log.read_text():
        pass
    assert client.status()["commits"] <= before + 1  # one may have been under way
    with pytest.raises(LostWritesError):
        client.commit()
    said = log.read_text().count("autocommit did not happen")
    (client.mount_path / "other").touch()
    while log.read_text().count("autocommit did not happen") < said + 2:  # also when somebody was told
        pass
    client.commit()
