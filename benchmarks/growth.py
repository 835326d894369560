"""How costs grow with files, bytes, depth, versions and forks.

python benchmarks/growth.py [--full] [--only NAME] [--json FILE]
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from volume_bench.curve import Curve, to_json
from volume_bench.growth_cases import by_bytes, by_depth, by_files, by_forks, by_versions
from volume_bench.growth_index import by_index
from volume_bench.measure import mark_processes
from volume_bench.report import measured
from volume_bench.targets import VolumeTarget, scratch_directory

WORK = Path(__file__).parents[1] / ".bench"

# by default, with --quick, with --full
SIZES: dict[str, tuple[Sequence[int], Sequence[int], Sequence[int]]] = {
    "files": ((1_000, 10_000, 100_000), (100, 1_000), (1_000, 10_000, 100_000, 1_000_000)),
    "index": ((10_000, 100_000, 1_000_000), (1_000, 10_000), (10_000, 100_000, 1_000_000, 10_000_000)),
    "bytes": ((1, 16, 256), (1, 4), (1, 16, 256, 1024)),
    "depth": ((1, 8, 64, 256), (1, 4), (1, 10, 100, 1000)),
    "versions": ((2, 10, 100), (2, 4), (2, 10, 100, 1000)),
    "forks": ((1, 10, 100), (1, 4), (1, 10, 100, 1000)),
}


def main() -> int:
    args = arguments()
    screen = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    mark_processes()
    curves: list[Curve] = []
    with scratch_directory(args.work) as scratch, screen.status("") as status:
        os.environ["FLYTE_VOL_CACHE_DIR"] = str(scratch / "home")
        volume = VolumeTarget(scratch / "volume", (scratch / "store").as_uri(), args.work.resolve() / "bulk")
        cases: dict[str, Callable[[Sequence[int]], Curve]] = {
            "files": partial(by_files, volume),
            "index": partial(by_index, scratch),
            "bytes": partial(by_bytes, volume),
            "depth": partial(by_depth, volume),
            "versions": partial(by_versions, volume),
            "forks": partial(by_forks, volume),
        }
        for name in args.only or SIZES:
            status.update(name)
            curves.append(cases[name](SIZES[name][1 if args.quick else 2 if args.full else 0]))
            screen.print(table_of(curves[-1]))
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(to_json(curves))
    screen.print(f"[dim]written to {args.json}[/]")
    return 0


def table_of(curve: Curve) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column(f"{curve.title} →")
    for size in curve.sizes:
        table.add_column(f"{size:,.0f}", justify="right")
    for line in curve.lines.values():
        found = dict(line.points)
        table.add_row(line.title, *(measured(found.get(size), line.unit) for size in curve.sizes))
    return table


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="How costs grow", allow_abbrev=False)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--full", action="store_true", help="up to a million files, ten million in the index alone")
    size.add_argument("--quick", action="store_true", help="only to see that it runs")
    parser.add_argument("--only", action="append", default=[], choices=SIZES, help="one of the curves; repeatable")
    parser.add_argument("--json", type=Path, default=WORK / "growth.json", metavar="FILE", help="where the JSON goes")
    parser.add_argument("--work", type=Path, default=WORK, metavar="DIR", help="scratch, on a disk")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
