"""What the tools' cases work with, made or fetched once: wheels, and a repository with a history."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("numpy", "pandas")
FILES = 8_000
COMMITS = 20
CHANGED = 200  # files of each later commit


class InputMissingError(Exception):
    """A case cannot run here: its text says why."""


class Inputs:
    """Below a directory that outlives the run. Given paths are used as they are."""

    def __init__(self) -> None:
        self.directory = Path()
        self.given_repository: Path | None = None

    def wheels(self) -> list[Path]:
        """Wheels of the packages for this interpreter; from the package index the first time."""
        tag = f"{sys.implementation.cache_tag}-{sysconfig.get_platform()}"
        directory = self.directory / f"wheels-{tag}"
        if not directory.exists():
            fetch = ["download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", str(directory), *PACKAGES]
            done = subprocess.run([sys.executable, "-m", "pip", *fetch], capture_output=True, text=True)
            if done.returncode:
                raise InputMissingError(
                    f"no wheels in {directory}, and pip cannot fetch them: {done.stderr.strip()[-200:]}"
                )
        return sorted(directory.glob("*.whl"))

    def repository(self) -> Path:
        """A bare repository, the same on every machine: 8,000 files of source text, 20 commits."""
        if self.given_repository is not None:
            return self.given_repository.resolve()
        if not shutil.which("git"):
            raise InputMissingError("git is not installed")
        path = self.directory / "repository.git"
        if not path.exists():
            making = path.with_suffix(".new")
            shutil.rmtree(making, ignore_errors=True)
            subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", str(making)], check=True)
            stream = b"".join(history())
            subprocess.run(["git", "fast-import", "--quiet"], cwd=making, input=stream, check=True)
            subprocess.run(["git", "repack", "-adq"], cwd=making, check=True)
            making.rename(path)
        return path


INPUTS = Inputs()


def history() -> Iterator[bytes]:
    """The repository as a stream for `git fast-import`."""
    chance = random.Random(5)
    words = [f"{chance.getrandbits(40):x}" for _ in range(4000)]

    def text() -> bytes:
        lines = [" ".join(chance.choices(words, k=8)) for _ in range(min(2000, int(chance.lognormvariate(3.7, 1.0))))]
        return "\n".join(lines).encode()

    names = [f"part{number // 400:02}/module{number // 40:03}/file{number:04}.py" for number in range(FILES)]
    for commit in range(COMMITS):
        message = f"change {commit}"
        yield f"commit refs/heads/main\ncommitter bench <bench@example.org> {1_700_000_000 + commit} +0000\n".encode()
        yield f"data {len(message)}\n{message}\n".encode()
        for name in names if commit == 0 else chance.sample(names, CHANGED):
            body = text()
            yield f"M 100644 inline {name}\ndata {len(body)}\n".encode() + body + b"\n"
        yield b"\n"
