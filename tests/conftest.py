"""What every test stands on: a closed environment, no surprise in the log, no mount left behind, a server."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.servers import S3Server

IN_CI = bool(os.environ.get("CI"))

FOREIGN_VARIABLES = ("AWS_", "AZURE_", "GOOGLE_", "STORAGE_", "FLYTE", "_U_", "SLURM_", "XDG_")
"""Variables that change what the package does; no test may depend on those of the machine it runs on."""


# --- the environment -------------------------------------------------------------------------------------------


def pytest_configure(config: pytest.Config) -> None:
    """What is made in the system's temporary directory goes with the run: SDKs leave some there with each import.

    Here and in what tests start. Not below pytest's own directories, which no other user may enter, and which stay.
    """
    if hasattr(config, "workerinput"):  # of pytest-xdist: has inherited it
        return
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    own = tempfile.mkdtemp(prefix="flytevol-tests-")
    os.chmod(own, 0o1777)  # as the system's: some tests are other users
    os.environ["TMPDIR"] = tempfile.tempdir = own
    config.add_cleanup(lambda: shutil.rmtree(own, ignore_errors=True))


@pytest.fixture(scope="session", autouse=True)
def closed_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No credentials, no Flyte context and no cache of the user's; HOME is a scratch directory."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(FOREIGN_VARIABLES)]:
            patch.delenv(name)
        patch.setenv("HOME", str(home))
        patch.setenv("DO_NOT_TRACK", "1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine cannot do. CI can do everything: there, nothing is skipped and a lack is a failure."""
    reason = _why_no_fuse()
    if not reason or IN_CI:
        return
    for item in items:
        if item.get_closest_marker("fuse"):
            item.add_marker(pytest.mark.skip(reason=reason))


def _why_no_fuse() -> str:
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse is missing or may not be opened"
    return "" if shutil.which("fusermount3") else "fusermount3 is missing: install the package fuse3"


# --- nothing is left, nothing is logged unasked ----------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_unexpected_warnings(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A record of ours at level WARNING or above fails a test without the marker ``logs_warnings``."""
    yield
    if request.node.get_closest_marker("logs_warnings"):
        return
    records = [*caplog.get_records("setup"), *caplog.get_records("call")]
    ours = [r for r in records if r.name.split(".")[0] == "flyteplugins_vol" and r.levelno >= logging.WARNING]
    assert not ours, "unexpected in the log:\n" + "\n".join(f"{r.levelname} {r.name}: {r.getMessage()}" for r in ours)


@pytest.fixture(autouse=True)
def no_mount_left(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A mount in this session's scratch directories that a test leaves behind fails the test, and is taken away."""
    if not request.node.get_closest_marker("fuse"):
        yield
        return
    before = fuse_mounts(tmp_path_factory.getbasetemp())  # those of a fixture with a longer life
    yield
    left = [path for path in fuse_mounts(tmp_path_factory.getbasetemp()) if path not in before]
    for path in left:
        subprocess.run(["fusermount3", "-u", "-z", path], check=False)
    assert not left, f"left mounted: {left}"


def fuse_mounts(below: Path) -> list[str]:
    """Mount paths of the FUSE file systems below a directory: others on this machine are none of our business."""
    lines = (line.split(b" ") for line in Path("/proc/self/mounts").read_bytes().split(b"\n") if line)
    found = [_unescaped(path) for _, path, kind, *_ in lines if kind == b"fuse" or kind.startswith(b"fuse.")]
    return [path for path in found if Path(path).is_relative_to(below)]


def _unescaped(field: bytes) -> str:
    return os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), field))


# --- an S3 server ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """One S3 server (moto) for the whole session; a test takes a bucket of its own: `S3Server.new_bucket_url`."""
    from tests.servers import moto_server

    with moto_server() as server:
        yield server


@pytest.fixture
def s3_environment(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The server, with the usual variables leading to it during this test."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server


# --- a disk that fills up --------------------------------------------------------------------------------------


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A directory on a file system of 4 MiB, which only root may mount."""
    where = tmp_path / "tiny"
    where.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(where)], capture_output=True).returncode:
        pytest.skip("only root may mount a tmpfs")
    yield where
    subprocess.run(["umount", "-l", str(where)], check=True)
