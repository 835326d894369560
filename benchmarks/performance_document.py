"""Measure everything that docs/performance.md tells, and write its tables and plots anew.

    python benchmarks/performance_document.py [--peer PROGRAM] [--quick] [--only STEP] [--render]

Each step leaves a JSON file in .bench/docs; the document is made from those that are there.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from volume_bench import document
from volume_bench.columns import FAST, PASSED
from volume_bench.curve import from_json
from volume_bench.results import Report, load

HERE = Path(__file__).parent
ROOT = HERE.parent
BENCH = ROOT / ".bench"
SMALL = ["--size", "16", "--files", "500", "--many", "1000", "--most", "2000", "--changed", "1000", "--runs", "1"]

STEPS: dict[str, list[str]] = {
    "files": ["volume_benchmark.py", "--runs", "5"],
    "store-s3": ["volume_benchmark.py", "--store-cases", "--runs", "3", "--s3"],
    "store-s3-far": ["volume_benchmark.py", "--store-cases", "--runs", "3", "--s3", "--latency", "30"],
    "growth": ["growth.py"],
}


def main() -> int:
    args = arguments()
    results = args.work / ("docs-quick" if args.quick else "docs")
    results.mkdir(parents=True, exist_ok=True)
    if not args.render:
        for step in args.only or STEPS:
            began = time.monotonic()
            subprocess.run(command(step, args, results), check=True)
            print(f"{step}: {time.monotonic() - began:.0f} s", flush=True)
    page = args.document
    if args.quick and page == ROOT / "docs" / "performance.md":
        page = results / "performance.md"
        page.write_text((ROOT / "docs" / "performance.md").read_text())
    render(results, page)
    print(f"written: {page}")
    return 0


def command(step: str, args: argparse.Namespace, results: Path) -> Sequence[str]:
    script, *options = STEPS[step]
    line = [
        sys.executable,
        str(HERE / script),
        *options,
        "--work",
        str(args.work),
        "--json",
        str(results / f"{step}.json"),
    ]
    if step == "growth":
        return [*line, "--quick" if args.quick else "--full"]
    if args.peer and step in ("files", "store-s3"):  # across 30 ms it would read small files for minutes
        line += ["--peer", str(args.peer), "--peer-runs", "2" if step == "files" else "1"]
        line += ["--peer-only", "looking", "--peer-meta", "sqlite3"] if step == "store-s3" else []
    return [*line, *(SMALL if args.quick else ())]


def render(results: Path, page: Path) -> None:
    """Everything of which there are results, into the page and the images beside it."""
    images = page.parent / "images"
    images.mkdir(exist_ok=True)
    parts: dict[str, str] = {}
    reports: dict[str, Report] = {
        step: load(results / f"{step}.json")
        for step in STEPS
        if step != "growth" and (results / f"{step}.json").exists()
    }
    if (files := reports.get("files")) is not None:
        parts["files"] = document.files_table(files) + "\n\n![Shares of the local disk](images/performance-files.svg)"
        parts["fast"] = document.mode_table(files, FAST)
        parts["passed"] = document.mode_table(files, PASSED)
        parts["memory"] = document.memory_line(files)
        (images / "performance-files.svg").write_text(document.files_plot(files))
    if reports:
        parts["store"] = document.store_table(list(reports.values()))
        parts["cpu"] = document.cpu_table(list(reports.values()))
        parts["conditions"] = document.conditions(list(reports.values()))
    if (results / "growth.json").exists():
        curves = from_json((results / "growth.json").read_text())
        parts["growth"], plots = document.growth_part(curves, images, "images")
        for file, svg in plots.items():
            file.write_text(svg)
    document.rewrite(page, parts)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure, and write docs/performance.md", allow_abbrev=False)
    parser.add_argument("--peer", type=Path, metavar="PROGRAM", help="a juicefs binary to measure beside")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, and a copy of the document in .bench")
    parser.add_argument("--only", action="append", default=[], choices=STEPS, help="measure this step; repeatable")
    parser.add_argument("--render", action="store_true", help="measure nothing: make the document of earlier results")
    parser.add_argument("--document", type=Path, default=ROOT / "docs" / "performance.md", metavar="FILE")
    parser.add_argument("--work", type=Path, default=BENCH, metavar="DIR", help="scratch, on the disk to compare with")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
