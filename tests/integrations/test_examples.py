"""Every example runs as its first lines say, and prints what it should."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import fuse_mounts

ROOT = Path(__file__).parents[2]

PRINTS = {
    "flyte/dataset.py": "332833500",
    "flyte/fork_and_update.py": "gone: ['article-8.txt'], changed: ['article-7.txt'], True",
    "flyte/parallel_shards.py": "800",
    "flyte/checkpoints.py": "['training complete', 'epoch 20', 'epoch 15', 'epoch 10', 'epoch 5']",
    "flyte/locator.py": "1000 bytes, v1, made by volume-locator.publish",
    "flyte/agent_workspace.py": "I remember 2 earlier messages, the first was 'My name is Ada.'",
    "flyte/sandboxes.py": """['42', 'False', 'abab']""",
    "flyte/high_throughput.py": "1000",
}
PRINTS |= {name.replace("flyte/", "flytekit/"): last for name, last in PRINTS.items()}  # the same uses in Flyte 1
PRINTS["flytekit/locator.py"] = "1000 bytes, v1, made by locator.publish"

pytestmark = [pytest.mark.fuse, pytest.mark.slow]


def test_there_are_no_others() -> None:
    found = {str(path.relative_to(ROOT / "examples")) for path in (ROOT / "examples").glob("flyte*/*.py")}
    assert found == PRINTS.keys()


@pytest.mark.parametrize("name", PRINTS)
def test_an_example(name: str, scratch: Path) -> None:
    pytest.importorskip(name.partition("/")[0])
    command = [sys.executable, str(ROOT / "examples" / name)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DO_NOT_TRACK": "1"}
    done = subprocess.run(command, cwd=scratch, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == PRINTS[name]
    assert fuse_mounts(scratch) == []
