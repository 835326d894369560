"""Programs as people run them: `pip install` from local wheels, `git clone` of a large local repository."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from volume_bench.case import Goal, Metric, Sample, Samples, Scale, case
from volume_bench.cpu import CpuClock
from volume_bench.inputs import INPUTS
from volume_bench.targets import Target

PIP = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-cache-dir"]
GIT = ["git", "-c", "gc.auto=0", "-c", "maintenance.auto=false", "clone", "--quiet"]


@case({"pip-install": Metric("pip install of numpy and pandas from wheels", "s", Goal(local=0.5, peer=3))}, most_runs=3)
def pip_install(target: Target, scale: Scale) -> Samples:
    wheels = INPUTS.wheels()
    return {"pip-install": _timed(target, lambda path: [*PIP, "--target", str(path / "site"), *map(str, wheels)])}


@case({"git-clone": Metric("git clone of a repository of some 8,000 files", "s", Goal(local=0.5, peer=3))}, most_runs=3)
def git_clone(target: Target, scale: Scale) -> Samples:
    repository = INPUTS.repository()
    return {"git-clone": _timed(target, lambda path: [*GIT, "--no-local", str(repository), str(path / "clone")])}


def _timed(target: Target, command: Callable[[Path], list[str]]) -> Sample:
    clock = CpuClock()
    with target.empty() as path:
        arguments = command(path)
        with clock.running():
            subprocess.run(arguments, check=True, stdin=subprocess.DEVNULL)
    return Sample.duration(clock)
