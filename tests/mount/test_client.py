"""A mount's beginning and end, whatever goes wrong."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flyteplugins_vol.errors import (
    CommitError,
    MountFailedError,
    MountPathError,
    NotMountedError,
    UsageError,
    VersionNotFoundError,
    VolumeBusyError,
)
from flyteplugins_vol.model import MountSpec
from flyteplugins_vol.mount import client as client_module
from flyteplugins_vol.mount import kernel_mounts
from flyteplugins_vol.mount.client import MountClient
from flyteplugins_vol.mount.control import request
from flyteplugins_vol.mount.live import live_mounts
from tests.mount.conftest import MEMORY_DAEMON, Mount, closed, committed

pytestmark = pytest.mark.fuse

REPOSITORY = Path(__file__).parents[2]


def is_mounted(client: MountClient) -> bool:
    return kernel_mounts.mount_at(str(client.mount_path)) is not None


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    """Look until it is so: for what another process does, and tells nobody."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        threading.Event().wait(0.02)


def assert_gone(client: MountClient, pid: int) -> None:
    assert not is_running(pid)
    assert not is_mounted(client)
    assert not client.mount_path.exists()


# --- an orderly life -----------------------------------------------------------------------------------------------


def test_from_spawn_to_unmount(mount: Mount) -> None:
    heard: list[Any] = []
    client = mount()
    pid = client.status()["pid"]
    (client.mount_path / "file").write_text("hello")
    record = client.commit("a message", heard.append)
    assert record == {"number": 1, "message": "a message", "files": 1}
    assert heard == [{"stage": "flush"}, {"stage": "frozen"}]
    assert client.is_alive
    client.unmount(keep=False)
    assert_gone(client, pid)
    assert closed(client) == "keep=False"
    assert not client.is_alive


def test_the_end_is_idempotent_and_later_requests_say_so(mount: Mount) -> None:
    client = mount()
    client.unmount()
    client.unmount()
    client.abandon()
    assert closed(client) == "keep=True"
    with pytest.raises(NotMountedError):
        client.commit()
    with pytest.raises(NotMountedError):
        client.status()


def test_abandon_drops_what_was_not_committed(mount: Mount) -> None:
    client = mount()
    pid = client.status()["pid"]
    (client.mount_path / "file").write_text("hello")
    client.abandon()
    assert_gone(client, pid)
    assert closed(client) == "abandoned"


def test_a_mount_path_that_was_there_stays(mount: Mount, spec: MountSpec) -> None:
    Path(spec.mount_path).mkdir()
    client = mount()
    client.unmount()
    assert list(Path(spec.mount_path).iterdir()) == []


@pytest.mark.parametrize("end", ["unmount", "abandon"])
def test_a_mount_in_use_is_detached(mount: Mount, end: str) -> None:
    client = mount()
    pid = client.status()["pid"]
    file = (client.mount_path / "file").open("wb", buffering=0)
    file.write(b"dirty")
    getattr(client, end)()
    assert_gone(client, pid)
    with pytest.raises(OSError):
        os.fsync(file.fileno())
    try:
        file.close()
    except OSError:
        pass


def test_what_an_open_file_has_is_kept_when_the_mount_is_detached(mount: Mount) -> None:
    client = mount(store_options={"keep-tree": True})
    file = (client.mount_path / "file").open("wb", buffering=0)
    file.write(b"dirty")
    client.unmount(keep=True)
    assert (Path(client.spec.meta_dir) / "tree").read_text() == "{'file': 'ZGlydHk='}"
    try:
        file.close()
    except OSError:
        pass


def test_whoever_sees_a_mount_finds_its_daemon(mount: Mount, spec: MountSpec) -> None:
    """A script that waits until the path is mounted, and then wants to commit."""
    meta_dir = Path(spec.mount_path).parent / "workspaces" / "test-0123"
    with ThreadPoolExecutor() as threads:
        mounting = threads.submit(mount, meta_dir=str(meta_dir), store_options={"slow-look": 1.0})
        until(lambda: kernel_mounts.mount_at(spec.mount_path) is not None)
        (found,) = live_mounts([str(meta_dir.parents[1])])
        assert found.commit("seen")["message"] == "seen"
        assert found.path == str(mounting.result().mount_path)


def test_eight_mounts_at_once_in_one_home(spec: MountSpec, tmp_path: Path) -> None:
    from flyteplugins_vol.mount.mount_paths import claim

    def start(number: int) -> MountClient:
        place = claim(None, volume_name="data", home=str(tmp_path))
        own = replace(spec, mount_path=place.path, meta_dir=str(tmp_path / f"meta-{number}"))
        return MountClient.spawn(own, place=place, daemon=MEMORY_DAEMON)

    with ThreadPoolExecutor(8) as pool:
        clients = list(pool.map(start, range(8)))
        try:
            paths = {client.mount_path.name for client in clients}
            assert paths == {"flyte-volume", "flyte-volume-data"} | {f"flyte-volume-data-{n}" for n in range(2, 8)}
            for client in clients:
                (client.mount_path / "file").write_text(client.mount_path.name)
            assert all((client.mount_path / "file").read_text() == client.mount_path.name for client in clients)
        finally:
            list(pool.map(MountClient.abandon, clients))


# --- commits -------------------------------------------------------------------------------------------------------


def test_a_failed_commit_raises_its_error_and_the_mount_lives_on(mount: Mount) -> None:
    client = mount()
    with pytest.raises(CommitError, match="as asked") as raised:
        client.commit("fail")
    assert raised.value.hint == "do not ask"
    assert client.commit("second")["number"] == 1


def test_commits_of_several_threads_take_turns(mount: Mount) -> None:
    client = mount()
    with ThreadPoolExecutor(5) as pool:
        records = list(pool.map(client.commit, map(str, range(5))))
    assert sorted(record["number"] for record in records) == [1, 2, 3, 4, 5]


def test_a_read_only_mount_takes_no_commit(mount: Mount) -> None:
    with pytest.raises(UsageError, match="read-only"):
        mount(read_only=True).commit()


def test_a_daemon_whose_directory_was_removed_is_not_called_dead(mount: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by ``rm -rf ~/.cache``: nobody can ask it for anything any more."""
    monkeypatch.setattr(client_module, "_END_SECONDS", 1000.0)
    client = mount()
    pid = client.status()["pid"]
    shutil.rmtree(client.spec.meta_dir)
    with pytest.raises(MountFailedError, match="somebody has removed"):
        client.commit()
    assert is_mounted(client)
    client.abandon()
    assert_gone(client, pid)


def test_abandon_does_not_wait_for_a_commit_that_hangs(mount: Mount) -> None:
    client = mount(store_options={"hang-in-commit": True})
    pid = client.status()["pid"]
    frozen = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        commit = pool.submit(client.commit, None, lambda event: frozen.set() if event["stage"] == "frozen" else None)
        assert frozen.wait(20)
        client.abandon()
        with pytest.raises(NotMountedError):
            commit.result(20)
    assert_gone(client, pid)


def test_autocommit_comes_by_the_clock_when_there_is_a_change(mount: Mount) -> None:
    client = mount(autocommit=0.1)
    (client.mount_path / "file").write_text("hello")
    until(lambda: client.status()["commits"] == 1)
    (client.mount_path / "file").write_text("again")
    until(lambda: client.status()["commits"] >= 2)


# --- a bad beginning -----------------------------------------------------------------------------------------------


def test_the_daemons_own_error_is_the_clients(mount: Mount, spec: MountSpec) -> None:
    with pytest.raises(VersionNotFoundError, match="as asked") as raised:
        mount(store_options={"fail": "version-not-found"})
    assert raised.value.hint == "do not ask"
    assert not Path(spec.mount_path).exists()


def test_a_daemon_that_crashes_while_starting_shows_its_log(mount: Mount, spec: MountSpec) -> None:
    with pytest.raises(MountFailedError, match="died while starting") as raised:
        mount(store_options={"die": True})
    assert "Fatal Python error: Aborted" in raised.value.message
    assert f"{spec.meta_dir}/daemon.log" in raised.value.hint
    assert not Path(spec.mount_path).exists()


def test_a_daemon_that_cannot_even_start_shows_why(spec: MountSpec) -> None:
    with pytest.raises(MountFailedError, match="No module named"):
        MountClient.spawn(spec, daemon="tests.mount.no_such_daemon")


def test_a_daemon_that_says_nothing_is_given_up(mount: Mount, spec: MountSpec) -> None:
    with pytest.raises(MountFailedError, match=r"said nothing for 1 s"):
        mount(timeout=1.0, store_options={"hang": True})
    assert not Path(spec.mount_path).exists()


def test_a_volume_is_mounted_for_writing_once(mount: Mount, spec: MountSpec, tmp_path: Path) -> None:
    client = mount()
    with pytest.raises(VolumeBusyError) as raised:
        mount(mount_path=str(tmp_path / "second"))
    assert str(client.mount_path) in raised.value.message
    assert f"by process {os.getpid()}" in raised.value.message
    mount(mount_path=str(tmp_path / "reader"), read_only=True)
    client.unmount()
    mount(mount_path=str(tmp_path / "third"))


def test_a_path_is_mounted_on_once(mount: Mount, tmp_path: Path) -> None:
    mount()
    with pytest.raises(MountPathError):
        mount(meta_dir=str(tmp_path / "other"))


def test_nothing_of_the_credentials_is_seen(mount: Mount) -> None:
    client = mount(store_options={"config": {"secret_access_key": "hunter2hunter2"}, "fail-log": "hunter2hunter2"})
    pid = client.status()["pid"]
    for name in ("cmdline", "environ"):
        assert b"hunter2" not in Path(f"/proc/{pid}/{name}").read_bytes()
    log = Path(client.spec.log_path or "")
    assert "hunter2" not in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600


# --- a bad end -----------------------------------------------------------------------------------------------------


def test_the_death_of_the_daemon_is_seen_at_once_with_its_log(mount: Mount) -> None:
    client = mount()
    os.kill(client.status()["pid"], signal.SIGSEGV)
    with pytest.raises(MountFailedError, match="has died") as raised:
        client.commit()
    assert "Segmentation fault" in raised.value.message
    assert not client.is_alive
    client.unmount()
    assert not is_mounted(client)
    assert not client.mount_path.exists()


def test_a_commit_under_way_sees_the_death_of_the_daemon(mount: Mount) -> None:
    client = mount(store_options={"hang-in-commit": True})
    pid = client.status()["pid"]
    with pytest.raises(MountFailedError, match="has died"):
        client.commit(None, lambda event: os.kill(pid, signal.SIGKILL) if event["stage"] == "frozen" else None)


def test_what_a_killed_daemon_left_is_replaced(mount: Mount, spec: MountSpec) -> None:
    first = mount()
    os.kill(first.status()["pid"], signal.SIGKILL)
    until(lambda: not first.is_alive)
    assert is_mounted(first)
    first._place.release()  # as if its client were gone as well
    second = mount()
    (second.mount_path / "file").write_text("works")


def test_a_mount_that_was_unmounted_from_outside(mount: Mount) -> None:
    client = mount()
    pid = client.status()["pid"]
    kernel_mounts.unmount(str(client.mount_path))
    until(lambda: not is_running(pid))
    assert closed(client) == "keep=True"
    client.unmount()
    assert_gone(client, pid)


@pytest.fixture
def overtaken(mount: Mount, spec: MountSpec) -> Iterator[tuple[MountClient, MountClient]]:
    """A mount that was ended from outside, with a commit that hangs, and another one that has the same path by now."""
    first = mount(store_options={"hang-in-commit": True})
    frozen = threading.Event()
    ask = {"request": "commit", "message": None}
    commit = threading.Thread(target=lambda: _suppressed(request, first._control, ask, lambda _: frozen.set(), None))
    commit.start()
    assert frozen.wait(20)
    kernel_mounts.unmount(spec.mount_path, lazy=True)
    os.rmdir(spec.mount_path)
    second = mount(meta_dir=f"{spec.meta_dir}-2")
    assert second.mount_path == first.mount_path
    (second.mount_path / "file").write_text("hello")
    yield first, second
    first.abandon()
    commit.join(20)


def _suppressed(function: Callable[..., Any], *args: Any) -> None:
    try:
        function(*args)
    except Exception:
        pass


def test_the_end_of_a_daemon_leaves_another_mount_at_its_path_alone(
    overtaken: tuple[MountClient, MountClient],
) -> None:
    first, second = overtaken
    pid = int(Path(first._control).stem)
    request(first._control, {"request": "abandon"}, None, 20)
    until(lambda: not is_running(pid))
    assert (second.mount_path / "file").read_text() == "hello"
    assert second.commit()["number"] == 1


@pytest.mark.parametrize("how", ["abandon", "unmount"])
def test_the_end_of_a_client_leaves_another_mount_at_its_path_alone(
    overtaken: tuple[MountClient, MountClient], how: str
) -> None:
    first, second = overtaken
    os.kill(int(Path(first._control).stem), signal.SIGKILL)
    getattr(first, how)()
    assert (second.mount_path / "file").read_text() == "hello"
    assert second.commit()["number"] == 1
    second.unmount()
    assert not second.mount_path.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("autocommit", [None, 3600.0])
def test_a_signal_keeps_or_commits(mount: Mount, number: int, autocommit: float | None) -> None:
    client = mount(autocommit=autocommit)
    pid = client.status()["pid"]
    (client.mount_path / "file").write_text("hello")
    os.kill(pid, number)
    until(lambda: not is_running(pid))
    assert closed(client) == "keep=True"
    if autocommit:
        assert committed(client)["tree"] == {"file": "aGVsbG8="}
    else:
        assert not Path(client.spec.meta_dir, "commit-1.json").exists()
    client.unmount()
    assert_gone(client, pid)


def test_a_store_that_hangs_does_not_hold_up_the_end(mount: Mount) -> None:
    client = mount(autocommit=3600.0, store_options={"hang-in-commit": True, "hurry": True})
    pid = client.status()["pid"]
    (client.mount_path / "file").write_text("hello")
    os.kill(pid, signal.SIGTERM)
    until(lambda: not is_running(pid))
    assert closed(client) == "keep=True"
    assert "is given up: what was written is kept" in Path(client.spec.log_path or "").read_text()
    client.unmount()
    assert_gone(client, pid)


def test_a_store_that_hangs_while_the_rest_is_published_is_an_error_and_the_rest_is_kept(mount: Mount) -> None:
    client = mount(store_options={"hang-in-commit": True, "hurry": True})
    pid = client.status()["pid"]
    (client.mount_path / "file").write_text("hello")
    with pytest.raises(CommitError, match="after the last commit could not be published") as caught:
        client.unmount(keep=False)
    assert "it is kept" in caught.value.hint
    until(lambda: not is_running(pid))
    assert closed(client) == "keep=True"


def test_a_disk_that_fails_while_the_rest_is_published_is_an_error_and_the_rest_is_kept(mount: Mount) -> None:
    client = mount(store_options={"disk-fails": True})
    (client.mount_path / "file").write_text("hello")
    with pytest.raises(CommitError, match="in no version"):
        client.unmount(keep=False)
    assert closed(client) == "keep=True"


@pytest.mark.parametrize("how", ["leave", "unmount"])
def test_only_who_leaves_has_autocommit_publish(mount: Mount, how: str) -> None:
    client = mount(autocommit=3600.0)
    (client.mount_path / "file").write_text("hello")
    getattr(client, how)()
    assert Path(client.spec.meta_dir, "commit-1.json").exists() == (how == "leave")
    assert closed(client) == "keep=True"


def test_what_an_earlier_process_left_is_published_with_the_rest(mount: Mount) -> None:
    client = mount(autocommit=3600.0, store_options={"resumed": True})
    client.leave()
    assert Path(client.spec.meta_dir, "commit-1.json").exists()


def test_autocommit_comes_when_so_much_is_written(mount: Mount) -> None:
    client = mount(autocommit_bytes=1_000_000)
    (client.mount_path / "a").write_bytes(bytes(900_000))
    (client.mount_path / "b").write_bytes(bytes(200_000))
    until(lambda: Path(client.spec.meta_dir, "commit-1.json").exists())
    (client.mount_path / "c").write_bytes(bytes(100_000))
    time.sleep(1.2)
    assert not Path(client.spec.meta_dir, "commit-2.json").exists()


def test_autocommit_comes_for_what_a_file_that_stays_open_has(mount: Mount) -> None:
    """As a log: the kernel keeps what is written, and the daemon hears of it only if it asks."""
    client = mount(autocommit=0.1)
    with (client.mount_path / "log").open("wb", buffering=0) as file:
        file.write(b"one")
        until(lambda: client.status()["commits"] >= 1)
        before = client.status()["commits"]
        file.write(b" and two")
        until(lambda: client.status()["commits"] > before)
        until(lambda: committed(client, client.status()["commits"])["tree"] == {"log": "b25lIGFuZCB0d28="})


def test_autocommit_comes_once_for_each_change(mount: Mount) -> None:
    client = mount(autocommit=0.05)
    for number in range(1, 6):
        (client.mount_path / f"{number}").mkdir()
        until(lambda number=number: client.status()["commits"] == number)
    assert client.status()["requests"].get("write", 0) == 0  # the barrier leaves no trace


@pytest.mark.parametrize("how", ["leave", "terminate"])
def test_what_comes_after_the_commit_at_exit_is_published_too(mount: Mount, how: str) -> None:
    client = mount(autocommit=3600.0, store_options={"write-after-commit": 1})
    pid = client.status()["pid"]
    (client.mount_path / "file").write_text("hello")
    if how == "leave":
        client.leave()
    else:
        os.kill(pid, signal.SIGTERM)
    until(lambda: not is_running(pid))
    assert committed(client)["tree"] == {"file": "aGVsbG8="}
    assert committed(client, 2)["tree"] == {"file": "aGVsbG8=", "late": "bGF0ZQ=="}
    assert committed(client, 2)["message"] == "autocommit at exit"
    assert not Path(client.spec.meta_dir, "commit-3.json").exists()
    assert closed(client) == "keep=True"


def test_nothing_comes_after_the_commit_at_exit_if_nobody_writes(mount: Mount) -> None:
    client = mount(autocommit=3600.0)
    (client.mount_path / "file").write_text("hello")
    client.leave()
    assert committed(client)["message"] == "autocommit at exit"
    assert not Path(client.spec.meta_dir, "commit-2.json").exists()


# --- the client's own end ------------------------------------------------------------------------------------------

CLIENT = """
import os, sys, time
sys.path.insert(0, {repository!r})
from flyteplugins_vol.model import MountSpec
from flyteplugins_vol.mount.client import MountClient
places = {mount!r}, {meta!r}, {cache!r}
spec = MountSpec("0123456789abcdef", "test", "memory://test", *places, timeout=30.0, autocommit={autocommit})
client = MountClient.spawn(spec, daemon={daemon!r})
(client.mount_path / "file").write_text("hello")
print(client.status()["pid"], flush=True)
{then}
"""

ONLY_SPAWN = """
import sys
sys.path.insert(0, {repository!r})
from flyteplugins_vol.model import MountSpec
from flyteplugins_vol.mount.client import MountClient
MountClient.spawn(MountSpec.from_wire({spec!r}), daemon={daemon!r})
"""


class Client:
    """A client in a process of its own."""

    def __init__(self, spec: MountSpec, then: str) -> None:
        self.spec = spec
        script = CLIENT.format(
            repository=str(REPOSITORY),
            mount=spec.mount_path,
            meta=spec.meta_dir,
            cache=spec.cache_dir,
            autocommit=spec.autocommit,
            daemon=MEMORY_DAEMON,
            then=then,
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.daemon = int(self.process.stdout.readline())

    def wait(self) -> tuple[str, str]:
        return self.process.communicate(timeout=30)

    def assert_nothing_left(self) -> None:
        until(lambda: not is_running(self.daemon))
        assert kernel_mounts.mount_at(self.spec.mount_path) is None
        assert Path(self.spec.meta_dir, "closed").read_text() == "keep=True"
        assert not Path(self.spec.meta_dir, "commit-1.json").exists()


@pytest.mark.parametrize("then", ["", "raise ValueError", "sys.exit(3)"])
def test_a_client_that_just_ends(spec: MountSpec, then: str) -> None:
    client = Client(spec, then)
    client.wait()
    client.assert_nothing_left()
    assert not Path(spec.mount_path).exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_client_that_is_signalled(spec: MountSpec, number: int) -> None:
    client = Client(spec, "time.sleep(60)")
    client.process.send_signal(number)
    client.wait()
    client.assert_nothing_left()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_client_that_is_signalled_with_autocommit(spec: MountSpec, number: int) -> None:
    client = Client(replace(spec, autocommit=3600.0), "time.sleep(60)")
    client.process.send_signal(number)
    client.wait()
    until(lambda: not is_running(client.daemon))
    assert Path(spec.meta_dir, "commit-1.json").exists()


def test_a_client_that_is_killed_with_an_open_file_keeps_what_it_wrote(spec: MountSpec) -> None:
    then = "f = open(client.mount_path / 'open', 'wb', 0); f.write(b'dirty'); time.sleep(60)"
    client = Client(spec, then)
    client.process.kill()
    client.wait()
    client.assert_nothing_left()


@pytest.mark.parametrize("autocommit", [None, 3600.0])
def test_a_client_that_is_killed_before_the_mount_is_ready_keeps_what_others_wrote(
    spec: MountSpec, autocommit: float | None
) -> None:
    spec = replace(spec, autocommit=autocommit, store_options={"slow-look": 3600})
    client = subprocess.Popen(
        [sys.executable, "-c", ONLY_SPAWN.format(repository=str(REPOSITORY), spec=spec.to_wire(), daemon=MEMORY_DAEMON)]
    )
    until(lambda: kernel_mounts.mount_at(spec.mount_path) is not None)
    Path(spec.mount_path, "file").write_text("hello")
    client.kill()
    client.wait()
    until(lambda: Path(spec.meta_dir, "closed").exists() and Path(spec.meta_dir, "closed").read_text())
    assert Path(spec.meta_dir, "closed").read_text() == "keep=True"
    until(lambda: kernel_mounts.mount_at(spec.mount_path) is None)
    assert Path(spec.meta_dir, "commit-1.json").exists() == (autocommit is not None)


def test_ctrl_c_in_the_terminal_reaches_the_client_only(spec: MountSpec) -> None:
    client = Client(spec, "time.sleep(60)")
    assert os.getsid(client.daemon) == client.daemon
    client.process.send_signal(signal.SIGINT)
    _, errors = client.wait()
    assert "KeyboardInterrupt" in errors
    client.assert_nothing_left()


def test_a_forked_child_can_use_the_mount_and_its_exit_changes_nothing(spec: MountSpec) -> None:
    then = """
child = os.fork()
if child == 0:
    (client.mount_path / "child").write_text("from the child")
    client.commit("by the child")
    try:
        client.unmount()
    except Exception as error:
        print(type(error).__name__, flush=True)
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
print(sorted(os.listdir(client.mount_path)), client.is_alive, flush=True)
client.unmount()
print(os.path.exists(client.mount_path))
"""
    client = Client(spec, then)
    output, errors = client.wait()
    assert output.splitlines() == ["NotMountedError", "['child', 'file'] True", "False"], errors


def test_a_child_that_outlives_its_parent_does_not_keep_the_mount(spec: MountSpec) -> None:
    then = """
if os.fork() == 0:
    time.sleep(30)
    os._exit(0)
os.kill(os.getpid(), 9)
"""
    client = Client(spec, then)
    until(lambda: not is_running(client.daemon))
    assert kernel_mounts.mount_at(spec.mount_path) is None
    client.process.kill()
    client.process.wait()
    for stream in (client.process.stdout, client.process.stderr):
        assert stream is not None
        stream.close()


def test_the_client_imports_neither_trio_nor_pyfuse3() -> None:
    script = "import sys, flyteplugins_vol.mount.client; print({'trio', 'pyfuse3', 'asyncio'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
