"""How fast a volume is, next to the local disk in the same run.

    python benchmarks/volume_benchmark.py [--store URL] [--size MB] [--files N] [--runs N] [--only NAME] [--json FILE]

README.md beside this file says how to read what it prints.
"""

from __future__ import annotations

import argparse
import sys
from datetime import datetime, timezone
from pathlib import Path

from rich.console import Console

from volume_bench.cases import CASES, Scale
from volume_bench.report import as_json, as_table
from volume_bench.runner import run_cases
from volume_bench.targets import LocalTarget, Target, VolumeTarget, scratch_directory

WORK = Path(__file__).parents[1] / ".bench"


def main() -> int:
    args = arguments()
    screen = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    if args.list:
        for case in CASES:
            screen.print(f"[bold]{case.name:16}[/] {', '.join(case.metrics)}")
        return 0
    chosen = [case for case in CASES if not args.only or any(case.matches(name) for name in args.only)]
    if not chosen:
        screen.print(f"[red]No case is named {', '.join(args.only)}; --list shows them.[/]")
        return 2
    scale = Scale(bytes=args.size << 20, files=args.files, many=args.many)
    with scratch_directory(args.work) as scratch:
        store = args.store or (scratch / "store").as_uri()
        targets: list[Target] = [LocalTarget(scratch / "local"), VolumeTarget(scratch / "volume", store)]
        results = run_cases(screen, chosen, targets, scale, args.runs)
    output = args.json or WORK / f"{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(as_json(results, store=store if args.store else "file", scale=scale, runs=args.runs))
    screen.print(as_table(results, scale))
    screen.print(f"[dim]written to {output}[/]")
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Volumes next to the local disk", allow_abbrev=False)
    parser.add_argument("--store", help="URL of a store; a directory of the same local disk if left out")
    parser.add_argument("--size", type=int, default=512, metavar="MB", help="size of the large file (512)")
    parser.add_argument("--files", type=int, default=10_000, metavar="N", help="how many small files (10,000)")
    parser.add_argument("--many", type=int, default=50_000, metavar="N", help="files of the volume to mount (50,000)")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="runs, of which the median counts (5)")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="a case or a metric; repeatable")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the JSON goes (.bench/<time>.json)")
    parser.add_argument("--work", type=Path, default=WORK, metavar="DIR", help="scratch on the disk to compare with")
    parser.add_argument("--list", action="store_true", help="name the cases and stop")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
