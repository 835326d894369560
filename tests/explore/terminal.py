"""A real terminal for tests: tmux, without anybody in front of it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Terminal:
    """A tmux server of its own with one window."""

    def __init__(self, directory: Path) -> None:
        self._root = directory
        self._socket = str(directory / f"tmux-{uuid.uuid4().hex[:6]}")

    def run(self, command: Sequence[str], *, cwd: Path | None = None, size: tuple[int, int] = (80, 24)) -> None:
        """Run it, with little else in its environment, in a shell that stays and tells the exit code."""
        environment = {
            "FLYTE_VOL_CACHE_DIR": str(self._root / "cache"), "FLYTE_VOL_STORE": f"file://{self._root}/store",
            "PYTHONPATH": str(ROOT), "TERM": "screen-256color", "PATH": os.environ["PATH"], "HOME": str(self._root),
            "LANG": "C.UTF-8", "TMPDIR": str(self._root),
        }  # fmt: skip
        variables = [f"{name}={value}" for name, value in environment.items()]
        line = f"{shlex.join(['env', '-i', *variables, *command])}; echo exit code $?; sleep 1000"
        width, height = map(str, size)
        where = str(cwd or self._root)
        self.tmux("new-session", "-d", "-x", width, "-y", height, "-c", where, "sh", "-c", line)

    def python(self, code: str, *arguments: str) -> None:
        """Run some Python, warnings as errors."""
        self.run([sys.executable, "-W", "error", "-c", code, *arguments])

    def tmux(self, *arguments: str) -> str:
        command = ["tmux", "-S", self._socket, "-f", "/dev/null", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout

    def keys(self, *keys: str) -> None:
        self.tmux("send-keys", *keys)

    @property
    def screen(self) -> str:
        return self.tmux("capture-pane", "-p")

    def until(self, holds: Callable[[str], bool]) -> str:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if holds(screen := self.screen):
                return screen
            time.sleep(0.05)
        raise AssertionError(f"it did not come to that:\n{self.screen}")

    def close(self) -> None:
        subprocess.run(["tmux", "-S", self._socket, "kill-server"], capture_output=True, check=False, timeout=20)
