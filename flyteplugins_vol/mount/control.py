"""The control protocol: how the daemon of a mount is asked for something. This is its format and its client side.

A unix socket, ``<meta_dir>/control/<pid>.sock``, of mode 0600 in a directory of mode 0700; the daemon also checks the
peer's user. Each message is one line of JSON. A request is ``{"request": NAME, …}``; the answer is any number of
``{"progress": {…}}`` and then ``{"result": {…}}`` or ``{"error": {kind, message, hint}}`` (`VolumeError.to_wire`). A
connection takes one request after the other; several connections are served at once.

| request | fields                 | result                                                     |
|---------|------------------------|------------------------------------------------------------|
| status  |                        | pid, mount_path, requests, and what the session tells       |
| commit  | message: str or null   | the version record                                         |
| refresh | to: locator or null    | the record of the version shown; null: the newest one      |
| unmount | keep: bool             | {} when unmounted; keep: what is not committed stays local |
|         | exit: bool, optional   | with keep: a mount with autocommit commits first           |
| abandon |                        | {} when unmounted; what is not committed is dropped        |
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from flyteplugins_vol.errors import UsageError, from_wire
from flyteplugins_vol.history.record import check_message
from flyteplugins_vol.mount.protocols import Progress

LONGEST_REQUEST = 1 << 20  # bytes of a line; a message to a commit is all that can be long

_SOCKETS = "control"


def socket_path(meta_dir: str, pid: int) -> str:
    return os.path.join(meta_dir, _SOCKETS, f"{pid}.sock")


def encode(message: Mapping[str, Any]) -> bytes:
    """One line; JSON escapes every newline inside."""
    return json.dumps(message, separators=(",", ":"), default=str).encode() + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """The object in a line; UsageError for anything else."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"not a line of JSON: {error}") from None
    if not isinstance(message, dict):
        raise UsageError("not a JSON object")
    return message  # pyright: ignore[reportUnknownVariableType]


class DaemonGone(Exception):
    """The daemon did not answer: it has ended, or is about to."""


def request(path: str, message: Mapping[str, Any], progress: Progress | None, timeout: float | None) -> dict[str, Any]:
    """Send one request and wait for its result, at most ``timeout`` seconds without any word from the daemon.

    Raises the `VolumeError` that the daemon answers with, `UsageError` for a request that it would not take,
    `DaemonGone`, or TimeoutError.
    """
    if isinstance(text := message.get("message"), str):
        check_message(text)
    line = encode(message)
    if len(line) > LONGEST_REQUEST:  # the daemon would cut us off while it is sent, as if it died
        raise UsageError(f"a request of {len(line)} bytes is too long", hint=f"{LONGEST_REQUEST} are the most")
    try:
        with _connected(path, timeout) as connection, connection.makefile("rb") as lines:
            connection.sendall(line)
            for answered in lines:
                answer = decode(answered)
                if "result" in answer:
                    return answer["result"]
                if "error" in answer:
                    raise from_wire(answer["error"])
                if progress is not None:
                    progress(answer.get("progress", {}))
    except TimeoutError:
        raise
    except OSError as error:
        raise DaemonGone(str(error)) from error
    raise DaemonGone("the connection ended without an answer")


def _connected(path: str, timeout: float | None) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        connection.settimeout(timeout)
        with at_short_path(path) as short:
            connection.connect(short)
    except BaseException:
        connection.close()
        raise
    return connection


class at_short_path:  # noqa: N801 - used as a function
    """A name for a socket's path that fits in the 107 bytes that the kernel takes, by way of its directory."""

    def __init__(self, path: str) -> None:
        self._directory, self._name = os.path.split(path)

    def __enter__(self) -> str:
        self._fd = os.open(self._directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._fd}/{self._name}"

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            os.close(self._fd)
