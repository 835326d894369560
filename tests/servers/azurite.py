"""Azurite, Microsoft's emulator of Azure Blob Storage: ``npm install azurite`` somewhere, then name it.

It is looked for in ``AZURITE_HOME`` (the directory of the ``npm install``), in the project's ``node_modules`` and on
the path.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .server import AzureServer, answers, free_port, wait_until

# The emulator's well-known account: https://learn.microsoft.com/azure/storage/common/storage-use-azurite
_ACCOUNT = "devstoreaccount1"
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def azurite_missing() -> str:
    """Why it cannot be started; '' if it can."""
    return "" if _program() else "azurite is not installed: npm install --prefix DIR azurite, AZURITE_HOME=DIR"


@contextmanager
def azurite_server(port: int = 0) -> Iterator[AzureServer]:
    """The server, in a process of its own, with its data in a temporary directory."""
    port = port or free_port()
    with tempfile.TemporaryDirectory(prefix="azurite-") as directory:
        log = Path(directory, "server.log")
        command = [_program() or "", "--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", directory]
        command += ["--silent", "--skipApiVersionCheck", "--disableTelemetry"]
        with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
            try:
                wait_until(lambda: answers(f"http://127.0.0.1:{port}"), log, process=process)
                yield AzureServer(f"http://127.0.0.1:{port}/{_ACCOUNT}", _ACCOUNT, _KEY)
            finally:
                process.terminate()


def _program() -> str | None:
    project = Path(__file__).parents[2]
    places = [Path(os.environ["AZURITE_HOME"])] if os.environ.get("AZURITE_HOME") else []
    for place in (*places, project):
        program = place / "node_modules" / ".bin" / "azurite-blob"
        if program.exists():
            return str(program)
    return shutil.which("azurite-blob")
