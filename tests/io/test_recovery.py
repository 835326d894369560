"""What is there after a kill: found, resumed, published, forked or dropped, and never lost."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flyteplugins_vol.errors import LocalDirectoryError, RefMovedError, StoreError, VolumeBusyError, VolumeNameError
from flyteplugins_vol.history.local import WorkspaceDirectory, WorkspaceState
from flyteplugins_vol.io import RWVolume, Volume
from flyteplugins_vol.io.mounting import workspace_of
from flyteplugins_vol.io.recovery import Recoverable
from flyteplugins_vol.mount.workspace_lock import looking_at
from tests.io.conftest import World
from tests.io.killed import kill, left_by_a_kill, written
from tests.waiting import wait_for

fuse = pytest.mark.fuse


def the_one() -> Recoverable:
    (found,) = RWVolume.recoverable()
    return found


@fuse
def test_what_was_left_is_listed_and_the_next_mount_has_it(world: World) -> None:
    volume = left_by_a_kill(world)
    left = the_one().left
    assert (left.volume_name, left.volume_id, left.base) == ("line", volume.id, volume.locator)
    assert (left.files, left.bytes, left.staged, left.aside) == (3, 2, 1, False)
    again = world.keep(Volume.from_name.sync("line", world.store))
    data = again.mount.sync(world.path("mnt2"))
    assert sorted(path.name for path in data.iterdir()) == ["a", "b"]
    assert RWVolume.recoverable() == [], "it is mounted"
    again.finalize.sync()
    assert RWVolume.recoverable() == []


@fuse
def test_it_is_published_without_a_mount(world: World) -> None:
    left_by_a_kill(world)
    one = the_one()
    version = one.commit.sync("rescued")
    assert version.version is not None
    assert version.version.startswith("00000002-")
    assert world.keep(version).read_bytes.sync("b") == b"2"
    assert not os.path.exists(one.path)
    assert RWVolume.recoverable() == []
    for again in (one.commit, one.fork, one.discard):
        with pytest.raises(LocalDirectoryError, match="nothing to recover"):
            again.sync()


@fuse
def test_it_is_mounted_and_goes_on_where_it_was(world: World) -> None:
    left_by_a_kill(world)
    volume = world.keep(the_one().volume.sync())
    data = volume.mount.sync(world.path("mnt2"))
    written(data / "c", "3")
    with pytest.raises(VolumeBusyError):
        world.keep(Volume.from_name.sync("line", world.store)).mount.sync(world.path("mnt3"))
    version = volume.finalize.sync()
    assert sorted(info.path for info in version.ls.sync()) == ["/a", "/b", "/c"]
    assert RWVolume.recoverable() == []


@fuse
def test_a_fork_that_nobody_knows_of_is_found_and_published(world: World) -> None:
    parent = world.new("parent")
    parent.write_bytes.sync("a", b"1")
    fork = world.keep(parent.finalize.sync().fork.sync("branch"))
    written(fork.mount.sync(world.path("mnt")) / "b", "2")
    kill(fork)
    one = the_one()
    assert (one.left.volume_name, one.left.volume_id, one.left.base) == ("branch", fork.id, parent.locator)
    version = one.commit.sync()
    assert version.parents == (parent.locator,)
    assert sorted(info.path for info in version.ls.sync()) == ["/a", "/b"]


@fuse
def test_what_was_left_is_set_aside_when_the_volume_went_on_without_it(world: World) -> None:
    left_by_a_kill(world)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLYTE_VOL_CACHE_DIR", str(world.path("another-machine")))
        other = Volume.from_name.sync("line", world.store)
        other.write_bytes.sync("theirs", b"3")
        theirs = other.finalize.sync()
    volume = world.keep(Volume.from_name.sync("line", world.store))
    data = volume.mount.sync(world.path("mnt2"))
    assert sorted(path.name for path in data.iterdir()) == ["a", "theirs"]
    one = the_one()
    assert one.left.aside
    assert one.path.endswith("~1")
    with pytest.raises(VolumeBusyError):
        one.commit.sync()  # the mount has the lease
    volume.abandon.sync()
    with pytest.raises(RefMovedError):
        one.commit.sync()
    fork = one.fork.sync("line-rescued", "what was left")
    assert (fork.name, fork.message) == ("line-rescued", "what was left")
    assert sorted(info.path for info in fork.ls.sync()) == ["/a", "/b"]
    assert world.keep(Volume.from_name.sync("line", world.store)).locator == theirs.locator
    assert RWVolume.recoverable() == []


def paths(volume: Volume) -> list[str]:
    return sorted(info.path for info in volume.ls.sync())


@fuse
@pytest.mark.logs_warnings  # its base is not found
def test_a_fork_that_fails_changes_nothing(world: World) -> None:
    volume = left_by_a_kill(world)
    one = the_one()
    volumes = world.path("store") / "volumes"
    volumes.rename(world.path("away"))
    volumes.write_text("in the way")
    with pytest.raises(StoreError):
        one.fork.sync("rescued")
    volumes.unlink()
    world.path("away").rename(volumes)
    with pytest.raises(VolumeNameError):
        one.fork.sync("no/name")
    assert the_one().left == one.left
    fork = one.fork.sync("rescued")
    assert (fork.name, paths(fork)) == ("rescued", ["/a", "/b"])
    assert RWVolume.recoverable() == []
    assert [path.name for path in volume.mount.sync(world.path("mnt")).iterdir()] == ["a"]


_DIES_AS_IT_FORKS = """
import os, signal, sys
from flyteplugins_vol.io import RWVolume

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def removing(event, arguments):
    if event == "os.remove" and str(arguments[0]).endswith("/state.json"):
        die()

moment = sys.argv[1]
if moment == "removal":
    sys.addaudithook(removing)
(one,) = RWVolume.recoverable()
one.fork.sync("rescued", progress=lambda event: die() if event["phase"] == moment else None)
"""


@fuse
@pytest.mark.parametrize("moment", ["index", "version", "removal"])
def test_a_kill_while_it_is_forked_leaves_it_as_it_was(world: World, moment: str) -> None:
    volume = left_by_a_kill(world)
    one = the_one()
    done = subprocess.run([sys.executable, "-c", _DIES_AS_IT_FORKS, moment], check=False)
    assert done.returncode == -signal.SIGKILL
    assert the_one().left.volume_id == one.left.volume_id
    assert the_one().path == one.path
    published = [found for found in Volume.list.sync(world.store) if found.name == "rescued"]
    assert len(published) == (moment == "removal")
    if published:
        rescued = Volume.from_name.sync("rescued", world.store)
        assert paths(rescued) == ["/a", "/b"]
        assert rescued.verify.sync(deep=True).ok
    second = the_one().fork.sync("second")
    assert second.verify.sync(deep=True).ok
    assert paths(second) == ["/a", "/b"]
    written(volume.mount.sync(world.path("mnt")) / "c", "3")
    assert paths(volume.finalize.sync()) == ["/a", "/c"]


@fuse
def test_what_a_fork_died_with_is_still_resumed(world: World) -> None:
    """Also what it had published already: that is in two volumes then, and each goes its way."""
    volume = left_by_a_kill(world)
    subprocess.run([sys.executable, "-c", _DIES_AS_IT_FORKS, "removal"], check=False)
    written(volume.mount.sync(world.path("mnt")) / "c", "3")
    version = volume.finalize.sync()
    assert paths(version) == ["/a", "/b", "/c"]
    assert version.verify.sync(deep=True).ok


@fuse
def test_another_attempt_begins_anew_and_the_same_one_goes_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from flyteplugins_vol.io import hosts

    def attempt(number: int) -> None:
        monkeypatch.setattr(hosts, "produced_by", lambda: {"sdk": "flyte", "run": "r", "attempt": str(number)})

    attempt(1)
    volume = left_by_a_kill(world)
    path = volume.mount.sync(world.path("mnt"))
    assert (path / "b").read_text() == "2"
    kill(volume)
    attempt(2)
    path = volume.mount.sync(world.path("mnt"))
    assert [entry.name for entry in path.iterdir()] == ["a"]
    volume.finalize.sync()
    one = the_one()
    assert one.left.attempt is not None
    assert '"attempt": "1"' in one.left.attempt
    recovered = world.keep(one.volume.sync())
    assert (recovered.mount.sync(world.path("mnt2")) / "b").read_text() == "2"


@fuse
def test_it_is_dropped_only_when_asked(world: World) -> None:
    volume = left_by_a_kill(world)
    one = the_one()
    one.discard.sync()
    assert not os.path.exists(one.path)
    written(volume.mount.sync(world.path("mnt")) / "b", "2")
    kill(volume)
    path = volume.mount.sync(world.path("mnt"), resume=False)
    assert [entry.name for entry in path.iterdir()] == ["a"]
    volume.abandon.sync()
    assert RWVolume.recoverable() == []


@fuse
def test_an_end_in_order_with_nothing_new_leaves_nothing_to_recover(world: World) -> None:
    volume = world.new("line")
    data = volume.mount.sync(world.path("mnt"))
    assert volume._mounting is not None
    volume._mounting.end(keep=True)
    assert RWVolume.recoverable() == [], "an empty volume"
    data = volume.mount.sync(world.path("mnt"))
    written(data / "a", "1")
    first = volume.commit.sync()
    volume._mounting.end(keep=True)
    assert RWVolume.recoverable() == []
    volume.mount.sync(world.path("mnt"))
    assert volume.finalize.sync().locator == first.locator, "and nothing new to publish"


# -- the directory -----------------------------------------------------------------------------------------------------


def left_in(directory: Path) -> WorkspaceDirectory:
    made = WorkspaceDirectory(str(directory))
    made.save(WorkspaceState("0" * 16, "me", None, volume_name="data"))
    for name in ("index.db", "index.db-wal"):
        (directory / name).write_text(name)
    (directory / "staging").mkdir()
    (directory / "staging" / "0").write_text("bytes")
    return made


@pytest.mark.parametrize("moves", range(5))
def test_a_stop_while_it_is_set_aside_is_made_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves: int) -> None:
    """After each move but the last the process dies; whoever looks next finds one whole workspace, and one only."""

    class Died(BaseException):
        pass

    made = left_in(tmp_path / "w")
    done: list[str] = []
    rename = os.rename

    def dying(source: str, target: str) -> None:
        if len(done) == moves:
            raise Died
        rename(source, target)
        done.append(source)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", dying)
        try:
            made.set_aside()
        except Died:
            assert len(done) == moves < 4
    found = [WorkspaceDirectory(str(path)) for path in sorted(tmp_path.iterdir())]
    whole = [one for one in found if one.state() is not None]
    (one,) = whole
    assert one.is_aside == (moves > 0)
    for name in ("index.db", "index.db-wal"):
        assert Path(one.path, name).read_text() == name
    assert Path(one.staging, "0").read_text() == "bytes"
    if moves:
        assert sorted(os.listdir(made.path)) == []


def test_looking_disturbs_nobody(world: World) -> None:
    """A listing holds the lock for a moment: who opens the workspace just then waits for that and is not refused."""
    volume = world.new("line")
    volume.write_bytes.sync("a", b"1")
    directory = world.path("cache") / workspace_of(f"line-{volume.id}", world.store)
    code = f"""
import sys
from flyteplugins_vol.mount.workspace_lock import looking_at
with looking_at({str(directory)!r}) as free:
    print(free, flush=True)
    sys.stdin.read()
"""
    volume.commit.sync()
    volume.close.sync()
    directory.mkdir(parents=True, exist_ok=True)
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True) as looker:
        assert looker.stdout is not None
        assert looker.stdin is not None
        assert looker.stdout.readline() == "True\n"
        import threading

        threading.Timer(0.1, looker.stdin.close).start()
        volume.write_bytes.sync("b", b"2")
    with looking_at(str(directory)) as free:
        assert not free
    volume.commit.sync()


@pytest.mark.parametrize("harm", ["state", "index", "none"])
def test_a_listing_survives_what_it_cannot_read(world: World, harm: str) -> None:
    directory = world.path("cache/workspaces/x")
    directory.mkdir(parents=True)
    left_in(directory)
    (directory / "index.db-wal").unlink()
    if harm == "state":
        (directory / "state.json").write_text("{")
    elif harm == "none":
        (directory / "index.db").unlink()
        with sqlite3.connect(directory / "index.db") as sql:
            sql.execute("CREATE TABLE meta (key, value)")
    found = RWVolume.recoverable()
    assert len(found) == (0 if harm == "state" else 1), "who cannot say what it is may not be passed over"


# -- signals -----------------------------------------------------------------------------------------------------------

TASK = """
import asyncio, signal, sys, time
from flyteplugins_vol.io import Volume
volume = Volume.from_name.sync("line", {store!r})
async def main():
    path = {mount}
    (path / "b").write_text("2")
    print("ready", flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


@fuse
@pytest.mark.parametrize("options", ["autocommit=3600", "autocommit_bytes=1 << 40", ""])
def test_sigterm_to_a_task_publishes_when_asked_and_keeps_otherwise(world: World, options: str) -> None:
    first = world.new("line")
    first.write_bytes.sync("a", b"1")
    first.finalize.sync()
    mount = f"await volume.mount({str(world.path('mnt'))!r}, {options})"
    with subprocess.Popen([sys.executable, "-c", TASK.format(store=world.store, mount=mount)], stdout=-1) as task:
        assert task.stdout is not None
        assert task.stdout.readline() == b"ready\n"
        began = time.monotonic()
        task.terminate()
        assert task.wait() == -signal.SIGTERM
        if options:
            assert not os.path.ismount(world.path("mnt")), "it has ended before its process"
        assert time.monotonic() - began < 25
    wait_for(lambda: not os.path.ismount(world.path("mnt")))
    again = Volume.from_name.sync("line", world.store)
    if options:
        assert again.message == "autocommit at exit"
        assert again.read_bytes.sync("b") == b"2"
        assert RWVolume.recoverable() == []
    else:
        assert again.locator == first.locator
        wait_for(lambda: len(RWVolume.recoverable()) == 1)
