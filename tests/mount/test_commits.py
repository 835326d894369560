"""Commits of a live mount: on request, by the clock and by size."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flyteplugins_vol.errors import (
    CommitError,
    UsageError,
)
from tests.mount.conftest import (
    Mount,
    committed,
)
from tests.waiting import wait_for

pytestmark = pytest.mark.fuse


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


def test_autocommit_comes_by_the_clock_when_there_is_a_change(mount: Mount) -> None:
    client = mount(autocommit=0.1)
    (client.mount_path / "file").write_text("hello")
    wait_for(lambda: client.status()["commits"] == 1)
    (client.mount_path / "file").write_text("again")
    wait_for(lambda: client.status()["commits"] >= 2)


def test_autocommit_comes_when_so_much_is_written(mount: Mount) -> None:
    client = mount(autocommit_bytes=1_000_000)
    (client.mount_path / "a").write_bytes(bytes(900_000))
    (client.mount_path / "b").write_bytes(bytes(200_000))
    wait_for(lambda: Path(client.spec.meta_dir, "commit-1.json").exists())
    (client.mount_path / "c").write_bytes(bytes(100_000))
    time.sleep(1.2)
    assert not Path(client.spec.meta_dir, "commit-2.json").exists()


def test_autocommit_comes_for_what_a_file_that_stays_open_has(mount: Mount) -> None:
    """As a log: the kernel keeps what is written, and the daemon hears of it only if it asks."""
    client = mount(autocommit=0.1)
    with (client.mount_path / "log").open("wb", buffering=0) as file:
        file.write(b"one")
        wait_for(lambda: client.status()["commits"] >= 1)
        before = client.status()["commits"]
        file.write(b" and two")
        wait_for(lambda: client.status()["commits"] > before)
        wait_for(lambda: committed(client, client.status()["commits"])["tree"] == {"log": "b25lIGFuZCB0d28="})


def test_autocommit_comes_once_for_each_change(mount: Mount) -> None:
    client = mount(autocommit=0.05)
    for number in range(1, 6):
        (client.mount_path / f"{number}").mkdir()
        wait_for(lambda number=number: client.status()["commits"] == number)
    assert client.status()["requests"].get("write", 0) == 0  # the barrier leaves no trace
