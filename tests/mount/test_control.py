"""The control socket against peers that do not keep to the protocol."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flyteplugins_vol.errors import UsageError
from flyteplugins_vol.mount import control
from flyteplugins_vol.mount.client import MountClient
from flyteplugins_vol.mount.control import LONGEST_REQUEST, DaemonGone, at_short_path, decode, encode, request
from tests.mount.conftest import Mount


@pytest.fixture
def client(mount: Mount) -> MountClient:
    return mount()


def exchange(client: MountClient, sent: bytes) -> list[dict[str, Any]]:
    """What the daemon answers to these bytes, before it or we hang up."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        with at_short_path(client._control) as short:
            connection.connect(short)
        try:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has refused before it had read all
        with connection.makefile("rb") as lines:
            return [json.loads(line) for line in lines]


@pytest.mark.fuse
@pytest.mark.parametrize(
    "sent",
    [
        b"\n",
        b"not json\n",
        b"[]\n",
        b"null\n",
        b"{}\n",
        b'{"request": "no-such"}\n',
        b'{"request": ["commit"]}\n',
        b'{"request": "commit", "message": 7}\n',
        b'{"request": "unmount"}\n',
        b'{"request": "unmount", "keep": "yes"}\n',
        b"\xff\xfe\n",
        b"[" * 100_000 + b"\n",
    ],
)
def test_a_malformed_request_gets_an_error(client: MountClient, sent: bytes) -> None:
    (answer,) = exchange(client, sent)
    assert answer["error"]["kind"] == "usage"
    assert client.status()["commits"] == 0


@pytest.mark.fuse
def test_a_line_without_end_is_cut_off(client: MountClient) -> None:
    try:
        (answer,) = exchange(client, b"x" * (LONGEST_REQUEST + 100_000))
        assert "too long" in answer["error"]["message"]
    except ConnectionResetError:
        pass  # with the rest unread, the kernel may drop the answer
    assert client.status()["commits"] == 0


@pytest.mark.fuse
def test_a_request_that_is_too_long_is_not_sent(client: MountClient) -> None:
    with pytest.raises(UsageError, match="is too long") as caught:
        client.commit("short", produced_by={"run": "x" * LONGEST_REQUEST})
    assert caught.value.hint
    assert client.status()["commits"] == 0


@pytest.mark.fuse
def test_half_a_request_and_nothing_at_all(client: MountClient) -> None:
    assert exchange(client, b"") == []
    assert exchange(client, b'{"request": "sta') == []
    assert client.status()["commits"] == 0


@pytest.mark.fuse
def test_a_connection_takes_one_request_after_the_other(client: MountClient) -> None:
    answers = exchange(client, b'{"request": "status"}\n{"request": "none"}\n{"request": "status"}\n')
    assert [next(iter(answer)) for answer in answers] == ["result", "error", "result"]


@pytest.mark.fuse
def test_a_client_that_hangs_up_during_a_commit_leaves_it_to_happen(client: MountClient) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        with at_short_path(client._control) as short:
            connection.connect(short)
        connection.sendall(encode({"request": "commit", "message": "unheard"}))
    assert client.commit("heard")["number"] == 2


@pytest.mark.fuse
def test_the_socket_is_private(client: MountClient) -> None:
    path = Path(client._control)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    client.unmount()
    assert not path.exists()


@pytest.mark.fuse
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_user_is_refused_also_when_the_files_let_in(client: MountClient) -> None:
    script = """
import os, socket, sys
os.chdir(os.path.dirname(sys.argv[1]))  # as root, who may go everywhere; the kernel notes who connects
os.setresuid(1000, 1000, 1000)
connection = socket.socket(socket.AF_UNIX)
connection.connect(os.path.basename(sys.argv[1]))
print(connection.makefile("rb").readline().decode())
"""
    path = Path(client._control)
    path.chmod(0o666)
    path.parent.chmod(0o755)
    command = [sys.executable, "-c", script, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    assert "belongs to another user" in done.stdout


@given(st.binary(max_size=200))
def test_decode_knows_two_outcomes(line: bytes) -> None:
    try:
        assert isinstance(decode(line), dict)
    except UsageError:
        pass


@given(st.dictionaries(st.text(), st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists)))
@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
def test_a_message_is_one_line_and_survives(message: dict[str, Any]) -> None:
    line = encode(message)
    assert line.count(b"\n") == 1
    assert decode(line) == message


def test_a_request_to_nobody(tmp_path: Path) -> None:
    with pytest.raises(DaemonGone):
        request(str(tmp_path / "none.sock"), {"request": "status"}, None, 1)


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    path = tmp_path / ("d" * 100) / ("e" * 100)
    path.mkdir(parents=True)
    return path


def serve_once(path: Path, answer: bytes) -> Callable[[], None]:
    listener = socket.socket(socket.AF_UNIX)
    with at_short_path(str(path)) as short:
        listener.bind(short)
    listener.listen()
    import threading

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(answer)
        listener.close()

    thread = threading.Thread(target=serve)
    thread.start()
    return thread.join


def test_a_socket_at_a_path_longer_than_the_kernel_takes(deep: Path) -> None:
    path = deep / "s.sock"
    assert len(str(path)) > 108
    join = serve_once(path, encode({"progress": {"n": 1}}) + encode({"result": {"ok": True}}))
    heard: list[Any] = []
    assert request(str(path), {"request": "x"}, heard.append, 10) == {"ok": True}
    assert heard == [{"n": 1}]
    join()


def test_a_daemon_that_hangs_up(deep: Path) -> None:
    join = serve_once(deep / "s.sock", encode({"progress": {}}))
    with pytest.raises(DaemonGone):
        request(str(deep / "s.sock"), {"request": "x"}, None, 10)
    join()


def test_the_path_of_a_socket() -> None:
    assert control.socket_path("/meta", 7) == "/meta/control/7.sock"
