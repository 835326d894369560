"""What the kernel knows inodes by after refreshes, and which version answers for what."""

from __future__ import annotations

import errno
from array import array
from types import SimpleNamespace
from typing import Any

import pytest

from flyteplugins_vol.model import ROOT_INO, Caller
from flyteplugins_vol.mount.refresh_nodes import NUMBER, Nodes, Numbers
from flyteplugins_vol.mount.refresh_notices import announce, known
from flyteplugins_vol.mount.refresh_workspace import RefreshedWorkspace
from flyteplugins_vol.mount.wire_barrier import FIRST
from flyteplugins_vol.mount.wire_protocol import Notify
from tests.mount.memory_workspace import MemoryWorkspace

ME = Caller(0, 0)
GONE: dict[str, Any] = {"files": [], "directories": [], "gone": [], "gone_directories": [], "came": []}


def new(**changes: Any) -> Any:
    """A version with these changes; inodes are numbered below 10 in both."""
    names = changes.pop("names", [])
    numbers = {name: array("Q", value) for name, value in {**GONE, **changes}.items()}
    told = SimpleNamespace(
        **numbers, names=lambda: iter(names), gone_names=lambda: iter([]), root_names=lambda *_: iter([])
    )
    return SimpleNamespace(changes=told, root=ROOT_INO, root_before=ROOT_INO, numbered=10, numbered_before=10)


class Fixed:
    """Two versions: the first has ``dir/inside`` and ``file``, the second another ``file`` and no directory."""

    def __init__(self) -> None:
        self.first, self.second = MemoryWorkspace(), MemoryWorkspace()
        self.directory = self.first.mkdir(ROOT_INO, b"dir", 0o755, ME).ino
        self.file = self.first.mknod(ROOT_INO, b"file", 0o100644, 0, ME).ino
        self.first.write(self.file, 0, b"old")
        self.inside = self.first.mknod(self.directory, b"inside", 0o100644, 0, ME).ino
        self.second.mkdir(ROOT_INO, b"for the number", 0o755, ME)
        assert self.second.mknod(ROOT_INO, b"file", 0o100644, 0, ME).ino == self.file
        self.second.write(self.file, 0, b"new!")
        self.second.rmdir(ROOT_INO, b"for the number")
        self.closed: list[str] = []
        self.forgotten: list[str] = []
        self.workspace = RefreshedWorkspace(self.first, lambda: self.forgotten.append("something"))
        version = new(files=[self.file], gone=[self.directory, self.inside], gone_directories=[self.directory])
        self.workspace.take(self.workspace.step(version), self.second, lambda: self.closed.append("first"))


@pytest.fixture
def fixed() -> Fixed:
    return Fixed()


def test_a_file_that_changed_is_known_by_another_number_and_the_old_one_means_the_old_file(fixed: Fixed) -> None:
    entry = fixed.workspace.lookup(ROOT_INO, b"file")
    assert entry is not None
    assert entry.ino != fixed.file
    assert entry.ino & NUMBER == fixed.file
    assert entry.ino < FIRST
    assert fixed.workspace.read(entry.ino, 0, 10) == b"new!"
    assert fixed.workspace.read(fixed.file, 0, 10) == b"old"
    assert fixed.workspace.getattr(fixed.file).size == 3
    assert fixed.workspace.getattr(entry.ino).size == 4


def test_a_directory_that_is_gone_can_be_gone_through(fixed: Fixed) -> None:
    workspace = fixed.workspace
    assert workspace.lookup(ROOT_INO, b"dir") is None
    assert [name for name, _ in workspace.readdir(fixed.directory, None, 10)] == [b"inside"]
    assert workspace.lookup(fixed.directory, b"inside").ino == fixed.inside  # type: ignore[union-attr]
    assert workspace.lookup(fixed.directory, b"absent") is None
    (former,) = workspace.former()
    held = workspace.hold(former)
    assert held.names == {(fixed.directory, b"inside"), (fixed.directory, b"absent")}
    assert held.directories == [fixed.directory]
    assert set(held.nodes) == {fixed.file, fixed.directory, fixed.inside}


def test_what_the_kernel_has_forgotten_is_let_go_of(fixed: Fixed) -> None:
    workspace = fixed.workspace
    workspace.forget(ROOT_INO, 1)
    assert not fixed.forgotten
    workspace.forget(fixed.file, 1)
    assert fixed.forgotten
    (former,) = workspace.former()
    workspace.keep(former, [fixed.file])
    assert workspace.read(fixed.file, 0, 10) == b"old"
    assert not fixed.closed
    workspace.keep(former, [])
    assert fixed.closed == ["first"]
    with pytest.raises(OSError) as stale:
        workspace.read(fixed.file, 0, 10)
    assert stale.value.errno == errno.ESTALE
    with pytest.raises(OSError):
        workspace.getattr(fixed.directory)


def test_the_same_file_twice_has_a_third_number(fixed: Fixed) -> None:
    workspace = fixed.workspace
    second = workspace.lookup(ROOT_INO, b"file")
    workspace.take(workspace.step(new(files=[fixed.file], came=[fixed.inside, 11])), fixed.first, lambda: None)
    third = workspace.lookup(ROOT_INO, b"file")
    assert second is not None
    assert third is not None
    assert len({fixed.file, second.ino, third.ino}) == 3
    assert [workspace.read(ino, 0, 10) for ino in (fixed.file, second.ino, third.ino)] == [b"old", b"new!", b"old"]
    assert workspace.nodes.of(fixed.inside) != fixed.inside  # perhaps it is known, as what it was
    assert workspace.nodes.of(11) == 11  # nobody can know a number that was never given before


def test_numbers_and_nodes() -> None:
    nodes = Nodes().after([], [5, 3], 1).after([3], [7], 2)
    assert [nodes.of(ino) & NUMBER for ino in range(9)] == list(range(9))
    assert [ino for ino in range(9) if nodes.of(ino) != ino] == [5, 7]
    assert nodes.of(5) != Nodes().after([], [5], 2).of(5)
    assert not Nodes()
    numbers = Numbers([9, 1, 5])
    assert list(numbers) == [1, 5, 9]
    assert [number in numbers for number in (0, 1, 5, 6, 9, 10)] == [False, True, True, False, True, False]


def test_the_kernel_is_told_of_names_in_directories_that_it_knows() -> None:
    sent: list[tuple[int, bytes]] = []

    def send(kind: int, body: bytes) -> None:
        if body.startswith((8).to_bytes(8, "little")):
            raise FileNotFoundError(errno.ENOENT, "unknown")
        sent.append((kind, body))

    version = new(directories=[4], names=[(2, b"a"), (2, b"b"), (8, b"c")])
    announce(send, version, lambda ino: ino, lambda ino: ino)
    entries = [body[16:] for kind, body in sent if kind == Notify.INVAL_ENTRY]
    assert entries == [b"a\0", b"b\0"]
    assert {body[0] for kind, body in sent if kind == Notify.INVAL_INODE} == {2, 4}
    assert list(known(send, [2, 8, 3])) == [2, 3]
    with pytest.raises(OSError, match="bad"):

        def fail(*_: Any) -> None:
            raise OSError(errno.EBADF, "bad")

        announce(fail, version, lambda ino: ino, lambda ino: ino)
