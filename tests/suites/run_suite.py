"""Run a third-party suite on a fresh mount: ``python tests/suites/run_suite.py SUITE [PATH]``.

None of a suite's code is in this repository: PATH says where you have it. ``--on DIRECTORY`` runs it there instead of
on a volume, to compare. The exit status is the suite's. Root's mounts let all users in, unless ``--only-me`` is given;
an ordinary user's are for that user. pjdfstest is about users, and wants root.

| suite     | PATH                                                      | where to get it                              |
|-----------|-----------------------------------------------------------|----------------------------------------------|
| pjdfstest | its directory, built: ``autoreconf -ifs``, ``configure``, ``make pjdfstest`` | github.com/pjd/pjdfstest  |
| fsx       | the program, of ``ltp/fsx.c``                             | git.kernel.org, project fs/xfs/xfstests-dev  |
| fsstress  | the program                                               | the same, or github.com/billziss-gh/secfs    |
| fio       | –                                                         | package fio                                  |
| stress-ng | –                                                         | package stress-ng                            |
| pyxattr   | its source directory; ``pip install pyxattr`` as well     | github.com/iustin/pyxattr                    |
| git       | its source directory, built: ``make``; ``--tests t0 t1``  | github.com/git/git                           |
| sqlite    | its build directory: ``make testfixture``; ``--tests veryquick`` | Debian's source package sqlite3 |
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[2]))


class Options(NamedTuple):
    path: Path | None
    operations: int
    seconds: int
    jobs: int
    tests: list[str]

    @property
    def given(self) -> Path:
        if self.path is None:
            sys.exit("this suite needs a PATH; --help says where to get it")
        return self.path.resolve()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("path", nargs="?", type=Path)
    parser.add_argument("--on", type=Path, help="a directory to run it in, instead of a volume")
    parser.add_argument("--operations", type=int, default=25_000, help="of fsx, in each mode, and of fsstress")
    parser.add_argument("--seconds", type=int, default=4, help="for each of stress-ng's stressors")
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--tests", nargs="+", default=[], help="which of git's (beginnings of names) or SQLite's")
    parser.add_argument("--passthrough", action="store_true", help="mount with passthrough")
    parser.add_argument("--only-me", action="store_true", help="mount without allow_other")
    arguments = parser.parse_args()
    options = Options(
        arguments.path, arguments.operations, arguments.seconds, arguments.jobs, arguments.tests
    )  # fmt: skip
    begun = time.monotonic()
    for_all = os.geteuid() == 0 and not arguments.only_me
    with _place(arguments.on, for_all=for_all, passthrough=arguments.passthrough) as place:
        failed = SUITES[arguments.suite](place, options)
    print(f"{arguments.suite}: {failed or 'no'} failed, {time.monotonic() - begun:.0f} s")
    return 1 if failed else 0


@contextlib.contextmanager
def _place(on: Path | None, *, for_all: bool, passthrough: bool) -> Iterator[Path]:
    """A new directory on a fresh volume, or in ``on``."""
    if on is not None:
        with tempfile.TemporaryDirectory(dir=on) as directory:
            os.chmod(directory, 0o755)
            yield Path(directory)
        return
    from flyteplugins_vol.io import Volume

    with tempfile.TemporaryDirectory(prefix="flytevol-suite-") as base:
        os.chmod(base, 0o755)
        volume = Volume.new("suite", f"file://{base}/store")
        root = volume.mount.sync(
            f"{base}/mnt", cache_dir=f"{base}/cache", meta_dir=f"{base}/meta", allow_other=for_all, xattr=True,
            passthrough=passthrough,
        )  # fmt: skip
        try:
            (root / "suite").mkdir()
            yield root / "suite"
            print("requests:", dict(sorted(volume.status()["requests"].items())))
        finally:
            volume.abandon.sync()


def _run(*command: object, cwd: Path, **env: object) -> int:
    words = list(map(str, command))
    print("$", *words, flush=True)
    settings = {name: str(value) for name, value in env.items()}
    return int(subprocess.run(words, cwd=cwd, env={**os.environ, **settings}).returncode != 0)


def pjdfstest(place: Path, options: Options) -> int:
    return _run("prove", "-Q", "-r", "-j", options.jobs, options.given / "tests", cwd=place)


FSX = {
    "default": [],
    "32 MiB": ["-l", 32 << 20, "-o", 256 << 10],
    "reopen": ["-c", 20],
    "no mmap": ["-R", "-W"],
    "O_DIRECT": ["-Z", "-R", "-W", "-r", 4096, "-w", 4096, "-t", 4096],
    "O_DIRECT, AIO": ["-Z", "-A", "-R", "-W", "-r", 4096, "-w", 4096, "-t", 4096],
    "AIO": ["-A"],
    "flush": ["-f"],
}


def fsx(place: Path, options: Options) -> int:
    failed = 0
    for seed, (mode, flags) in enumerate(FSX.items(), 1):
        if mode == "reopen" and os.geteuid() != 0:
            continue  # it drops the machine's caches
        print(f"fsx, {mode}:")
        failed += _run(options.given, "-q", "-N", options.operations, "-S", seed, *flags, f"file{seed}", cwd=place)
    return failed


def fsstress(place: Path, options: Options) -> int:
    return _run(options.given, "-d", place, "-n", options.operations * 2 // 5, "-p", options.jobs, "-s", 7, cwd=place)


FIO = {
    "read and write": ["--rw=randrw", "--bsrange=4k-64k", "--size=64m", "--ioengine=psync", "--numjobs=2"],
    "mmap": ["--rw=randrw", "--bs=4k", "--size=32m", "--ioengine=mmap", "--numjobs=2", "--fsync=200"],
    "direct": [
        "--rw=randwrite", "--bsrange=4k-128k", "--size=64m", "--ioengine=libaio", "--iodepth=8", "--direct=1",
    ],
    "append": ["--rw=write", "--bs=64k", "--size=256m", "--ioengine=psync", "--end_fsync=1"],
}  # fmt: skip


def fio(place: Path, options: Options) -> int:
    common = ["--verify=crc32c", "--verify_fatal=1", "--group_reporting", "--minimal", "--output=/dev/null"]
    return sum(
        _run("fio", f"--name={name.replace(' ', '-')}", *flags, *common, cwd=place) for name, flags in FIO.items()
    )


def stress_ng(place: Path, options: Options) -> int:
    return _run(
        "stress-ng", "--class", "filesystem", "--exclude", "binderfs", "--sequential", 1,
        "--timeout", f"{options.seconds}s", "--verify", "--temp-path", place, cwd=place,
    )  # fmt: skip


def pyxattr(place: Path, options: Options) -> int:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", options.given / "tests"]
    return _run(*command, cwd=options.given, TEST_DIR=place)


def git(place: Path, options: Options) -> int:
    """Each test makes its repositories in a directory of its own on the mount."""
    source = options.given / "t"
    scripts = [path.name for which in options.tests or ["t0", "t1"] for path in sorted(source.glob(f"{which}*.sh"))]
    command = ["prove", "-Q", "-j", options.jobs, "--exec", "sh", *scripts, "::", f"--root={place}"]
    # Not about files: servers on the network, and mail.
    return _run(*command, cwd=source, GIT_TEST_GIT_DAEMON="false", GIT_TEST_HTTPD="false", GIT_TEST_INSTALLED="")


def sqlite(place: Path, options: Options) -> int:
    tests = options.given.parent / "test"
    return sum(
        _run(options.given / "testfixture", tests / f"{name}.test", cwd=place)
        for name in options.tests or ["veryquick"]
    )


SUITES: dict[str, Callable[[Path, Options], int]] = {
    "pjdfstest": pjdfstest,
    "fsx": fsx,
    "fsstress": fsstress,
    "fio": fio,
    "stress-ng": stress_ng,
    "pyxattr": pyxattr,
    "git": git,
    "sqlite": sqlite,
}

if __name__ == "__main__":
    sys.exit(main())
