"""A workspace's directory on local disk: index, Staging and the state that lets a later process resume it."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass

from flyteplugins_vol.errors import LocalDirectoryError


@dataclass
class WorkspaceState:
    """What a resumed workspace must know. ``writer`` names this line of commits in refs and records."""

    volume_id: str
    writer: str
    base: str | None  # locator of the version that the index builds on
    seen: float = 0.0  # when that version's record was read or written, seconds since 1970
    first_pack: int = 1  # number in the index of the first pack that the base does not name
    format: int = 1


class WorkspaceDirectory:
    def __init__(self, path: str) -> None:
        self.path = path
        self.index = os.path.join(path, "index.db")
        self.staging = os.path.join(path, "staging")
        self._state = os.path.join(path, "state.json")
        os.makedirs(path, mode=0o700, exist_ok=True)

    def load(self, volume_id: str) -> WorkspaceState | None:
        """The state of an earlier process with the same volume, if it left one.

        Raises `LocalDirectoryError` for a state that is not ours to take up, nor to throw away.
        """
        try:
            with open(self._state, encoding="utf-8") as file:
                state = WorkspaceState(**json.load(file))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise self._strange(f"its state.json cannot be read: {error}") from error
        if state.format != 1:
            raise self._strange(f"its state.json has format {state.format}, and this release reads format 1")
        if state.volume_id != volume_id:
            raise self._strange(f"it belongs to volume {state.volume_id}")
        return state if os.path.exists(self.index) else None

    def _strange(self, why: str) -> LocalDirectoryError:
        return LocalDirectoryError(
            f"{self.path} holds a workspace that cannot be resumed: {why}",
            hint="give another meta_dir=, or remove that directory if nothing uncommitted in it is needed",
        )

    def save(self, state: WorkspaceState) -> None:
        """Durable, and whole or not at all."""
        temporary = self._state + ".new"
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(asdict(state), file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self._state)
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def clear(self) -> None:
        """Remove index, Staging and state; other files of the directory (log, socket, lock) stay."""
        # state first: without it nobody takes half a workspace for a whole one
        for name in (self._state, self.index, self.index + "-wal", self.index + "-shm"):
            if os.path.exists(name):
                os.unlink(name)
        shutil.rmtree(self.staging, ignore_errors=True)
