"""``flytevol status``: the live mounts of this user, as a table, JSON, or text for Prometheus."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import click
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from flyteplugins_vol.cli.errors import NotFoundError
from flyteplugins_vol.cli.options import Options, common
from flyteplugins_vol.cli.output import size, table
from flyteplugins_vol.config import cache_root
from flyteplugins_vol.io.shown import shown
from flyteplugins_vol.mount.live import LiveMount, live_mounts

_BETWEEN = 0.3  # seconds between two looks, for requests per second
_NAMES = {
    "files": ("gauge", "Files and directories of the volume"),
    "bytes": ("gauge", "Bytes of its files"),
    "dirty_bytes": ("gauge", "Bytes written that are in no pack yet"),
    "upload_queue": ("gauge", "Parts of files that wait for their upload"),
    "reads_total": ("counter", "Read requests of the kernel"),
    "fetched_bytes_total": ("counter", "Bytes fetched from the store"),
    "fetch_requests_total": ("counter", "GETs for blocks"),
    "uploaded_bytes_total": ("counter", "Bytes of packs uploaded"),
    "packs_written_total": ("counter", "Packs uploaded"),
}


@click.command(short_help="Show the live mounts.")
@click.argument("directory", type=click.Path(), required=False)
@click.option("-w", "--watch", is_flag=True, help="Show it again and again, until Ctrl-C.")
@click.option("--interval", type=click.FloatRange(0.2), default=2.0, show_default=True, help="Seconds between.")
@click.option("--prometheus", is_flag=True, help="Print metrics in the text format of Prometheus.")
@click.option("--meta-dir", type=click.Path(file_okay=False), multiple=True, help="Of mounts made with one.")
@common
def status(
    options: Options, directory: str | None, watch: bool, interval: float, prometheus: bool, meta_dir: tuple[str, ...]
) -> None:
    """Show the mounts of this user on this machine: dirty bytes, uploads, fetches, requests.

    \b
    flytevol status --watch
    flytevol status ./data --json
    flytevol status --prometheus > /var/lib/node_exporter/flytevol.prom
    """
    roots = [cache_root(), *meta_dir]
    if watch:
        _watch(options, roots, directory, interval)
        return
    before = _mounts(roots, directory)
    if prometheus:
        options.output.line(prometheus_text([_wire(mount, None) for mount in before]).rstrip("\n"))
        return
    time.sleep(_BETWEEN if before else 0)
    wires = _rated(before, _mounts(roots, directory) if before else [], _BETWEEN)
    if not wires:
        options.output.note("no live mounts of this user below " + ", ".join(roots))
    if wires or options.as_json:
        options.output.result(wires, _table(wires))


def prometheus_text(wires: Sequence[dict[str, Any]]) -> str:
    """Metrics of mounts in the text format of Prometheus, ending with a newline."""
    lines: list[str] = []
    for name, (kind, told) in _NAMES.items():
        lines += [f"# HELP flytevol_{name} {told}", f"# TYPE flytevol_{name} {kind}"]
        lines += [f"flytevol_{name}{_labels(wire)} {wire[name.removesuffix('_total')]}" for wire in wires]
    lines += ["# HELP flytevol_requests_total Requests of the kernel", "# TYPE flytevol_requests_total counter"]
    lines += [
        f"flytevol_requests_total{_labels(wire, request=request)} {count}"
        for wire in wires
        for request, count in sorted(wire["requests"].items())
    ]
    return "\n".join(lines) + "\n"


def _watch(options: Options, roots: list[str], directory: str | None, interval: float) -> None:
    output = options.output
    before = _mounts(roots, directory)
    if options.as_json:  # one line each time
        while True:
            time.sleep(interval)
            now = _mounts(roots, directory)
            output.result(_rated(before, now, interval))
            before = now
    with Live(console=output.out, screen=False, auto_refresh=False) as live:
        while True:
            time.sleep(interval)
            now = _mounts(roots, directory)
            wires = _rated(before, now, interval)
            shown_now = _table(wires) if wires else Text("no live mounts", style="dim")
            live.update(Group(shown_now, Text("Ctrl-C ends", style="dim")), refresh=True)
            before = now


def _mounts(roots: list[str], directory: str | None) -> list[LiveMount]:

    mounts = live_mounts(roots)
    if directory is None:
        return mounts
    found = [mount for mount in mounts if mount.path == os.path.realpath(directory)]
    if not found:
        raise NotFoundError(
            f"no live mount of this user at {shown(directory)}", hint="flytevol status without a path shows all"
        )
    return found


def _rated(before: list[LiveMount], now: list[LiveMount], seconds: float) -> list[dict[str, Any]]:
    known = {mount.control: sum(mount.status["requests"].values()) for mount in before}
    return [
        _wire(mount, (sum(mount.status["requests"].values()) - known[mount.control]) / seconds)
        if mount.control in known
        else _wire(mount, None)
        for mount in now
    ]


def _wire(mount: LiveMount, rate: float | None) -> dict[str, Any]:
    told = mount.status
    return {
        "mount_path": mount.path,
        "volume": mount.volume,
        "writable": mount.writable,
        "base": told.get("base"),
        "pid": told.get("pid"),
        "client": told.get("client"),
        "log_path": told.get("log_path"),
        "files": told.get("files", 0),
        "bytes": told.get("bytes", 0),
        "dirty_bytes": told.get("staged_bytes", 0),
        "upload_queue": told.get("unsealed_windows", 0),
        "packs_written": told.get("packs_written", 0),
        "uploaded_bytes": told.get("uploaded_bytes", 0),
        "reads": told["requests"].get("read", 0),
        "fetch_requests": told.get("fetch_requests", 0),
        "fetched_bytes": told.get("fetched_bytes", 0),
        "requests_per_second": None if rate is None else round(rate, 1),
        "lease": told.get("lease"),
        "requests": told["requests"],
    }


def _table(wires: Sequence[dict[str, Any]]) -> Table:
    rows = [
        (
            shown(wire["mount_path"]), wire["volume"].rpartition("-")[0], "rw" if wire["writable"] else "ro",
            f"{wire['files']:,}", size(wire["bytes"]), size(wire["dirty_bytes"]), str(wire["upload_queue"]),
            size(wire["fetched_bytes"]), f"{wire['reads']:,}",
            "" if wire["requests_per_second"] is None else f"{wire['requests_per_second']:,.0f}",
        )
        for wire in wires
    ]  # fmt: skip
    columns = ("MOUNT", "VOLUME", "", "FILES", "SIZE", "DIRTY", "QUEUE", "FETCHED", "READS", "REQ/S")
    return table(columns, rows, right=columns[3:])


def _labels(wire: dict[str, Any], **more: str) -> str:
    labels = {"volume": wire["volume"], "mount": wire["mount_path"], **more}
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return shown(value).replace("\\", "\\\\").replace('"', '\\"')
