"""An S3 server on this machine, behind the proxy that counts and delays: for the benchmark alone, in a new bucket."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from volume_bench import proxy
from volume_bench.measure import Traffic, traffic_of

ROOT = Path(__file__).parents[2]
SERVERS = ("radosgw", "moto")


@dataclass(frozen=True)
class Meter:
    """The proxy's side of the story. ``bucket`` is the S3 URL of an empty bucket behind it."""

    endpoint: str
    bucket: str
    server: str
    latency: float  # seconds added to each request

    def traffic(self) -> Traffic:
        """What came by since the last call."""
        with urllib.request.urlopen(self.endpoint + proxy.CONTROL, timeout=60) as answer:
            return traffic_of(proxy.requests_from(answer.read()))


@contextmanager
def s3_server(name: str, *, latency: float, directory: Path, rate: float | None = None) -> Generator[Meter, None, None]:
    """Start a server (``radosgw``, ``moto``; ``auto``: the fastest that is installed) with its data in ``directory``.

    ``rate``: MB a second of each connection. Sets the variables of this process that lead there, so that daemons find
    it too.
    """
    chosen = (name,) if name != "auto" else _installed()
    directory.mkdir(parents=True)
    command = [sys.executable, "-m", "tests.servers", chosen[0], "--bucket"]
    environment = {**os.environ, "TMPDIR": str(directory), "PYTHONPATH": str(ROOT)}
    with _running(command, environment) as server:
        variables = dict(_exported(server))
        upstream = urlsplit(variables["AWS_ENDPOINT_URL"]).port
        command = [sys.executable, proxy.__file__, str(upstream), str(latency * 1000), *([str(rate)] if rate else [])]
        with _running(command, dict(os.environ)) as front:
            assert front.stdout is not None
            endpoint = f"http://127.0.0.1:{int(front.stdout.readline())}"
            bucket = variables.pop("FLYTE_VOL_STORE").rsplit("/", 1)[0]
            os.environ.update({**variables, "AWS_ENDPOINT_URL": endpoint})
            yield Meter(endpoint, bucket, chosen[0], latency)


def _installed() -> Sequence[str]:
    ask = "from tests.servers import radosgw_missing; print(radosgw_missing(), end='')"
    missing = subprocess.run([sys.executable, "-c", ask], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return SERVERS[1:] if missing else SERVERS


@contextmanager
def _running(command: Sequence[str], environment: dict[str, str]) -> Generator[subprocess.Popen[str], None, None]:
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def _exported(process: subprocess.Popen[str]) -> Iterator[tuple[str, str]]:
    """The variables that a test server prints before it is ready."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("# ready"):
            return
        name, _, value = line.removeprefix("export ").strip().partition("=")
        yield name, value.strip("'")
    raise RuntimeError(f"the server ended: {' '.join(map(str, process.args))}")  # pyright: ignore[reportArgumentType]
