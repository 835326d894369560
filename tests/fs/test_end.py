"""Files that nobody closed but Python, at the very end of the process, are published."""

from __future__ import annotations

import subprocess
import sys

import pytest

from flyteplugins_vol.fs import VolumeFileSystem
from flyteplugins_vol.io import RWVolume


@pytest.mark.parametrize(
    "write",
    [
        "import pickle; pickle.dump(1, fs.open('x', 'wb'))",
        "with fs.open('x', 'wb', compression='gzip') as file: file.write(bytes(5_000_000))",
    ],
)
def test_what_was_collected_just_before_the_end_is_published(volume: RWVolume, write: str) -> None:
    volume.write_bytes.sync("seed", b"seed")
    volume.finalize.sync()
    script = f"from flyteplugins_vol.fs import VolumeFileSystem\nfs = VolumeFileSystem('data')\n{write}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert VolumeFileSystem("data").find("") == ["seed", "x"]
