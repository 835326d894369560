"""Every parser, some inputs of a seed each run, and every input that ever broke one.

``FLYTE_VOL_FUZZ=1000000`` gives each target that many (`tests/fuzz/run.py` is for longer; it reports counts).
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz.run import crash_of, fuzz
from tests.fuzz.targets import KERNELS, TARGETS, Target

CRASHES = Path(__file__).parent / "crashes"
BUDGET = int(os.environ.get("FLYTE_VOL_FUZZ", "0"))
QUICK = 2000  # of a target with share 1


@pytest.fixture(autouse=True)
def _no_kernel_left() -> Iterator[None]:
    yield
    KERNELS.close()


def _cases() -> Iterator[object]:
    for target in TARGETS:
        for path in sorted((CRASHES / target.name).glob("*")):
            yield pytest.param(target, path, id=f"{target.name}-{path.name}")


@pytest.mark.logs_warnings
@pytest.mark.parametrize(("target", "path"), list(_cases()))
def test_what_broke_it_once(target: Target, path: Path) -> None:
    assert crash_of(target, path.read_bytes()) is None


@pytest.mark.logs_warnings
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_seeds_are_no_crashes(target: Target) -> None:
    for seed in target.seeds():
        assert crash_of(target, seed) is None


@pytest.mark.logs_warnings
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_mutations_are_refused_or_read(target: Target) -> None:
    executions = BUDGET or max(20, int(QUICK * min(target.share, 2.0)))
    _, _, crashed = fuzz(target, random.Random(7), executions, float("inf"))
    assert not crashed, crash_of(target, crashed[0])
