"""The explorer in a real terminal, and where there is none."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from flyteplugins_vol.errors import IndexDamagedError, UsageError
from flyteplugins_vol.explore import run
from flyteplugins_vol.explore.sources import Shown, resolve
from tests.explore.conftest import Cats, World, commit, put
from tests.explore.terminal import Terminal
from tests.waiting import wait_for

_COMMAND = (
    "import sys; from flyteplugins_vol.explore import run; sys.exit(run(sys.argv[1], store=None, from_file=None))"
)


@pytest.mark.slow
def test_in_a_real_terminal(cats: Cats, terminal: Terminal) -> None:
    terminal.python(_COMMAND, cats.locators[2])
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


_STORE_IS_AWAY = """
import sys, time
from flyteplugins_vol.explore import run
from flyteplugins_vol.store.local import LocalStore
LocalStore.get_range = lambda *_: time.sleep(1000)
sys.exit(run(sys.argv[1], store=None, from_file=None))
"""


@pytest.mark.slow
def test_quitting_does_not_wait_for_a_store_that_is_away(cats: Cats, terminal: Terminal) -> None:
    resolved = resolve(cats.locators[2], None, None, lambda _: None)
    assert isinstance(resolved, Shown)
    assert resolved.versions is not None
    assert resolved.record is not None
    resolved.versions.index(resolved.record)  # the index is on this machine, no file's content is
    resolved.versions.close()
    terminal.python(_STORE_IS_AWAY, cats.locators[2])
    terminal.until(lambda text: "README.md" in text)
    terminal.keys("Enter")
    terminal.until(lambda text: "reading 28 B" in text)
    start = time.monotonic()
    terminal.keys("q")
    terminal.until(lambda text: "exit code 0" in text)
    assert time.monotonic() - start < 10


@pytest.mark.slow
@pytest.mark.parametrize("end", ["SIGTERM", "the terminal is closed"])
def test_whatever_ends_it_leaves_nothing(world: World, terminal: Terminal, tmp_path: Path, end: str) -> None:
    volume = world.new()
    commit(volume)
    put(volume, "draft", b"not committed")
    volume.workspace.index.commit()  # as the mount does every second
    command = "import os, pathlib; pathlib.Path('pid').write_text(str(os.getpid())); " + _COMMAND
    terminal.python(command, volume.spec.meta_dir)
    terminal.until(lambda text: "workspace, not committed" in text and "draft" in text)
    assert len(list(tmp_path.glob("flytevol-explore-*"))) == 1  # a copy of the index, which goes on to change
    pid = int((tmp_path / "pid").read_text())
    if end == "SIGTERM":
        os.kill(pid, signal.SIGTERM)
        left = terminal.until(lambda text: "exit code 143" in text)
        assert "draft" not in left  # the screen is what it was
        assert "Traceback" not in left
    else:
        terminal.close()
        wait_for(lambda: not Path(f"/proc/{pid}").exists())
    assert list(tmp_path.glob("flytevol-explore-*")) == []


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
