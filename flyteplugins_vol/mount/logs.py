"""The daemon's log: lines on stderr, which is a file of mode 0600, without the values of any credential."""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from flyteplugins_vol.portable import OPEN_FLAGS, is_at

_FORMAT = "%(asctime)s %(levelname)s %(threadName)s %(name)s: %(message)s"
_SHORTEST_SECRET = 8  # shorter values (a region, "true") say nothing, and would be found in other words
_OPEN_NAMES = ("endpoint", "region", "url", "style", "path", "timeout", "account_name")


def set_up(secret_options: Mapping[str, Any]) -> None:
    """Log to stderr from now on, with every value in ``secret_options`` (nested) replaced where it turns up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Redacting(_secrets(secret_options)))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    faulthandler.enable(sys.stderr)


def open_log(path: str) -> int:
    """The log, for appending; it is this user's alone. Raises OSError, also where there is a link."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | OPEN_FLAGS, 0o600)


def stay_at(path: str) -> None:
    """Go on in the file of this name, should the one that stdout and stderr lead to have been removed."""
    if is_at(sys.stderr.fileno(), path):
        return
    fd = open_log(path)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(fd, stream.fileno())
    os.close(fd)


class _Redacting(logging.Formatter):
    def __init__(self, secrets: Iterable[str]) -> None:
        super().__init__(_FORMAT)
        self._secrets = sorted(set(secrets), key=len, reverse=True)

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        for secret in self._secrets:
            line = line.replace(secret, "***")
        return line


def _secrets(options: Mapping[str, Any]) -> Iterator[str]:
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _secrets(value)  # pyright: ignore[reportUnknownArgumentType]
        elif isinstance(value, str) and len(value) >= _SHORTEST_SECRET and not name.endswith(_OPEN_NAMES):
            yield value
