"""A commit has what programs wrote through files that are still open, under the writeback cache."""

from __future__ import annotations

import base64
import mmap
import os
import threading
from pathlib import Path

import pytest

from flyteplugins_vol.errors import CommitError
from flyteplugins_vol.mount.client import MountClient
from tests.mount.conftest import DRIVERS, Mount, committed

pytestmark = pytest.mark.fuse


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def client(mount: Mount) -> MountClient:
    return mount()


def content(client: MountClient, number: int = 1) -> dict[str, bytes]:
    tree = committed(client, number)["tree"]
    return {path: base64.b64decode(data) for path, data in tree.items() if data is not None}


def test_an_open_file(client: MountClient) -> None:
    with (client.mount_path / "file").open("wb", buffering=0) as file:
        file.write(b"dirty")
        assert "write" not in client.status()["requests"], "the kernel holds it back: there is something to flush"
        client.commit()
        assert content(client) == {"file": b"dirty"}
        file.write(b" and more")
        client.commit()
        assert content(client, 2) == {"file": b"dirty and more"}


def test_a_shared_mapping_whose_file_is_closed(client: MountClient) -> None:
    path = client.mount_path / "file"
    path.write_bytes(bytes(8192))
    with path.open("r+b") as file:
        mapping = mmap.mmap(file.fileno(), 8192)
    mapping[4096:4101] = b"dirty"
    client.commit()
    assert content(client)["file"][4096:4101] == b"dirty"
    mapping[0:5] = b"again"
    client.commit()
    assert content(client, 2)["file"][:5] == b"again"
    mapping.close()


def test_an_unlinked_file(client: MountClient) -> None:
    path = client.mount_path / "file"
    with path.open("wb", buffering=0) as file:
        ino = os.fstat(file.fileno()).st_ino
        path.unlink()
        file.write(b"nameless")
        client.commit()
    published = committed(client)
    assert published["tree"] == {}
    assert base64.b64decode(published["contents"][str(ino)]) == b"nameless"


@pytest.mark.parametrize("mode", [0o444, 0o222, 0o000])
def test_a_file_that_nobody_may_open(client: MountClient, mode: int) -> None:
    fd = os.open(client.mount_path / "file", os.O_CREAT | os.O_WRONLY, mode)
    os.write(fd, b"dirty")
    client.commit()
    os.close(fd)
    assert content(client) == {"file": b"dirty"}


def test_many_open_files_cost_no_fdatasync_each(client: MountClient) -> None:
    files = [(client.mount_path / f"{number}").open("wb", buffering=0) for number in range(200)]
    for number, file in enumerate(files):
        file.write(b"%d" % number)
    client.commit()
    assert content(client) == {f"{number}": b"%d" % number for number in range(200)}
    assert "fsync" not in client.status()["requests"]
    for file in files:
        file.close()


def test_a_programs_own_fsync_is_one(client: MountClient) -> None:
    with (client.mount_path / "file").open("wb", buffering=0) as file:
        file.write(b"x")
        os.fsync(file.fileno())
    fd = os.open(client.mount_path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    assert client.status()["requests"]["fsync"] == 2


def test_the_secret_names_are_not_listed_and_not_kept(client: MountClient) -> None:
    with (client.mount_path / "file").open("wb", buffering=0) as file:
        file.write(b"x")
        client.commit()
        assert os.listdir(client.mount_path) == ["file"]
        assert not (client.mount_path / f".flytevol-{os.fstat(file.fileno()).st_ino}").exists()


def test_writers_that_never_stop_do_not_stop_a_commit(client: MountClient) -> None:
    stop = threading.Event()

    def write(number: int) -> None:
        with (client.mount_path / f"{number}").open("wb", buffering=0) as file:
            while not stop.is_set():
                file.write(b"x" * 10_000)
                (client.mount_path / f"{number}-renamed").touch()
                os.replace(client.mount_path / f"{number}-renamed", client.mount_path / f"{number}-name")

    writers = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for writer in writers:
        writer.start()
    try:
        for number in range(1, 4):
            assert client.commit()["number"] == number
    finally:
        stop.set()
        for writer in writers:
            writer.join()


def test_a_failed_commit_thaws(client: MountClient) -> None:
    (client.mount_path / "file").write_text("before")
    with pytest.raises(CommitError, match="as asked"):
        client.commit("fail")
    (client.mount_path / "file").write_text("after")
    client.commit()
    assert content(client) == {"file": b"after"}
    assert "Traceback" not in Path(client.spec.log_path or "").read_text()
