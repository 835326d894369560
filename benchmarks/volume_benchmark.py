"""How fast a volume is, next to the local disk, to obstore and to a peer in the same run.

    python benchmarks/volume_benchmark.py [--s3 [--latency MS]] [--peer PROGRAM] [--only NAME] [--runs N] [--json FILE]

README.md beside this file says how to read what it prints.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path

from rich.console import Console

from volume_bench.case import Case, Scale
from volume_bench.cases import CASES
from volume_bench.direct import DirectTarget
from volume_bench.inputs import INPUTS
from volume_bench.peer import METADATA, JuiceFSTarget
from volume_bench.report import as_cpu_table, as_table
from volume_bench.results import Report
from volume_bench.runner import run_cases
from volume_bench.servers import SERVERS, Meter, s3_server
from volume_bench.targets import (
    FastVolumeTarget,
    LocalTarget,
    PassedVolumeTarget,
    Subject,
    VolumeTarget,
    scratch_directory,
)

WORK = Path(__file__).parents[1] / ".bench"


def main() -> int:
    args = arguments()
    screen = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
    if args.list:
        for case in CASES:
            screen.print(f"[bold]{case.name:20}[/] {', '.join(case.metrics)}")
        return 0
    chosen = [case for case in CASES if wanted(case, args)]
    if not chosen:
        screen.print(f"[red]No case is named {', '.join(args.only)}; --list shows them.[/]")
        return 2
    scale = Scale(args.size << 20, args.files, args.many, args.most, args.changed)
    INPUTS.directory = args.work.resolve() / "inputs"
    INPUTS.given_repository = args.repository
    with ExitStack() as stack:
        scratch = stack.enter_context(scratch_directory(args.work))
        os.environ["FLYTE_VOL_CACHE_DIR"] = str(scratch / "home")
        meter = None
        if args.s3:
            screen.print(f"[dim]starting {args.s3} …[/]")
            meter = stack.enter_context(
                s3_server(args.s3, latency=args.latency / 1000, directory=scratch / "s3", rate=args.rate)
            )
        subjects = list(subjects_of(args, scratch, meter))
        report = Report.now(
            store_in_words(args, meter), args.latency / 1000, scale, args.runs,
            run_cases(screen, chosen, subjects, scale, args.runs),
        )  # fmt: skip
    output = args.json or WORK / f"{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(report.to_json())
    screen.print(as_table(report))
    if args.cpu:
        screen.print(as_cpu_table(report))
    screen.print(f"[dim]written to {output}[/]")
    return 0


def wanted(case: Case, args: argparse.Namespace) -> bool:
    if args.only:
        return any(case.matches(name) for name in args.only)
    return case.store if args.store_cases else True


def subjects_of(args: argparse.Namespace, scratch: Path, meter: Meter | None) -> Iterator[Subject]:
    """The local disk, the volume in both modes, obstore and peers, as far as they are wanted."""
    store = args.store or (f"{meter.bucket}/store" if meter is not None else (scratch / "store").as_uri())
    if not args.store_cases:
        yield LocalTarget(scratch / "local")
    volume = VolumeTarget(scratch / "volume", store, args.work.resolve() / "bulk", meter)
    yield volume
    if not args.store_cases:
        yield FastVolumeTarget(scratch / "fast", volume)
        yield PassedVolumeTarget(scratch / "passed", volume)
    yield DirectTarget(volume)
    for metadata in args.peer_meta or METADATA if args.peer else ():
        peer = JuiceFSTarget(scratch / metadata, args.peer, metadata, meter)
        peer.most_runs = args.peer_runs
        peer.only = frozenset(args.peer_only)
        yield peer


def store_in_words(args: argparse.Namespace, meter: Meter | None) -> str:
    if meter is None:
        return args.store or "a directory"
    far = f" with {args.latency:g} ms added to each request" if args.latency else ""
    return f"S3 ({meter.server}){far}" + (f", {args.rate:g} MB/s for each connection" if args.rate else "")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Volumes next to their yardsticks", allow_abbrev=False)
    store = parser.add_mutually_exclusive_group()
    store.add_argument("--store", help="URL of a store; a directory of the same local disk if left out")
    store.add_argument(
        "--s3", nargs="?", const="auto", choices=("auto", *SERVERS), help="start an S3 server, and count its requests"
    )
    parser.add_argument("--latency", type=float, default=0, metavar="MS", help="with --s3: added to each request")
    parser.add_argument("--rate", type=float, metavar="MB", help="with --s3: most MB a second of each connection")
    parser.add_argument("--peer", type=Path, metavar="PROGRAM", help="a juicefs binary to measure beside")
    parser.add_argument("--peer-meta", action="append", choices=METADATA, help="its metadata; repeatable (both)")
    parser.add_argument("--peer-runs", type=int, metavar="N", help="runs of the peer (as many as of the others)")
    parser.add_argument(
        "--peer-only", action="append", default=[], metavar="NAME", help="a case for it; repeatable (all)"
    )
    parser.add_argument("--size", type=int, default=512, metavar="MB", help="size of the large file (512)")
    parser.add_argument("--files", type=int, default=10_000, metavar="N", help="how many small files (10,000)")
    parser.add_argument("--many", type=int, default=50_000, metavar="N", help="files of a version to mount (50,000)")
    parser.add_argument("--most", type=int, default=1_000_000, metavar="N", help="files of another one (1,000,000)")
    parser.add_argument(
        "--changed", type=int, default=100_000, metavar="N", help="files, ten of them changed (100,000)"
    )
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="runs, of which the median counts (5)")
    parser.add_argument("--cpu", action="store_true", help="show where the processors' time went as well")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="a case or a metric; repeatable")
    parser.add_argument("--store-cases", action="store_true", help="only what is about the store; no local disk")
    parser.add_argument("--repository", type=Path, metavar="DIR", help="what to clone; one is made if left out")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the JSON goes (.bench/<time>.json)")
    parser.add_argument("--work", type=Path, default=WORK, metavar="DIR", help="scratch on the disk to compare with")
    parser.add_argument("--list", action="store_true", help="name the cases and stop")
    args = parser.parse_args()
    if (args.latency or args.rate) and not args.s3:
        parser.error("--latency and --rate need --s3")
    return args


if __name__ == "__main__":
    sys.exit(main())
