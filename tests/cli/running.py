"""Commands that run on: mounts, and what is run on one."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from tests.cli.conftest import COMMAND, Cli


def mounted(cli: Cli, *arguments: str | Path, begun_by: str = "") -> tuple[subprocess.Popen[bytes], Path]:
    """Start `flytevol mount … <root>/mnt` and wait for the mount."""
    path = cli.root / "mnt"
    process = cli.process("mount", *arguments[:1], path, *arguments[1:], begun_by=begun_by)
    pipe = process.stdout if "--json" in arguments else process.stderr
    assert pipe is not None
    line = pipe.readline().decode()
    assert str(path) in line, line + pipe.read().decode()
    assert os.path.ismount(path)
    return process, path


def ended(process: subprocess.Popen[bytes], code: int = 0) -> tuple[str, str]:
    """Output and errors of a process that ends with ``code``."""
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, (process.returncode, out, err)
    return out.decode(), err.decode()


def stop(process: subprocess.Popen[bytes], number: int = signal.SIGINT) -> tuple[str, str]:
    process.send_signal(number)
    return ended(process)


def executed(cli: Cli, *arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*COMMAND, "exec", *map(str, arguments)], capture_output=True, text=True, timeout=60)
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return done
