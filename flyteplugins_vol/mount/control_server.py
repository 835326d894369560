"""The daemon's side of the control protocol (`control` has the format)."""

from __future__ import annotations

import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import trio

from flyteplugins_vol.errors import UsageError, VolumeError
from flyteplugins_vol.mount.control import LONGEST_REQUEST, at_short_path, decode, encode
from flyteplugins_vol.mount.protocols import Progress
from flyteplugins_vol.portable import private_directory

log = logging.getLogger(__name__)

Handler = Callable[[Mapping[str, Any], Progress], Awaitable[Mapping[str, Any]]]
"""Carry a request out and return its result; the progress function may be called from any thread."""

_PROGRESS_BACKLOG = 100  # progress that a slow client has not read; more is dropped, results never are
_CONNECTIONS = 64
_PEERCRED = struct.Struct("3i")


class Listening:
    """A socket at ``path`` that only this user can connect to. Who does is kept waiting until a `ControlServer` runs.

    Any thread: so it can be there before the mount is, and whoever sees the mount finds its daemon.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        private_directory(os.path.dirname(path))
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        with at_short_path(path) as short:
            if os.path.lexists(path):
                os.unlink(path)  # of a daemon that had our process id and was killed
            before = os.umask(0o177)
            try:
                self.socket.bind(short)
            finally:
                os.umask(before)
        self.socket.listen(_CONNECTIONS)

    def unlink(self) -> None:
        """Nobody finds it any more."""
        with suppress(OSError):
            os.unlink(self._path)

    def close(self) -> None:
        """Whoever waits is cut off."""
        self.unlink()
        self.socket.close()


class ControlServer:
    """Answers who connects to ``listening``. Whatever a peer sends, it gets an answer or is cut off."""

    def __init__(self, listening: Listening, handlers: Mapping[str, Handler]) -> None:
        self._listening = listening
        self._handlers = handlers
        self._answering = 0
        self._idle = trio.Event()
        self._closing = False

    async def run(self) -> None:
        """Answer requests until cancelled."""
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(self._listening.socket))
        await trio.serve_listeners(self._serve, [listener])

    async def close(self, seconds: float) -> None:
        """Send the answers that are still to be sent, within so many seconds, and remove the socket."""
        self._listening.unlink()
        self._closing = True
        if self._answering:
            with trio.move_on_after(seconds):
                await self._idle.wait()

    async def _serve(self, stream: trio.SocketStream) -> None:
        try:
            await self._converse(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client has gone; what it asked for is done all the same
        except Exception:
            log.exception("a control connection failed")

    async def _converse(self, stream: trio.SocketStream) -> None:
        if not _is_allowed(stream):
            await stream.send_all(encode(_refusal("this mount belongs to another user")))
            return
        pending = b""
        while True:
            line, found, rest = pending.partition(b"\n")
            if found:
                pending = rest
                await self._answer(stream, line)
            elif len(pending) > LONGEST_REQUEST:
                await stream.send_all(encode(_refusal("the request is too long")))
                return
            elif received := await stream.receive_some(65536):
                pending += received
            else:
                return

    async def _answer(self, stream: trio.SocketStream, line: bytes) -> None:
        self._answering += 1
        try:
            await _answer(stream, line, self._handlers)
        finally:
            self._answering -= 1
            if self._closing and not self._answering:
                self._idle.set()


async def _answer(stream: trio.SocketStream, line: bytes, handlers: Mapping[str, Handler]) -> None:
    """Send progress while the handler runs, then its result or its error."""
    token = trio.lowlevel.current_trio_token()
    send, receive = trio.open_memory_channel[Mapping[str, Any]](_PROGRESS_BACKLOG)

    def offer(event: Mapping[str, Any]) -> None:
        try:
            send.send_nowait(event)
        except (trio.WouldBlock, trio.ClosedResourceError, trio.BrokenResourceError):
            pass

    def progress(event: Mapping[str, Any]) -> None:
        token.run_sync_soon(offer, dict(event))

    async def forward() -> None:
        try:
            async for event in receive:
                await stream.send_all(encode({"progress": event}))
        except trio.BrokenResourceError:
            pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(forward)
        answer = await _outcome(line, handlers, progress)
        send.close()
    await stream.send_all(encode(answer))


async def _outcome(line: bytes, handlers: Mapping[str, Handler], progress: Progress) -> dict[str, Any]:
    try:
        message = decode(line)
        handler = handlers.get(str(message.get("request")))
        if handler is None:
            raise UsageError(f"no such request; there are {', '.join(handlers)}")
        return {"result": await handler(message, progress)}
    except VolumeError as error:
        return {"error": error.to_wire()}
    except Exception as error:
        log.exception("a control request failed")
        return {"error": VolumeError(f"the daemon failed: {error!r}", hint="its log has the traceback").to_wire()}


def _refusal(message: str) -> dict[str, Any]:
    return {"error": UsageError(message).to_wire()}


def _is_allowed(stream: trio.SocketStream) -> bool:
    credentials = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size)
    _, uid, _ = _PEERCRED.unpack(credentials)
    return uid in (os.geteuid(), 0)
