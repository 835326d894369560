"""``flytevol doctor``: is this machine ready, is the store? What is wrong, and the command that repairs it."""

from __future__ import annotations

import importlib.util
import os
import platform
import sqlite3
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import click
from rich.text import Text

from flyteplugins_vol.cli.addresses import opened_store
from flyteplugins_vol.cli.errors import failure_of
from flyteplugins_vol.cli.options import Options, common
from flyteplugins_vol.config import cache_root
from flyteplugins_vol.errors import SetupError, StoreError, VolumeError
from flyteplugins_vol.io import hosts
from flyteplugins_vol.portable import free_bytes
from flyteplugins_vol.store.base import Data, ObjectStore

OK, WARNING, FAILED = "ok", "warning", "failed"

_STYLES = {OK: "green", WARNING: "yellow", FAILED: "bold red"}
_LEAST_FREE = 1 << 30  # bytes: below, a busy mount has to wait for its uploads
_LEAST_FILES = 1024
_LEAST_KERNEL = (4, 18)  # first with FUSE in user namespaces
_SKEW = 60.0  # seconds by which a clock may differ


@dataclass(frozen=True)
class Finding:
    """One item that was looked at. ``repair`` is the command, or the step, that puts it right."""

    item: str
    state: str
    found: str
    repair: str = ""


@click.command(short_help="Check this machine and the store.")
@click.option("--no-store", is_flag=True, help="Leave the store alone.")
@common
def doctor(options: Options, no_store: bool) -> int:
    """Check what mounts need of this machine, and what volumes need of the store (with a small probe object).

    Exit code 0: nothing failed; 5: something did. Without FUSE, everything but mounts works.

    \b
    flytevol doctor
    flytevol doctor --store s3://bucket/volumes --json
    """
    findings: list[Finding] = []
    output = options.output
    for finding in _findings(options, no_store):
        findings.append(finding)
        if not options.as_json:
            output.out.print(
                Text(f"{finding.state:8}", style=_STYLES[finding.state]) + Text(f"{finding.item:15} {finding.found}")
            )
            if finding.repair and finding.state != OK:
                output.out.print(Text(f"{'':24}→ {finding.repair}", style="dim"))
    if options.as_json:
        output.result([vars(finding) for finding in findings])
    return 5 if any(finding.state == FAILED for finding in findings) else 0


def _findings(options: Options, no_store: bool) -> Iterator[Finding]:
    yield python()
    yield sqlite()
    if sys.platform == "linux":
        yield kernel(platform.release())
        yield from fuse()
        yield packages()
        yield from limits()
    else:
        yield Finding("mounts", WARNING, f"need Linux, this is {platform.system()}", "use volumes without a mount")
    try:
        yield disk(cache_root())
    except SetupError as error:  # of a user without a home directory
        yield Finding("cache disk", FAILED, error.message, failure_of(error).hint)
    if not no_store:
        yield from store(options.store)


def python() -> Finding:
    """The interpreter."""
    return Finding("python", OK, f"{platform.python_version()} ({sys.executable})")


def sqlite() -> Finding:
    """SQLite's release."""
    if sqlite3.sqlite_version_info < (3, 37):
        return Finding("sqlite", FAILED, sqlite3.sqlite_version, "use a Python with SQLite 3.37 or newer")
    return Finding("sqlite", OK, sqlite3.sqlite_version)


def kernel(release: str) -> Finding:
    """The kernel's release."""
    numbers = tuple(int(part) for part in release.split("-", 1)[0].split(".")[:2] if part.isdigit())
    if numbers < _LEAST_KERNEL:
        return Finding("kernel", WARNING, release, "use Linux 4.18 or newer")
    return Finding("kernel", OK, release)


def fuse() -> Iterator[Finding]:
    """The device, and the program that mounts for ordinary users."""
    from flyteplugins_vol.mount import preflight

    yield _checked("/dev/fuse", "can be opened", preflight.check_device)
    who = "as root, not needed" if os.geteuid() == 0 else "there, and setuid root"
    yield _checked("fusermount3", who, preflight.check_fusermount)
    if os.geteuid() != 0 and not os.path.exists("/etc/mtab"):
        repair = "as root: ln -s /proc/self/mounts /etc/mtab"
        yield Finding("/etc/mtab", WARNING, "is missing: fusermount3 cannot unmount", repair)


def packages() -> Finding:
    """The libraries of the daemon."""
    if importlib.util.find_spec("trio") is None:
        return Finding("packages", FAILED, "missing: trio", "pip install trio")
    optional = {
        "textual": "explorer", "s3fs": "S3 by s3fs", "flyte": "Flyte 2", "flytekit": "Flyte 1",
        "pyfuse3": "mounts by pyfuse3",
    }  # fmt: skip
    there = [told for name, told in optional.items() if importlib.util.find_spec(name) is not None]
    return Finding("packages", OK, "trio" + (f"; also for {', '.join(there)}" if there else ""))


def limits() -> Iterator[Finding]:
    """What the process may use."""
    import resource

    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files != resource.RLIM_INFINITY and files < _LEAST_FILES:
        repair = f"ulimit -n {min(most, 65536) if most > 0 else 65536}"
        yield Finding("open files", WARNING, f"at most {files}", repair)
    else:
        yield Finding("open files", OK, f"at most {files}")
    largest, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if largest != resource.RLIM_INFINITY:
        yield Finding("file size", WARNING, f"at most {largest} bytes", "ulimit -f unlimited")


def disk(directory: str) -> Finding:
    """The local directory for caches and for what is not committed."""
    from flyteplugins_vol.mount.preflight import check_directory

    repair = "make room there, or let FLYTE_VOL_CACHE_DIR name a directory on another disk"
    try:
        check_directory(directory, "cache")
    except SetupError as error:
        return Finding("cache disk", FAILED, error.message, repair)
    free = free_bytes(directory)
    text = f"{directory}: {free / (1 << 30):.1f} GiB free"
    return Finding("cache disk", OK if free >= _LEAST_FREE else WARNING, text, repair)


def store(url: str | None) -> Iterator[Finding]:
    """Reachability, rights and the clock, by a probe object that is deleted again."""
    try:
        where = hosts.store_url(url)
        yield Finding("store", OK, where)
        with opened_store(url) as opened:
            yield from _probe(opened)
    except VolumeError as error:
        yield Finding("store", FAILED, error.message, failure_of(error).hint)


def _probe(opened: ObjectStore) -> Iterator[Finding]:
    key = f"doctor/{uuid.uuid4().hex}"
    data = os.urandom(256)
    put = _tried("put", lambda: opened.create(key, data) or _raise("the object holds something else"))
    yield put
    if put.state != OK:
        return
    before = time.time()
    try:
        yield _tried("range get", lambda: _same(opened.get_range(key, 16, 32), data[16:48]))
        yield _tried("conditional put", lambda: _conditional(opened, key))
        yield _tried("list", lambda: key in [info.key for info in opened.list("doctor/")] or _raise("not listed"))
        yield _clock(opened, key, before)
    finally:
        deleted = _tried("delete", lambda: opened.delete(key))
    yield deleted
    if not opened.conditional:
        yield Finding(
            "conditional put", WARNING, "this store looks first and writes then: two writers at once can collide",
            "see that a volume has one writer, or use a store with conditional writes",
        )  # fmt: skip


def _conditional(opened: ObjectStore, key: str) -> None:
    if opened.create(key, b"other"):
        _raise("an existing object was overwritten")
    tagged = opened.get_tagged(key)
    if tagged is None or opened.replace(key, uuid.uuid4().hex.encode(), tagged.tag + "0") is not None:
        _raise("a put with the wrong tag was accepted")
    if tagged is not None and opened.replace(key, uuid.uuid4().hex.encode(), tagged.tag) is None:
        _raise("a put with the right tag was refused")


def _clock(opened: ObjectStore, key: str, now: float) -> Finding:
    try:
        modified = next((info.modified for info in opened.list("doctor/") if info.key == key), None)
    except StoreError as error:
        return Finding("clock", WARNING, error.message)
    if modified is None:
        return Finding("clock", WARNING, "the store tells no times")
    skew = modified.timestamp() - now
    text = f"{abs(skew):.0f} s {'behind' if skew > 0 else 'ahead of'} the store's"
    if abs(skew) > _SKEW:
        return Finding("clock", WARNING, text, "synchronise this machine's clock: timedatectl set-ntp true")
    return Finding("clock", OK, text)


def _checked(item: str, good: str, check: Callable[[], Any]) -> Finding:
    try:
        check()
    except SetupError as error:
        return Finding(item, FAILED, error.message, failure_of(error).hint)
    return Finding(item, OK, good)


def _tried(item: str, step: Callable[[], Any]) -> Finding:
    try:
        step()
    except VolumeError as error:
        return Finding(item, FAILED, error.message, failure_of(error).hint)
    return Finding(item, OK, "works")


def _same(found: Data | None, wanted: bytes) -> None:
    if found != wanted:
        _raise("other bytes came back")


def _raise(message: str) -> None:
    raise StoreError(message, hint="this store does not keep the contract that volumes need: use another")
