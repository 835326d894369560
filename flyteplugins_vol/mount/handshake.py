"""How a daemon is told its mount, and how it says that it is ready: one socket pair, the daemon's standard input.

The client sends one line, ``{"spec": …, "client": PID or null}``: a pipe and not an argument or a variable, since the
spec may carry credentials. The daemon answers with lines: ``{"progress": {…}}`` as it goes, then ``{"ready": {…}}`` or
``{"error": {kind, message, hint}}``. The end of file without either means that it died.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from flyteplugins_vol.errors import VolumeError
from flyteplugins_vol.model import MountSpec
from flyteplugins_vol.mount.control import decode, encode


class Handshake:
    """The daemon's end."""

    def __init__(self, fd: int = 0) -> None:
        """Takes the connection over from ``fd``, which becomes /dev/null."""
        self._socket = socket.socket(fileno=os.dup(fd))
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, fd)
        os.close(null)

    def receive(self) -> tuple[MountSpec, int | None]:
        with self._socket.makefile("rb") as lines:
            message = decode(lines.readline())
        return MountSpec.from_wire(message["spec"]), message["client"]

    def progress(self, event: Mapping[str, Any]) -> None:
        self._send({"progress": event})

    def ready(self, details: Mapping[str, Any]) -> None:
        self._send({"ready": details})

    def error(self, error: VolumeError) -> None:
        self._send({"error": error.to_wire()})

    def _send(self, message: Mapping[str, Any]) -> None:
        with suppress(OSError):  # the client has gone; the daemon finds that out by itself
            self._socket.sendall(encode(message))


def greeting(spec: MountSpec, client: int | None) -> bytes:
    """The client's line."""
    return encode({"spec": spec.to_wire(), "client": client})
