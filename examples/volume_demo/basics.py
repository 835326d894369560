"""What every part of the demo uses: trees and their sizes, commands, and the one way to fail."""

from __future__ import annotations

import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path


class Failed(Exception):
    """Something is not as it must be."""


def require(fact: bool, otherwise: str) -> None:
    if not fact:
        raise Failed(otherwise)


def run(*command: str) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    require(done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}")


@dataclass(frozen=True)
class Tree:
    files: int = 0
    bytes: int = 0

    def __add__(self, other: Tree) -> Tree:
        return Tree(self.files + other.files, self.bytes + other.bytes)

    def __str__(self) -> str:
        return f"{self.files:,} {'file' if self.files == 1 else 'files'}, {size(self.bytes)}"


def measure(path: Path) -> Tree:
    """Regular files at and below ``path``, and their bytes."""
    files = total = 0
    for entry in (path, *path.rglob("*")):
        info = entry.lstat()
        if stat.S_ISREG(info.st_mode):
            files += 1
            total += info.st_size
    return Tree(files, total)


def size(count: float) -> str:
    for unit in ("bytes", "KB", "MB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit != "MB" else f"{count:,.1f} MB"
        count /= 1000
    return f"{count:,.2f} GB"
