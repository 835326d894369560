"""``flytevol bench``: how fast this machine and this store are."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

import flyteplugins_vol
from flyteplugins_vol.cli.options import Options, common
from flyteplugins_vol.cli.output import table
from flyteplugins_vol.io import Volume

_FULL = Path(str(flyteplugins_vol.__path__[0])).parent / "benchmarks" / "volume_benchmark.py"


@click.command(short_help="Measure this machine and this store.")
@click.option("--full", is_flag=True, help="The project's own benchmark, with mounts (in a source checkout).")
@click.option("--size", type=click.IntRange(1), default=64, show_default=True, help="MiB of the large file.")
@click.option("--files", type=click.IntRange(1), default=2000, show_default=True, help="Small files.")
@common
def bench(options: Options, full: bool, size: int, files: int) -> int | None:
    """Measure writing, publishing and reading without a mount, in a new volume that is deleted again.

    \b
    flytevol bench
    flytevol bench --store s3://bucket/scratch --size 512
    flytevol bench --full
    """
    if full:
        if not _FULL.exists():
            raise click.UsageError("--full needs a checkout of the sources: it is benchmarks/volume_benchmark.py")
        store = ["--store", options.store] if options.store else []
        return subprocess.call([sys.executable, str(_FULL), *store, "--size", str(size), "--files", str(files)])
    with tempfile.TemporaryDirectory(prefix="flytevol-bench-") as scratch:
        results = _measure(options.store or Path(scratch, "store").as_uri(), Path(scratch), size << 20, files)
    rows = [(name, f"{value:,.0f}", unit) for name, value, unit in results]
    wire = [{"name": name, "value": round(value, 1), "unit": unit} for name, value, unit in results]
    options.output.result(wire, table(("MEASURED", "RATE", ""), rows, right=("RATE",)))
    return None


def _measure(store: str, scratch: Path, size: int, files: int) -> list[tuple[str, float, str]]:
    from flyteplugins_vol.cli.addresses import opened_store
    from flyteplugins_vol.history.deletion import delete_volume
    from flyteplugins_vol.history.volumes import VolumeEntry

    volume = Volume.new("bench", store)
    large, small = os.urandom(size), os.urandom(1024)
    results: list[tuple[str, float, str]] = []

    def timed(name: str, amount: float, unit: str, step: Callable[[], Any]) -> Any:
        begin = time.perf_counter()
        found = step()
        results.append((name, amount / max(time.perf_counter() - begin, 1e-9), unit))
        return found

    def batch() -> None:
        with volume.batch_upload() as batch:
            for number in range(files):
                batch.put_file(io.BytesIO(b"%08d" % number + small), f"small/{number % 50}/{number}")

    try:
        timed("write a large file", size / 1e6, "MB/s", lambda: volume.write_bytes.sync("large", large))
        timed("write small files", files, "files/s", batch)
        stored = (size + files * len(small)) / 1e6
        version = timed("publish", stored, "MB/s", volume.finalize.sync)
        timed("read the large file", size / 1e6, "MB/s", lambda: version.read_bytes.sync("large"))
        timed("read small files", files, "files/s", lambda: version.download.sync("small", scratch / "out"))
        timed("list them", files, "files/s", lambda: version.ls.sync("small", recursive=True))
        return results
    finally:
        volume.abandon.sync()
        with opened_store(store) as opened:
            delete_volume(opened, VolumeEntry(opened.url, volume.name, volume.id))
