"""What the kernel is told of files that it is to read and write by itself; here it refuses one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from flyteplugins_vol.mount import wire_protocol as wire
from flyteplugins_vol.mount.wire_passthrough import WirePassthrough
from flyteplugins_vol.mount.wire_protocol import Open
from flyteplugins_vol.store.memory import MemoryStore
from tests.driven import Driven


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Driven]:
    volume = Driven.new(tmp_path, MemoryStore(f"memory://{uuid4().hex}"))
    yield volume
    volume.close()


@pytest.fixture
def deaf() -> Iterator[int]:
    """A device that knows nothing of this."""
    fd = os.open(os.devnull, os.O_RDWR)
    yield fd
    os.close(fd)


def opened(wire_passthrough: WirePassthrough, volume: Driven, ino: int, flags: int) -> tuple[bool, int]:
    """Whether the kernel is to go on by itself, and with what."""
    volume.workspace.open(ino, flags)
    _, told, number = wire.OPEN_OUT.unpack(wire_passthrough.opened(ino, flags))
    return bool(told & Open.PASSTHROUGH), number


@pytest.mark.logs_warnings
def test_a_refusal_is_not_for_what_the_kernel_has_already(
    volume: Driven, deaf: int, caplog: pytest.LogCaptureFixture
) -> None:
    """It refuses an open as well where it is told to use its cache of a file that it reads by itself."""
    wire_passthrough = WirePassthrough(volume.workspace, deaf)  # type: ignore[arg-type]
    first, second, third = (volume.create(name) for name in (b"1", b"2", b"3"))
    volume.workspace.open(first, os.O_RDWR)
    backing = volume.workspace.pass_through(first, os.O_RDWR)
    assert backing is not None
    backing.kernel_id = 7
    assert opened(wire_passthrough, volume, second, os.O_RDWR) == (False, 0)
    assert "all requests come here" in caplog.text
    assert opened(wire_passthrough, volume, first, os.O_RDONLY) == (True, 7)
    assert opened(wire_passthrough, volume, third, os.O_RDWR) == (False, 0)
    assert list(volume.workspace.passthrough.live) == [first]
