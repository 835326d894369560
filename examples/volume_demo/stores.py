"""Where the demo keeps its volume, and how it sees what was written there."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path

from flyteplugins_vol.store.base import ObjectInfo
from flyteplugins_vol.store.open import open_store
from volume_demo.basics import require


def start_store(store: str, work: Path, stack: ExitStack) -> str:
    """URL of the store to use; for ``s3``, of a server that lives as long as the stack."""
    if store == "file":
        (work / "store").mkdir()
        return (work / "store").as_uri()
    if store == "s3":
        return start_s3(work, stack)
    require("://" in store, f"--store takes file, s3 or the URL of a store, not {store!r}")
    return f"{store.rstrip('/')}/demo-{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}"


def start_s3(work: Path, stack: ExitStack) -> str:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    log = stack.enter_context((work / "s3-server.log").open("w"))
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log
    )
    stack.callback(server.wait)
    stack.callback(server.terminate)
    for name in [name for name in os.environ if "AWS_" in name]:
        del os.environ[name]
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "demo",
        "AWS_SECRET_ACCESS_KEY": "demo-secret",
        "AWS_REGION": "us-east-1",
    }
    deadline = time.monotonic() + 60
    while not make_bucket(port):
        require(server.poll() is None and time.monotonic() < deadline, f"the S3 server did not start: see {log.name}")
        time.sleep(0.1)
    return "s3://demo/volumes"


def make_bucket(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("PUT", "/demo")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


class Ledger:
    """What is in the store, by listing it: it believes nobody."""

    def __init__(self, url: str) -> None:
        self._store = open_store(url)
        self.objects: dict[str, ObjectInfo] = {}
        self.look()

    def look(self) -> list[int]:
        """Sizes of the objects that were written since the last look."""
        before, self.objects = self.objects, {entry.key: entry for entry in self._store.list("")}
        return [entry.size for key, entry in self.objects.items() if before.get(key) != entry]

    @property
    def bytes(self) -> int:
        return sum(entry.size for entry in self.objects.values())
