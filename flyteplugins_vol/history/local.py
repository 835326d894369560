"""A workspace's directory on local disk: index, Staging and the state that lets a later process resume it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from blake3 import blake3

from flyteplugins_vol.errors import LocalDirectoryError
from flyteplugins_vol.portable import make_workspace, private_directory, private_opener, sync_directory

LOCK_NAME = "lock"
"""Of the file in a workspace's directory that whoever has the workspace open holds, see `mount.workspace_lock`."""


@dataclass
class WorkspaceState:
    """What a resumed workspace must know. ``writer`` names this line of commits in refs and records."""

    volume_id: str
    writer: str
    base: str | None  # locator of the version that the index builds on
    seen: float = 0.0  # when that version's record was read or written, seconds since 1970
    first_pack: int = 1  # number in the index of the first pack that the base does not name
    volume_name: str = ""
    store_url: str = ""
    attempt: str | None = None  # of a task: see `attempt_of`
    index: str = ""  # the index file as that version has it: see `summary`; '' if the index builds on none
    merged: tuple[str, ...] = ()  # locators of versions whose changes were merged into it since that version
    clean: bool = False  # it ended in order, with nothing that is in no version
    format: int = 1


def attempt_of(produced_by: Mapping[str, Any] | None) -> str | None:
    """A name for one attempt at one task, equal for whoever runs in it; None outside of tasks."""
    if produced_by is None:
        return None
    return json.dumps({name: produced_by[name] for name in _ATTEMPT if name in produced_by})


def store_mark(store_url: str) -> str:
    """Eight hex digits for a store: a volume and its copy in another one have the same name and id."""
    return blake3(store_url.encode()).hexdigest()[:8]


_ATTEMPT = ("sdk", "org", "project", "domain", "run", "action", "task", "attempt")
_ASIDE = "~"  # before a number, at the end of a directory's name; no volume's name has it


class WorkspaceDirectory:
    def __init__(self, path: str) -> None:
        self.path = path
        self.index = os.path.join(path, "index.db")
        self.staging = os.path.join(path, "staging")
        self._state = os.path.join(path, "state.json")
        make_workspace(path)
        private_directory(path, ours=False)

    def load(self, volume_id: str, store_url: str) -> WorkspaceState | None:
        """The state of an earlier process with the same volume of the same store, if it left one.

        Raises `LocalDirectoryError` for a state that is not ours to take up, nor to throw away.
        """
        state = self.state()
        if state is not None and state.volume_id != volume_id:
            raise self._strange(f"it belongs to volume {state.volume_id}")
        if state is not None and state.store_url not in ("", store_url):  # of a copy: its packs are in that store alone
            raise self._strange(f"it belongs to the volume's copy in {state.store_url}")
        return state

    def state(self) -> WorkspaceState | None:
        """What an earlier process left here, of whatever volume. Raises `LocalDirectoryError`."""
        self._finish_setting_aside()
        try:
            with open(self._state, encoding="utf-8") as file:
                state = WorkspaceState(**json.load(file))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise self._strange(f"its state.json cannot be read: {error}") from error
        if state.format != 1:
            raise self._strange(f"its state.json has format {state.format}, and this release reads format 1")
        return state if os.path.exists(self.index) else None

    def _strange(self, why: str) -> LocalDirectoryError:
        return LocalDirectoryError(
            f"{self.path} holds a workspace that cannot be resumed: {why}",
            hint="remove that directory if nothing uncommitted in it is needed, or set FLYTE_VOL_CACHE_DIR to another",
        )

    def save(self, state: WorkspaceState) -> None:
        """Durable, and whole or not at all."""
        temporary = self._state + ".new"
        with open(temporary, "w", encoding="utf-8", opener=private_opener) as file:
            json.dump(asdict(state), file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self._state)
        sync_directory(self.path)

    def set_aside(self) -> WorkspaceDirectory:
        """Move the workspace into a directory of its own beside this one, whose lock is then somebody else's.

        A stop in the middle is made good by whoever looks here next: the state is moved first and the index last.
        """
        number = 1
        while os.path.lexists(f"{self.path}{_ASIDE}{number}"):
            number += 1
        aside = WorkspaceDirectory(f"{self.path}{_ASIDE}{number}")
        sync_directory(os.path.dirname(self.path))
        self._move("state.json", aside)
        self._move_rest(aside)
        return aside

    @property
    def is_aside(self) -> bool:
        """Whether it holds what was set aside."""
        return _ASIDE in os.path.basename(self.path)

    def _finish_setting_aside(self) -> None:
        if os.path.exists(self._state) or not os.path.exists(self.index):
            return
        number = 1
        while os.path.lexists(path := f"{self.path}{_ASIDE}{number}"):
            aside = WorkspaceDirectory(path)
            if os.path.exists(aside._state) and not os.path.exists(aside.index):
                self._move_rest(aside)
                return
            number += 1

    def _move_rest(self, aside: WorkspaceDirectory) -> None:
        for name in ("staging", "index.db-wal", "index.db"):
            self._move(name, aside)

    def _move(self, name: str, aside: WorkspaceDirectory) -> None:
        source = os.path.join(self.path, name)
        with suppress(FileNotFoundError):
            os.rename(source, os.path.join(aside.path, name))
            sync_directory(aside.path)
            sync_directory(self.path)

    def mark_clean(self) -> None:
        """Note that all that is here is in a version. What cannot be noted stays to be looked at."""
        with suppress(OSError, LocalDirectoryError):
            state = self.state()
            if state is not None:
                state.clean = True
                self.save(state)

    def clear(self) -> None:
        """Remove index, Staging and state; other files of the directory (log, socket, lock) stay."""
        # state first: without it nobody takes half a workspace for a whole one, also after a power cut
        if os.path.exists(self._state):
            os.unlink(self._state)
            sync_directory(self.path)
        for name in (self.index, self.index + "-wal", self.index + "-shm"):
            if os.path.exists(name):
                os.unlink(name)
        shutil.rmtree(self.staging, ignore_errors=True)

    def remove(self) -> None:
        """`clear`, and remove the directory with all that is in it. For whoever holds its lock, and for nobody else.

        The lock goes last: who waits for it, or comes now, makes the directory anew, and nothing in that is touched.
        """
        self.clear()
        with suppress(FileNotFoundError):
            for entry in list(os.scandir(self.path)):
                if entry.name == LOCK_NAME:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    with suppress(OSError):
                        os.unlink(entry.path)
        with suppress(OSError):
            os.unlink(os.path.join(self.path, LOCK_NAME))
            os.rmdir(self.path)  # unless somebody has come meanwhile
