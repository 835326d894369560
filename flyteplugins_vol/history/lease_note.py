"""The state in which this machine last released a volume's lease: who takes it again need not look at it first."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import NamedTuple

from flyteplugins_vol.errors import LocalDirectoryError
from flyteplugins_vol.portable import private_directory, private_opener

_MOST = 256  # volumes; the older half goes when there are more


class Released(NamedTuple):
    """A lease that was released: its tag in the store, and its fence."""

    tag: str
    fence: int


class LeaseNote:
    """A small file for one volume. Only a hint, so nothing here raises: the store is always asked by the tag."""

    def __init__(self, directory: str, volume: str) -> None:
        """``volume``: a name of it that no volume of another store has."""
        self._directory = directory
        self._path = os.path.join(directory, f"{volume}.json")

    def take(self) -> Released | None:
        """What was noted, once only."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            with open(self._path, encoding="utf-8") as file:
                body = json.load(file)
            os.unlink(self._path)
            return Released(str(body["tag"]), int(body["fence"]))
        return None

    def write(self, released: Released) -> None:
        with suppress(OSError, LocalDirectoryError):
            private_directory(self._directory)
            self._trim()
            temporary = f"{self._path}.{os.getpid()}"
            with open(temporary, "w", encoding="utf-8", opener=private_opener) as file:
                json.dump(released._asdict(), file)
            os.replace(temporary, self._path)

    def _trim(self) -> None:
        paths = [entry.path for entry in os.scandir(self._directory)]
        if len(paths) >= _MOST:
            for path in sorted(paths, key=os.path.getmtime)[: _MOST // 2]:
                os.unlink(path)
