"""The demo runs, and it would notice."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from volume_demo.basics import Tree, measure, size
from volume_demo.check import Report, compare

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    (source / "a" / "b").mkdir(parents=True)
    (source / "a" / "b" / "data").write_bytes(bytes(3 << 20))
    (source / "a" / "text").write_text("text")
    (source / "link").symlink_to("a/text")
    return source


def compared(source: Path) -> Report:
    report = Report()
    compare(source, source.parent, "copy", report)
    return report


def test_equal_trees_are_equal(source: Path) -> None:
    shutil.copytree(source, source.parent / "copy", symlinks=True)
    report = compared(source)
    assert (report.wrong, report.files, report.bytes) == ([], 2, (3 << 20) + 4)


def flip_last_byte(copy: Path) -> None:
    path = copy / "a" / "b" / "data"
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"x")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def other_target(copy: Path) -> None:
    (copy / "link").unlink()
    (copy / "link").symlink_to("a/b")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (flip_last_byte, "copy/a/b/data: bytes differ between 2097152 and 3145728"),
        (lambda copy: (copy / "a" / "text").unlink(), "copy/a/text: missing"),
        (lambda copy: (copy / "new").touch(), "copy/new: not in the source"),
        (lambda copy: (copy / "a" / "text").chmod(0o600), "copy/a/text: mode 100600 instead of 100644"),
        (lambda copy: os.truncate(copy / "a" / "b" / "data", 5), "copy/a/b/data: another modification time"),
        (lambda copy: os.utime(copy / "a" / "text", (0, 0)), "copy/a/text: another modification time"),
        (other_target, "copy/link: another target"),
    ],
)
def test_each_difference_is_noticed(source: Path, change: Callable[[Path], None], said: str) -> None:
    for path in source.rglob("*"):
        os.utime(path, (1_700_000_000, 1_700_000_000), follow_symlinks=False)
    (source / "a" / "text").chmod(0o644)
    shutil.copytree(source, source.parent / "copy", symlinks=True)
    change(source.parent / "copy")
    assert compared(source).wrong == [said]


def test_sizes_are_for_people() -> None:
    assert [size(n) for n in (0, 999, 1000, 12_345_678, 2_345_678_901)] == [
        "0 bytes",
        "999 bytes",
        "1 KB",
        "12.3 MB",
        "2.35 GB",
    ]


def test_measure_counts_files_and_bytes(source: Path) -> None:
    assert measure(source) == Tree(2, (3 << 20) + 4)


@pytest.mark.fuse
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_demo_runs(tmp_path: Path) -> None:
    command = [sys.executable, str(DEMO), "--work", str(tmp_path / "work"), "--size", "20"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Every byte is right" in done.stdout
    assert [entry.name for entry in (tmp_path / "work").iterdir()] == ["store"]
