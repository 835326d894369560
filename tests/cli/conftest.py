"""The command line in this process, with its streams as bytes; or as a process of its own where that matters."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flyteplugins_vol.cli.main import run
from flyteplugins_vol.io import Volume

COMMAND = [sys.executable, "-W", "error", "-m", "flyteplugins_vol.cli"]


@dataclass
class Done:
    """How a command ended."""

    code: int
    raw: bytes
    err: str

    @property
    def out(self) -> str:
        return self.raw.decode()

    @property
    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.out.splitlines()]

    @property
    def json(self) -> Any:
        return json.loads(self.raw)


class _Kept(io.BytesIO):
    """Can be read after whoever wrapped it has closed it."""

    def close(self) -> None:
        pass


class Cli:
    """``flytevol``, with a store and directories of its own."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.store = f"file://{root}/store"
        self._monkeypatch = monkeypatch
        self._processes: list[subprocess.Popen[bytes]] = []

    def __call__(self, *arguments: str | Path, stdin: bytes = b"", code: int = 0) -> Done:
        """Run a command in this process; it must end with ``code``."""
        out, err = _Kept(), _Kept()
        with self._monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
            patch.setattr(sys, "stdout", io.TextIOWrapper(out, "utf-8", write_through=True))
            patch.setattr(sys, "stderr", io.TextIOWrapper(err, "utf-8", write_through=True))
            found = run([str(argument) for argument in arguments])
        done = Done(found, out.getvalue(), err.getvalue().decode())
        assert done.code == code, (done.code, done.out, done.err)
        return done

    def process(self, *arguments: str | Path, begun_by: str = "", **options: Any) -> subprocess.Popen[bytes]:
        """Start a command as a process of its own, with pipes; it is killed when the test ends.

        ``begun_by``: lines of a shell, which becomes the command after them.
        """
        shell = ["sh", "-c", f'{begun_by}; exec "$@"', "sh"] if begun_by else []
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen([*shell, *COMMAND, *map(str, arguments)], **{**pipes, **options})
        self._processes.append(process)
        return process

    def end(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()

    def versions(self, name: str) -> list[dict[str, Any]]:
        """What `log` says, the newest first."""
        return self("log", name, "--json").json

    def volume(self, name: str, files: dict[str, bytes] | None = None) -> str:
        """Make a volume with these files; its locator."""
        volume = Volume.new(name, self.store)
        for path, data in (files or {}).items():
            volume.mkdir.sync(os.path.dirname(path) or "/", parents=True, exist_ok=True)
            volume.write_bytes.sync(path, data)
        return str(volume.finalize.sync().locator)


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cli]:
    monkeypatch.setenv("FLYTE_VOL_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("FLYTE_VOL_STORE", f"file://{tmp_path}/store")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    (tmp_path / "home").mkdir()
    made = Cli(tmp_path, monkeypatch)
    yield made
    made.end()


@pytest.fixture
def data(cli: Cli) -> str:
    """A volume of this name with some files; its locator."""
    return cli.volume("data", {"a": b"aa\n", "dir/b": b"b" * 2000, "dir/sub/c": b"c"})


@pytest.fixture
def three_versions(cli: Cli) -> None:
    """A volume ``data`` without ``dir`` in its second version, and with another content of ``a`` in its third."""
    cli.volume("data", {"a": b"aa", "dir/b": b"b" * 2000, "z\n": b"z"})
    cli("rm", "data", "dir", "-r")
    cli("put", "data", "-", "/a", "--force", stdin=b"another")
