"""Runs in a process of its own: load a version by its locator, mount it read-only, compare every byte with the source.

    python check.py LOCATOR SOURCE WORK

Prints a report as JSON; the exit status is 1 when anything differs.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from flyteplugins_vol.errors import VolumeError
from flyteplugins_vol.io import Volume
from volume_demo.basics import Tree, measure

CHUNK = 1 << 20
COPIES = ("tree", "unpacked/tree")


@dataclass
class Report:
    lines: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    files: int = 0
    bytes: int = 0

    def found(self, what: str, tree: Tree, seconds: float) -> None:
        self.files += tree.files
        self.bytes += tree.bytes
        self.lines.append(f"{what}: {tree} equal, read at {tree.bytes / seconds / 1e6:,.0f} MB/s")


def main(locator: str, source: Path, work: Path) -> int:
    report = Report()
    try:
        check(locator, source, work, report)
    except VolumeError as error:
        report.wrong.append(f"{type(error).__name__}: {error}")
    print(json.dumps(asdict(report)))
    return 1 if report.wrong else 0


def check(locator: str, source: Path, work: Path, report: Report) -> None:
    began = time.perf_counter()
    volume = Volume.from_locator.sync(locator)
    path = volume.mount.sync(work / "mnt-check", meta_dir=work / "meta-check", cache_dir=work / "cache-check")
    try:
        report.lines.append(f"mounted in {time.perf_counter() - began:.2f} s")
        report.lines.append(f"“{volume.message}”: {measure(path)}")
        for copy in COPIES:
            compare(source, path, copy, report)
        compare_tar(path / "tree.tar", source, report)
        refuses_writes(path, report)
    finally:
        volume.unmount.sync()


def compare(source: Path, volume: Path, copy: str, report: Report) -> None:
    """Names, types, modes, times, targets and every byte of two trees."""
    began = time.perf_counter()
    ours = {str(path.relative_to(source)): path for path in source.rglob("*")}
    theirs = {str(path.relative_to(volume / copy)): path for path in (volume / copy).rglob("*")}
    report.wrong += [f"{copy}/{name}: missing" for name in sorted(ours.keys() - theirs.keys())]
    report.wrong += [f"{copy}/{name}: not in the source" for name in sorted(theirs.keys() - ours.keys())]
    files = total = 0
    for name in sorted(ours.keys() & theirs.keys()):
        if difference := differs(ours[name], theirs[name]):
            report.wrong.append(f"{copy}/{name}: {difference}")
        elif stat.S_ISREG((info := ours[name].lstat()).st_mode):
            files += 1
            total += info.st_size
    report.found(copy, Tree(files, total), time.perf_counter() - began)


def differs(ours: Path, theirs: Path) -> str:
    """What is wrong with the copy; empty when nothing is."""
    one, two = ours.lstat(), theirs.lstat()
    if one.st_mode != two.st_mode:
        return f"mode {two.st_mode:o} instead of {one.st_mode:o}"
    if stat.S_ISLNK(one.st_mode):
        return "" if os.readlink(ours) == os.readlink(theirs) else "another target"
    if not stat.S_ISREG(one.st_mode):
        return ""
    if one.st_mtime_ns // 10**9 != two.st_mtime_ns // 10**9:  # a tar file holds whole seconds
        return "another modification time"
    if one.st_size != two.st_size:
        return f"{two.st_size} bytes instead of {one.st_size}"
    return other_bytes(ours, theirs)


def other_bytes(ours: Path, theirs: Path) -> str:
    with ours.open("rb") as one, theirs.open("rb") as two:
        offset = 0
        while piece := one.read(CHUNK):
            if piece != two.read(CHUNK):
                return f"bytes differ between {offset} and {offset + len(piece)}"
            offset += len(piece)
    return ""


def compare_tar(tar: Path, source: Path, report: Report) -> None:
    began = time.perf_counter()
    command = ["tar", "-C", str(source.parent), "--compare", "-f", str(tar)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        report.wrong += [f"tree.tar: {line}" for line in (done.stdout + done.stderr).splitlines()]
    report.found("tree.tar (tar --compare)", Tree(1, tar.stat().st_size), time.perf_counter() - began)


def refuses_writes(path: Path, report: Report) -> None:
    try:
        (path / "tree" / "new").write_text("x")
    except OSError as error:
        report.lines.append(f"a write to it is refused: {error.strerror}")
    else:
        report.wrong.append("a version took a write")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
