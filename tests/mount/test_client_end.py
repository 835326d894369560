"""The end of the client's process, in whatever way, is the end of its mount."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from flyteplugins_vol.model import MountSpec
from flyteplugins_vol.mount import kernel_mounts
from tests.mount.conftest import (
    MEMORY_DAEMON,
    REPOSITORY,
    is_running,
)
from tests.waiting import wait_for

pytestmark = pytest.mark.fuse

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
        wait_for(lambda: not is_running(self.daemon))
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
    wait_for(lambda: not is_running(client.daemon))
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
    wait_for(lambda: kernel_mounts.mount_at(spec.mount_path) is not None)
    Path(spec.mount_path, "file").write_text("hello")
    client.kill()
    client.wait()
    wait_for(lambda: Path(spec.meta_dir, "closed").exists() and Path(spec.meta_dir, "closed").read_text())
    assert Path(spec.meta_dir, "closed").read_text() == "keep=True"
    wait_for(lambda: kernel_mounts.mount_at(spec.mount_path) is None)
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
    wait_for(lambda: not is_running(client.daemon))
    assert kernel_mounts.mount_at(spec.mount_path) is None
    client.process.kill()
    client.process.wait()
    for stream in (client.process.stdout, client.process.stderr):
        assert stream is not None
        stream.close()
