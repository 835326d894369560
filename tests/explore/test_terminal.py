"""The explorer in a real terminal, and where there is none."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flyteplugins_vol.errors import IndexDamagedError, UsageError
from flyteplugins_vol.explore import run
from tests.explore.conftest import Cats

ROOT = Path(__file__).parents[2]
_COMMAND = (
    "import sys; from flyteplugins_vol.explore import run; sys.exit(run(sys.argv[1], store=None, from_file=None))"
)


class Terminal:
    """A tmux server of its own with one window of 80 by 24."""

    def __init__(self, directory: Path) -> None:
        self._socket = str(directory / f"tmux-{uuid.uuid4().hex[:6]}")

    def tmux(self, *arguments: str) -> str:
        command = ["tmux", "-S", self._socket, "-f", "/dev/null", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout

    def start(self, *command: str) -> None:
        """Run it in a shell that stays and tells the exit code."""
        line = f"{shlex.join(command)}; echo exit code $?; sleep 1000"
        self.tmux("new-session", "-d", "-x", "80", "-y", "24", "sh", "-c", line)

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


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    if shutil.which("tmux") is None:
        pytest.skip("tmux is missing: install the package tmux")
    terminal = Terminal(tmp_path)
    yield terminal
    terminal.close()


@pytest.mark.slow
def test_in_a_real_terminal(cats: Cats, terminal: Terminal) -> None:
    environment = {
        "FLYTE_VOL_CACHE_DIR": str(cats.world.root / "cache"), "PYTHONPATH": str(ROOT), "TERM": "screen-256color",
        "PATH": os.environ["PATH"], "HOME": str(cats.world.root), "LANG": "C.UTF-8",
    }  # fmt: skip
    variables = [f"{name}={value}" for name, value in environment.items()]
    terminal.start("env", "-i", *variables, sys.executable, "-W", "error", "-c", _COMMAND, cats.locators[2])
    screen = terminal.until(lambda text: "README.md" in text and "online" in text)
    assert "odd names" in screen
    terminal.keys("Enter")
    terminal.until(lambda text: "Pictures of *cats*." in text)
    terminal.keys("d")
    terminal.until(lambda text: "~ /train.py" in text)
    terminal.keys("1", "[")
    terminal.until(lambda text: "epoch 1" in text)
    terminal.tmux("resize-window", "-x", "200", "-y", "50")
    terminal.until(lambda text: "README.md" in text and max(map(len, text.splitlines())) > 120)
    terminal.keys("/")
    terminal.until(lambda text: "part of a name" in text)
    terminal.keys("one")
    terminal.until(lambda text: "1 found" in text)
    terminal.keys("Enter")
    terminal.until(lambda text: "1 found" not in text and "/images/bengal/one.png" in text)
    terminal.keys("q")
    assert "exit code 0" in terminal.until(lambda text: "exit code" in text)
    assert "Traceback" not in terminal.screen


def test_without_a_terminal(cats: Cats) -> None:
    with pytest.raises(UsageError, match="needs a terminal") as caught:
        run("cats", store=None, from_file=None)
    assert "flytevol ls" in caught.value.hint


def test_bad_calls(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no store type 'redis'"):
        run(None, store=None, from_file="x", store_type="redis")
    with pytest.raises(UsageError, match="give one of them") as caught:
        run("cats", store=None, from_file="x")
    assert "two things" in caught.value.message
    with pytest.raises(UsageError, match="there is no file"):
        run(None, store=None, from_file=str(tmp_path / "nothing"))
    (tmp_path / "notes.txt").write_text("no index")
    with pytest.raises(IndexDamagedError, match="not an index of a volume"):
        run(None, store=None, from_file=str(tmp_path / "notes.txt"))


def test_the_plug_in_of_flytes_command_line(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from flyteplugins_vol.explore.flyte_command import explore

    assert "--op-name" in CliRunner().invoke(explore, ["volume", "--help"]).output
    nothing = CliRunner().invoke(explore, ["volume"])
    assert nothing.exit_code == 1
    assert "give a run, or --from-file" in nothing.output
    (tmp_path / "notes.txt").write_text("no index")
    wrong = CliRunner().invoke(explore, ["volume", "--from-file", str(tmp_path / "notes.txt")])
    assert "not an index of a volume" in wrong.output
