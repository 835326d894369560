"""A local disk that cannot keep what it took: from the first failed sync on, nothing claims to be kept."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from flyteplugins_vol.history.refs import read_ref, ref_key
from flyteplugins_vol.mount.group_sync import GroupSync
from flyteplugins_vol.mount.scheduler import Scheduler, Task
from flyteplugins_vol.store.memory import MemoryStore
from flyteplugins_vol.workspace import staging as staging_module
from flyteplugins_vol.workspace.staging import Burial, Staging
from tests.driven import ME, Driven


@pytest.fixture
def volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Driven]:
    from flyteplugins_vol.workspace import sealing

    for module in (staging_module, sealing):
        monkeypatch.setattr(module, "SEGMENT", 100_000)
    driven = Driven.new(tmp_path, MemoryStore(f"memory://{uuid4().hex}"))
    for number in range(20):
        driven.create(b"%d" % number, random.Random(number).randbytes(20_000))
    yield driven
    driven.close()


def lost(*_: Any) -> None:
    raise OSError(errno.EIO, "the disk lost it")


def refuses_everything(volume: Driven) -> None:
    """Reads go on; nothing else does, and nothing is published."""
    assert volume.workspace.lookup(1, b"1") is not None
    for verb in (
        lambda: volume.workspace.begin_sync(),
        lambda: volume.workspace.write(volume.find(b"1").ino, 0, b"x"),
        lambda: volume.workspace.mkdir(1, b"d", 0o755, ME),
        lambda: volume.commit("after"),
    ):
        with pytest.raises(OSError) as caught:
            verb()
        assert caught.value.errno == errno.EIO
    assert read_ref(volume.store, ref_key(volume.spec.volume_name, volume.spec.volume_id)) is None


@pytest.mark.logs_warnings
def test_after_a_failed_fsync_nothing_is_accepted_or_published(volume: Driven) -> None:
    volume.workspace.sync_failed(OSError(errno.EIO, "lost"))
    refuses_everything(volume)


@pytest.mark.logs_warnings
@pytest.mark.parametrize("in_housekeeping", [True, False])
def test_a_burial_whose_sync_failed_tells_every_later_fsync(
    volume: Driven, monkeypatch: pytest.MonkeyPatch, in_housekeeping: bool
) -> None:
    """The kernel tells of a lost page once for each open file, and this one is shared with fsync's."""
    monkeypatch.setattr(Burial, "sync", lost)
    if in_housekeeping:
        for number in range(15):
            volume.workspace.unlink(1, b"%d" % number) if number != 1 else None
        for _ in range(10):
            volume.workspace.housekeep()
    else:
        with pytest.raises(OSError, match="lost it"):
            while volume.seal():
                pass
    refuses_everything(volume)


@pytest.mark.logs_warnings
def test_names_that_cannot_be_synced_fail_the_fsync_and_all_after_it(
    volume: Driven, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Staging, "sync_names", lost)
        with pytest.raises(OSError, match="could not be synced"):
            volume.workspace.begin_sync()
    refuses_everything(volume)


def test_an_fsync_covers_what_the_process_before_wrote(volume: Driven) -> None:
    """It was killed, not the machine: its bytes are in the kernel's cache, and nobody has synced them."""
    unsynced: Callable[[], set[str]] = lambda: {  # noqa: E731
        os.path.basename(os.readlink(f"/proc/self/fd/{fd}")) for fd in volume.workspace.begin_sync()
    }
    written = set(os.listdir(Path(volume.spec.meta_dir, "staging")))
    volume.workspace.index.commit()
    volume.kill()
    assert written
    assert written <= unsynced()
    assert unsynced() == {"index.db-wal"}


def test_a_sync_that_could_not_begin_is_made_up_for(volume: Driven, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(volume.workspace.index.db, "sync_fd", lost)
        with pytest.raises(OSError, match="lost it"):
            volume.workspace.begin_sync()
    assert len(volume.workspace.begin_sync()) > 1


# --- the mount's group sync ----------------------------------------------------------------------------------------


class Owner:
    """A scheduler that runs one sync in this thread."""

    def __init__(self, begin: Callable[[], list[int]]) -> None:
        self.scheduler = Scheduler()
        self.failed: list[OSError] = []
        self.group = GroupSync(self.scheduler, begin, self.failed.append)

    def sync(self) -> OSError | None:
        scheduler = Scheduler()
        self.group._scheduler = scheduler
        errors: list[OSError] = []

        async def run() -> None:
            try:
                await self.group.sync()
            except OSError as error:
                errors.append(error)

        task: Task = run()
        scheduler.run(task)
        return errors[0] if errors else None


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


def test_without_a_free_descriptor_the_owner_syncs_by_itself(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    owner = Owner(lambda: [fd])

    def none_left(_: int) -> int:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(os, "dup", none_left)
    monkeypatch.setattr(os, "fdatasync", synced.append)
    assert owner.sync() is None
    assert synced == [fd]
    assert not owner.failed


@pytest.mark.logs_warnings
def test_a_failed_fdatasync_is_told_to_the_workspace(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = Owner(lambda: [fd])
    monkeypatch.setattr(os, "fdatasync", lost)
    assert owner.sync() is not None
    assert [error.errno for error in owner.failed] == [errno.EIO]
    monkeypatch.undo()
    assert owner.sync() is not None, "the kernel tells once; it stays lost"
