"""The work itself: files written, read and looked at, by the same code on every target."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

MIB = 1 << 20
PAGE = 4096
SMALL = 1024
PER_DIRECTORY = 100


def write_large(path: Path, size: int) -> None:
    """Bytes that neither compress nor repeat, here or in an earlier run: each MiB of the noise gets its number."""
    noise = bytearray(os.urandom(4 * MIB))
    pieces = [memoryview(noise)[at : at + MIB] for at in range(0, len(noise), MIB)]
    with path.open("wb", buffering=0) as file:
        for number in range(size // MIB):
            piece = pieces[number % len(pieces)]
            piece[:8] = number.to_bytes(8, "big")
            file.write(piece)


def read_large(path: Path) -> None:
    buffer = bytearray(MIB)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def write_small(path: Path, files: int) -> None:
    """Files of 1 KB, no two of them equal, here or in an earlier run; 100 to a directory."""
    noise = os.urandom(64 * SMALL)
    path.mkdir()
    for number in range(files):
        directory = f"{path}/{number // PER_DIRECTORY:05}"
        if number % PER_DIRECTORY == 0:
            os.mkdir(directory)
        at = number % (63 * SMALL)
        descriptor = os.open(f"{directory}/{number:07}.txt", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.write(descriptor, number.to_bytes(8, "big") + noise[at : at + SMALL - 8])
        os.close(descriptor)


def read_small(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    assert len(os.read(descriptor, 2 * SMALL)) == SMALL
    os.close(descriptor)


def rewrite_ten(path: Path) -> None:
    """New content for ten of the files below ``path``, far from one another."""
    files = sorted(file for file, _ in entries(path))
    for file in files[5 :: max(1, len(files) // 10)][:10]:
        Path(file).write_bytes(os.urandom(SMALL))


def entries(path: Path | str) -> Iterator[tuple[str, int]]:
    """Every file below ``path`` and its size, each stat'ed, as `find -size` would do it."""
    with os.scandir(path) as directory:
        for entry in directory:
            if entry.is_dir(follow_symlinks=False):
                yield from entries(entry.path)
            else:
                yield entry.path, entry.stat(follow_symlinks=False).st_size


def count(path: Path, size: int) -> int:
    """How many files of ``size`` bytes there are below ``path``, after a look at each."""
    return sum(1 for _, found in entries(path) if found == size)
