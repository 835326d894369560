"""``flytevol status``: the live mounts of this user, as a table, JSON, or text for Prometheus."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

import click
from rich.console import Group
from rich.live import Live
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from flyteplugins_vol.cli.errors import NotFoundError
from flyteplugins_vol.cli.options import DIRECTORY, LIVE_MOUNT, Options, common
from flyteplugins_vol.cli.output import files_text, table
from flyteplugins_vol.config import cache_root
from flyteplugins_vol.human import ago, count, local, shown, size
from flyteplugins_vol.io import RWVolume
from flyteplugins_vol.mount.live import LiveMount, live_mounts

_WIDEST = 10_000  # columns: what the table would take if it could
_BETWEEN = 0.3  # seconds between two looks, for requests per second
_NAMES = {
    "files": ("gauge", "Files and directories of the volume"),
    "bytes": ("gauge", "Bytes of its files"),
    "dirty_bytes": ("gauge", "Bytes written that are in no pack yet"),
    "upload_queue": ("gauge", "Parts of files that wait for their upload"),
    "reads_total": ("counter", "Read requests of the kernel"),
    "cache_hits_total": ("counter", "Reads of blocks that the local cache answered at once"),
    "cache_misses_total": ("counter", "Reads of blocks that waited for the store, or for a first check of their hash"),
    "fetched_bytes_total": ("counter", "Bytes fetched from the store"),
    "fetch_requests_total": ("counter", "GETs for blocks"),
    "uploaded_bytes_total": ("counter", "Bytes of packs uploaded"),
    "packs_written_total": ("counter", "Packs uploaded"),
}


@click.command(short_help="Show the live mounts.")
@click.argument("directory", type=LIVE_MOUNT, required=False)
@click.option("-w", "--watch", is_flag=True, help="Show it again and again, until Ctrl-C.")
@click.option(
    "--interval", type=click.FloatRange(0.2), metavar="SECONDS", default=2.0, show_default=True, help="Time between."
)
@click.option("--prometheus", is_flag=True, help="Print metrics in the text format of Prometheus.")
@click.option("--meta-dir", type=DIRECTORY, multiple=True, help="Of mounts made with one.")
@common
def status(
    options: Options, directory: str | None, watch: bool, interval: float, prometheus: bool, meta_dir: tuple[str, ...]
) -> None:
    """Show the mounts of this user on this machine.

    DIRTY is what is in no version's packs yet, QUEUE the parts of files that wait for their upload, CACHED the share of
    reads that the local cache answered at once, LEASE how long nobody else may write unless it is renewed.

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
    if directory is None:
        _note_leftovers(options, roots)
    if options.as_json:
        options.output.result(wires)
    elif wires:
        options.output.out.print(_shown(options, wires), soft_wrap=False)


def _note_leftovers(options: Options, roots: list[str]) -> None:
    for left in (one.left for root in roots for one in RWVolume.recoverable(root)):
        kept = (
            f"{shown(left.volume_name)}: {count(max(0, left.files - 1), 'file')}, {size(left.staged)} on this disk only"
        )
        since = f"{ago(left.changed, datetime.now(timezone.utc))} ago ({local(left.changed)})"
        options.output.note(
            f"in no version, and not mounted: {kept}, written {since}; `flytevol recover` lists and publishes it, "
            f"`flytevol recover {shlex.quote(shown(left.path))} --discard` deletes it"
        )


def prometheus_text(wires: Sequence[dict[str, Any]]) -> str:
    """Metrics of mounts in the text format of Prometheus, ending with a newline."""
    lines: list[str] = []
    for name, (kind, told) in _NAMES.items():
        lines += [f"# HELP flytevol_{name} {told}", f"# TYPE flytevol_{name} {kind}"]
        lines += [f"flytevol_{name}{_labels(wire)} {wire[name.removesuffix('_total')]}" for wire in wires]
    lines += ["# HELP flytevol_lease_seconds For which the lease still holds", "# TYPE flytevol_lease_seconds gauge"]
    lines += [f"flytevol_lease_seconds{_labels(wire)} {wire['lease']['left']}" for wire in wires if wire["lease"]]
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
            sys.stdout.flush()
            before = now
    with Live(console=output.out, screen=False, auto_refresh=False) as live:
        while True:
            time.sleep(interval)
            now = _mounts(roots, directory)
            wires = _rated(before, now, interval)
            shown_now = _shown(options, wires) if wires else Text("no live mounts", style="dim")
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
        "passthrough": told.get("passthrough", False),
        "files": told.get("files", 0),
        "bytes": told.get("bytes", 0),
        "dirty_bytes": told.get("staged_bytes", 0),
        "upload_queue": told.get("unsealed_windows", 0),
        "packs_written": told.get("packs_written", 0),
        "uploaded_bytes": told.get("uploaded_bytes", 0),
        "reads": told["requests"].get("read", 0),
        "cache_hits": told.get("cache_hits", 0),
        "cache_misses": told.get("cache_misses", 0),
        "fetch_requests": told.get("fetch_requests", 0),
        "fetched_bytes": told.get("fetched_bytes", 0),
        "requests_per_second": None if rate is None else round(rate, 1),
        "lease": told.get("lease"),
        "requests": told["requests"],
    }


def _shown(options: Options, wires: Sequence[dict[str, Any]]) -> Table | Group:
    """A line for each mount; where the screen is too narrow for that, some lines for each."""
    console = options.output.out
    found = _table(wires)
    if Measurement.get(console, console.options.update(width=_WIDEST), found).maximum <= console.width:
        return found
    return Group(*(part for wire in wires for part in _card(wire)))


def _table(wires: Sequence[dict[str, Any]]) -> Table:
    rows = [
        (
            shown(wire["mount_path"]), wire["volume"].rpartition("-")[0], "rw" if wire["writable"] else "ro",
            files_text(wire["files"]), size(wire["bytes"]), size(wire["dirty_bytes"]), f"{wire['upload_queue']:,}",
            _share(wire), size(wire["fetched_bytes"]), _rate(wire), _lease(wire),
        )
        for wire in wires
    ]  # fmt: skip
    columns = ("MOUNT", "VOLUME", "", "FILES", "SIZE", "DIRTY", "QUEUE", "CACHED", "FETCHED", "REQ/S", "LEASE")
    return table(columns, rows, right=columns[3:])


def _card(wire: dict[str, Any]) -> tuple[Text, Table]:
    reads = wire["cache_hits"] + wire["cache_misses"]
    rows = [
        ("volume", f"{wire['volume']}, {'read-write' if wire['writable'] else 'read-only'}"),
        ("files", f"{files_text(wire['files'])}, {size(wire['bytes'])}"),
        ("dirty", f"{size(wire['dirty_bytes'])}, {count(wire['upload_queue'], 'part')} to upload"),
        ("cache", f"answered {_share(wire)} of {count(reads, 'read')}" if reads else "not read from"),
        ("fetched", f"{size(wire['fetched_bytes'])} in {count(wire['fetch_requests'], 'GET')}"),
        ("requests", f"{_rate(wire) or '…'} per second, {sum(wire['requests'].values()):,} in all"),
    ]
    lease = [("lease", f"{_lease(wire)}, since {local(str(wire['lease'].get('since')))}")] if wire["lease"] else []
    lines = table(("", ""), [("  " + name, Text(value)) for name, value in [*rows, *lease]])
    return Text(shown(wire["mount_path"]), style="bold", overflow="fold"), lines


def _share(wire: dict[str, Any]) -> str:
    reads = wire["cache_hits"] + wire["cache_misses"]
    return f"{100 * wire['cache_hits'] / reads:.0f} %" if reads else "–"


def _rate(wire: dict[str, Any]) -> str:
    return "" if wire["requests_per_second"] is None else f"{wire['requests_per_second']:,.0f}"


def _lease(wire: dict[str, Any]) -> str:
    """How long it holds; nothing for a mount without one."""
    lease = wire["lease"]
    if not lease:
        return ""
    return "lost" if lease.get("lost_to") else f"{lease['left']:.0f} s left"


def _labels(wire: dict[str, Any], **more: str) -> str:
    labels = {"volume": wire["volume"], "mount": wire["mount_path"], **more}
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return shown(value).replace("\\", "\\\\").replace('"', '\\"')
