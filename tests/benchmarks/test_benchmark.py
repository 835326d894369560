"""The benchmark's own arithmetic, and that every case runs at a small scale."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

from flyteplugins_vol.store.fetch import Fetcher
from flyteplugins_vol.workspace import crew
from volume_bench.case import Goal, Metric, Sample
from volume_bench.cases import CASES
from volume_bench.columns import FAST, LOCAL, VOLUME
from volume_bench.cpu import CpuClock
from volume_bench.direct import GETS_AT_ONCE, PUTS_AT_ONCE
from volume_bench.goals import OBSTORE, Row
from volume_bench.measure import MARK, Ledger, Traffic
from volume_bench.peer import PEER
from volume_bench.results import Report
from volume_bench.runner import Result
from volume_bench.work import write_large, write_small

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def result(target: str, unit: str, *values: float, goal: Goal | None = None, traffic: Traffic | None = None) -> Result:
    metric = Metric("m", unit, goal or Goal(), Goal(default=1.5))
    return Result("m", metric, target, [Sample(value, traffic, 3) for value in values])


def told(row: Row, target: str = VOLUME) -> dict[str, bool]:
    return {verdict.text: verdict.met for verdict in row.verdicts(target)}


def test_share_of_a_rate_and_of_a_duration_both_grow_with_speed() -> None:
    assert Row([result(VOLUME, "MB/s", 50), result(LOCAL, "MB/s", 100)]).share(VOLUME, LOCAL) == 0.5
    assert Row([result(VOLUME, "s", 4), result(LOCAL, "s", 2)]).share(VOLUME, LOCAL) == 0.5
    assert Row([result(VOLUME, "s", 4)]).share(VOLUME, LOCAL) is None


def test_a_clock_sees_who_used_the_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each works until it has used 0.3 s, as the system counts: however busy the machine is."""
    work = "import time\ninput()\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ninput()"
    command = [sys.executable, "-c", work]
    monkeypatch.setenv(MARK, "1")
    idle, busy = CpuClock(), CpuClock()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as daemon:
        assert daemon.stdin is not None
        assert daemon.stdout is not None
        with busy.running():
            daemon.stdin.write(b"\n")
            daemon.stdout.readline()
            subprocess.run(command, input=b"\n\n", stdout=subprocess.DEVNULL, check=True)
        daemon.stdin.write(b"\n")
    with idle.running():
        pass
    assert busy.cpu.program >= 0.25
    assert busy.cpu.daemon + busy.cpu.daemon_kernel >= 0.2
    assert idle.cpu.program < busy.cpu.program


def test_the_median_counts() -> None:
    assert result(VOLUME, "s", 9, 1, 2).median == 2


def test_goals_beside_yardsticks() -> None:
    goal = Goal(local=0.5, store=0.9, peer=10)
    others = [result(LOCAL, "files/s", 100), result(OBSTORE, "files/s", 50), result(FAST, "files/s", 100)]
    peers = [result(f"{PEER}, sqlite", "files/s", 4), result(f"{PEER}, badger", "files/s", 6)]
    row = Row([result(VOLUME, "files/s", 50, goal=goal), *others, *peers])
    assert told(row) == {"≥ 0.5 of local disk": True, "≥ 0.9 of obstore": True, "≥ 10 × JuiceFS": False}
    assert row.of_peer(VOLUME) == pytest.approx(50 / 6)
    assert told(row, FAST) == {"≥ 1.5 of default": True}
    assert told(row, LOCAL) == {}


def test_goals_in_seconds_grow_with_the_latency_of_round_trips() -> None:
    traffic = Traffic(puts=2, sent=3_000_000, gets=7, received=0, trips=3)
    given = result(VOLUME, "s", 0.5, goal=Goal(most=0.45, puts=1, sent=2_000_000, gets_per_pack=2), traffic=traffic)
    assert told(Row([given])) == {"≤ 0.45 s": False, "≤ 1 PUT": False, "≤ 2 MB": False, "≤ 6 GETs": False}
    assert told(Row([given], 0.03))["≤ 0.45 s + 3 × 30 ms"]
    few = result(VOLUME, "s", 0.5, goal=Goal(most=0.45, trips=1), traffic=traffic)
    assert told(Row([few], 0.03)) == {"≤ 0.45 s + 1 × 30 ms": False}


def test_obstore_has_as_many_requests_at_once_as_a_volume() -> None:
    assert crew.LEAST == PUTS_AT_ONCE
    assert inspect.signature(Fetcher).parameters["workers"].default == GETS_AT_ONCE


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


def test_ledger_sees_new_and_changed_objects_and_counts_leases_apart(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    ledger = Ledger((tmp_path / "store").as_uri())
    (tmp_path / "store" / "a").write_bytes(b"12345")
    (tmp_path / "store" / "lease.json").write_bytes(b"12345")
    assert ledger.look() == Traffic(1, 5, leases=1)
    assert ledger.look() == Traffic(0, 0, leases=0)
    (tmp_path / "store" / "a").write_bytes(b"1234567")
    assert ledger.look() == Traffic(1, 7, leases=0)


@pytest.mark.fuse
@pytest.mark.slow
def test_every_case_runs(tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    command = [sys.executable, str(BENCHMARKS / "volume_benchmark.py"), "--work", str(tmp_path / "work")]
    command += ["--size", "8", "--files", "300", "--many", "400", "--most", "500", "--changed", "200", "--runs", "1"]
    for case in CASES:
        if case.name not in ("pip-install", "git-clone"):  # they take a minute, and one of them the network
            command += ["--only", case.name]
    done = subprocess.run([*command, "--json", str(output)], capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    seen = {entry["metric"] for entry in json.loads(output.read_text())["results"] if entry["target"] == VOLUME}
    assert seen == {name for case in CASES for name in case.metrics} - {"pip-install", "git-clone"}
    assert {path.name for path in (tmp_path / "work").iterdir()} == {"bulk"}
    text = output.read_text()
    assert str(tmp_path) not in text
    assert json.loads(Report.from_json(text).to_json()) == json.loads(text)
