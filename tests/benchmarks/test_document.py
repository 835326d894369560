"""The generated parts of docs/performance.md: tables and plots from results."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import performance_document
import pytest

from volume_bench import document
from volume_bench.case import Sample, Scale
from volume_bench.cases import CASES
from volume_bench.columns import FAST, LOCAL, VOLUME
from volume_bench.cpu import CpuTime
from volume_bench.curve import Curve, Line, from_json, to_json
from volume_bench.goals import OBSTORE
from volume_bench.measure import Traffic
from volume_bench.plots import growth_plot
from volume_bench.results import Report
from volume_bench.runner import Result

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
PARTS = {"conditions", "cpu", "fast", "files", "growth", "memory", "passed", "store"}


@pytest.fixture
def report() -> Report:
    traffic = Traffic(3, 1_000_000, 2, 3, 4, 5, 6)
    seconds, cpu = 0.5, CpuTime(0.125, 0.25, 0.0625, 1.0)
    speeds = {LOCAL: 2.0, VOLUME: 1.0, FAST: 1.5, OBSTORE: 1.8, "JuiceFS, sqlite": 0.1}
    results = [
        Result(
            name,
            metric,
            target,
            [Sample(1 / speed if metric.less_is_better else speed, traffic, 1, seconds, cpu)],
            1,
            1,
        )
        for case in CASES
        for name, metric in case.metrics.items()
        for target, speed in speeds.items()
    ]  # fmt: skip
    return Report.now("S3", 0.03, Scale(), 1, results)


def test_a_goal_that_is_missed_is_told(report: Report) -> None:
    table = document.files_table(report).splitlines()
    create = next(line for line in table if line.startswith("| Create 10,000 files of 1 KB |"))
    assert create.endswith("| 2/s | 0/s | 1/s | 0.50 | 10 | ≥ 0.5 of local disk, ≥ 10 × JuiceFS |")
    assert "**missed: ≥ 0.9 of obstore**" in document.store_table([report])
    assert {line.count("|") for line in table} == {table[0].count("|")}


def test_where_the_time_goes_is_told_of_what_takes_long_enough(report: Report) -> None:
    table = document.cpu_table([report]).splitlines()
    assert "| Create 10,000 files of 1 KB | volume | 0.50 | 0.12 | 0.25 | 0.06 | 1.00 |" in table
    assert {line.count("|") for line in table} == {table[0].count("|")}
    again = Report.from_json(report.to_json())
    assert document.cpu_table([again]).splitlines() == table
    short = [replace(result, samples=[replace(result.samples[0], seconds=0.05)]) for result in report.results]
    assert len(document.cpu_table([replace(report, results=short)]).splitlines()) == 2


def test_the_page_has_a_place_for_every_part_and_keeps_its_prose(tmp_path: Path, report: Report) -> None:
    copy = tmp_path / "performance.md"
    copy.write_text(PAGE.read_text())
    document.rewrite(copy, dict.fromkeys(PARTS, "new\nlines"))
    text = copy.read_text()
    assert text.count("new\nlines") == len(PARTS)
    assert "## What each option trades" in text
    document.rewrite(copy, {"files": document.files_table(report)})
    document.rewrite(copy, dict.fromkeys(PARTS, "new\nlines"))
    assert copy.read_text() == text
    with pytest.raises(ValueError, match="0 places for other"):
        document.rewrite(copy, {"other": ""})


def test_a_page_is_made_of_the_results_that_are_there(tmp_path: Path, report: Report) -> None:
    curve = Curve("files", "Files", "files", {"a": Line("mount", "s", [(1, 0.5), (1000, 0.6)])})
    (tmp_path / "files.json").write_text(report.to_json())
    (tmp_path / "growth.json").write_text(to_json([curve]))
    page = tmp_path / "page" / "performance.md"
    page.parent.mkdir()
    page.write_text(PAGE.read_text())
    performance_document.render(tmp_path, page)
    text = page.read_text()
    linked = re.findall(r"\]\((images/[^)]+)\)", text)
    assert linked == ["images/performance-files.svg", "images/growth-files.svg"]
    assert all((page.parent / image).stat().st_size for image in linked)
    assert str(tmp_path) not in text


def test_plots_are_whole_and_small(report: Report) -> None:
    curve = Curve("c", "C", "files", {"a": Line("a <b>", "s", [(1, 0.5), (1000, 0.5), (10_000_000, 2)])})
    for svg in (document.files_plot(report), growth_plot(curve)):
        assert ElementTree.fromstring(svg).tag.endswith("svg")
        assert len(svg) < 20_000


def test_curves_come_back_from_json() -> None:
    curve = Curve("c", "C", "files", {"a": Line("a", "s")})
    curve.add(5, a=1.0)
    assert from_json(to_json([curve])) == [curve]
    assert curve.sizes == [5]
