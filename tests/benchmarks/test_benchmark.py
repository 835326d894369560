"""The benchmark's own arithmetic, and that every case runs at a small scale."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from volume_bench.cases import CASES, Metric, Sample, write_large, write_small
from volume_bench.measure import Ledger, Written
from volume_bench.report import LOCAL, mount_growth, ratio
from volume_bench.runner import Result

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "volume_benchmark.py"


def result(metric: str, target: str, unit: str, *values: float) -> Result:
    return Result(metric, Metric(metric, unit), target, [Sample(value) for value in values])


def test_ratio_of_a_rate_and_of_a_duration_both_grow_with_speed() -> None:
    assert ratio(result("m", "volume", "MB/s", 50), result("m", LOCAL, "MB/s", 100)) == 0.5
    assert ratio(result("m", "volume", "s", 4), result("m", LOCAL, "s", 2)) == 0.5


def test_the_median_counts() -> None:
    assert result("m", "volume", "s", 9, 1, 2).median == 2


def test_mount_growth() -> None:
    results = [result("mount-100", "volume", "s", 0.5), result("mount-many", "volume", "s", 0.6)]
    assert mount_growth(results, "volume") == pytest.approx(1.2)
    assert mount_growth(results[:1], "volume") is None


def test_metrics_have_names_of_their_own() -> None:
    names = [name for case in CASES for name in case.metrics]
    assert len(names) == len(set(names))


def test_small_files_differ(tmp_path: Path) -> None:
    write_small(tmp_path / "small", 250)
    contents = {file.read_bytes() for file in (tmp_path / "small").rglob("*.txt")}
    assert len(contents) == 250
    assert {len(content) for content in contents} == {1024}


def test_large_file_repeats_no_piece(tmp_path: Path) -> None:
    write_large(tmp_path / "large", 20 << 20)
    data = (tmp_path / "large").read_bytes()
    assert len(data) == 20 << 20
    assert len({data[at : at + (1 << 20)] for at in range(0, len(data), 1 << 20)}) == 20


def test_ledger_sees_new_and_changed_objects(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    ledger = Ledger((tmp_path / "store").as_uri())
    (tmp_path / "store" / "a").write_bytes(b"12345")
    assert ledger.look() == Written(1, 5)
    assert ledger.look() == Written(0, 0)
    (tmp_path / "store" / "a").write_bytes(b"1234567")
    assert ledger.look() == Written(1, 7)


@pytest.mark.fuse
@pytest.mark.slow
def test_every_case_runs(tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    command = [sys.executable, str(BENCHMARK), "--work", str(tmp_path / "work"), "--json", str(output)]
    command += ["--size", "8", "--files", "300", "--many", "400", "--runs", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    seen = {entry["metric"] for entry in json.loads(output.read_text())["results"] if entry["target"] == "volume"}
    assert seen == {name for case in CASES for name in case.metrics}
    assert not list((tmp_path / "work").iterdir())
