"""What is on a disk after a power cut: any part of a recorded history, with what nobody synced lost in several ways."""

from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = 1
PAGE = 4096
LOSSES = ("none", "data", "all", "some")
"""What is lost of what was not synced: nothing (only processes died), bytes (names are kept, as by a file system with a
journal), bytes and names (all that POSIX allows), or any page by chance (names kept)."""

Entry = tuple[Any, ...]


@dataclass(frozen=True)
class Recording:
    """A directory whose history is written down while it is used."""

    mount: Path
    journal: Path

    def mark(self, text: str) -> None:
        """Put a word of the test's own between what went before and what comes after."""
        os.setxattr(self.mount, "user.mark", text.encode())

    def entries(self) -> list[Entry]:
        found: list[Entry] = []
        with open(self.journal, "rb") as file:
            while True:
                try:
                    found.append(pickle.load(file))
                except EOFError:
                    return found


@contextmanager
def recording(directory: Path) -> Iterator[Recording]:
    """Mount a recorder below a directory."""
    mount, journal = directory / "recorded", directory / "journal"
    mount.mkdir()
    program = str(Path(__file__).with_name("recorder.py"))
    server = subprocess.Popen([sys.executable, program, str(mount), str(journal)], stdout=subprocess.PIPE)
    assert server.stdout is not None
    try:
        assert server.stdout.readline() == b"mounted\n"
        yield Recording(mount, journal)
    finally:
        subprocess.run(["fusermount3", "-u", "-z", str(mount)], check=True)
        server.stdout.close()
        server.kill()  # a mount namespace that somebody made meanwhile has the mount as well, and would keep it going
        server.wait(20)


@dataclass
class _File:
    data: bytearray = field(default_factory=bytearray)
    synced: bytes = b""
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)  # writes, and (size, None): truncations


def disk_after(history: Sequence[Entry], loss: str, seed: int = 0) -> dict[bytes, bytes | None]:
    """Paths and contents (None: a directory) that are there when the power goes after ``history``."""
    files: dict[int, _File] = defaultdict(_File)
    names: dict[int, dict[bytes, int]] = {ROOT: {}}
    synced_names: dict[int, dict[bytes, int]] = {}
    for kind, ino, *rest in (entry for entry in history if entry[0] != "mark"):
        if kind == "make" and rest[0]:
            names[ino] = {}
        elif kind == "name":
            names[ino][rest[0]] = rest[1]
        elif kind == "unname":
            del names[ino][rest[0]]
        elif kind == "rename":
            names[rest[1]][rest[2]] = names[ino].pop(rest[0])
        elif kind == "fsync" and ino in names:
            synced_names[ino] = dict(names[ino])
        elif kind == "fsync":
            files[ino].synced = bytes(files[ino].data)
            files[ino].pending.clear()
        elif kind == "write":
            _apply(files[ino].data, rest[0], rest[1])
            files[ino].pending.append((rest[0], rest[1]))
        elif kind == "truncate":
            _apply(files[ino].data, rest[0], None)
            files[ino].pending.append((rest[0], None))
    directories = set(names)
    if loss == "all":
        names = {**synced_names, ROOT: names[ROOT]}  # the root is where it was mounted
    rng = random.Random(seed)
    contents = {ino: _left(file, loss, rng) for ino, file in files.items()}
    return dict(_walk(ROOT, b"", names, contents, directories))


def materialise(tree: dict[bytes, bytes | None], directory: Path) -> None:
    """Write such a disk out, parents first."""
    root = os.fsencode(directory)
    os.makedirs(root)
    for path, content in tree.items():
        where = os.path.join(root, path)
        if content is None:
            os.mkdir(where, 0o700)
        else:
            with open(where, "wb") as file:
                file.write(content)


def _left(file: _File, loss: str, rng: random.Random) -> bytes:
    if loss == "none":
        return bytes(file.data)
    if loss != "some":
        return file.synced
    data = bytearray(file.synced)
    for at, written in file.pending:
        if written is None:
            if rng.random() < 0.5:
                _apply(data, at, None)
            continue
        done = 0
        while done < len(written):
            size = min(len(written) - done, PAGE - (at + done) % PAGE)
            if rng.random() < 0.5:
                _apply(data, at + done, written[done : done + size])
            done += size
    return bytes(data)


def _apply(data: bytearray, at: int, written: bytes | None) -> None:
    if len(data) < at:
        data.extend(bytes(at - len(data)))
    if written is None:
        del data[at:]
    else:
        data[at : at + len(written)] = written


def _walk(
    ino: int, path: bytes, names: dict[int, dict[bytes, int]], contents: dict[int, bytes], directories: set[int]
) -> Iterator[tuple[bytes, bytes | None]]:
    for name, child in sorted(names.get(ino, {}).items()):
        where = os.path.join(path, name)
        if child in directories:
            yield where, None
            yield from _walk(child, where, names, contents, directories)
        else:
            yield where, contents.get(child, b"")
