from __future__ import annotations

import errno
import logging

import pytest

from flyteplugins_vol.errors import PackDamagedError
from flyteplugins_vol.mount import errnos

pytestmark = pytest.mark.logs_warnings


@pytest.mark.parametrize(
    ("error", "number", "logged"),
    [
        (OSError(errno.ENOTEMPTY, "not empty"), errno.ENOTEMPTY, ""),
        (OSError(errno.ENOENT, "gone", "/cache/ab"), errno.EIO, "local disk"),
        (OSError(errno.ENOSPC, "full", "/staging"), errno.ENOSPC, "local disk"),
        (OSError(errno.EDQUOT, "quota", "/staging"), errno.EDQUOT, "local disk"),
        (OSError("no number"), errno.EIO, "local disk"),
        (OSError(100_000, "absurd"), errno.EIO, "local disk"),
        (PackDamagedError("pack abc is damaged"), errno.EIO, "pack abc is damaged"),
        (ZeroDivisionError("a bug"), errno.EIO, "Traceback"),
        (MemoryError(), errno.EIO, "Traceback"),
    ],
)
def test_every_exception_has_an_errno(
    error: Exception, number: int, logged: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        try:
            raise error
        except Exception as raised:
            assert errnos.answer(raised, lambda: "read of inode 7") == number
    assert logged in caplog.text
    assert bool(caplog.text) == bool(logged)
    assert not logged or "inode 7" in caplog.text
