"""`make audit` never says that all is well when it could not look."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "audit"

KNOWN = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}
SKIPPED = {"name": "c", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("packages", "status", "words"),
    [
        ([KNOWN, SKIPPED], 0, "0 known vulnerabilities in 1 of 2"),
        ([KNOWN, BAD], 1, "b 1: CVE-1, fixed in 2"),
        ([SKIPPED], 2, "NOT DONE"),
        ([], 2, "NOT DONE"),
        (None, 2, "NOT DONE, the database of vulnerabilities cannot be reached from here: nobody answers"),
    ],
)
def test_what_it_says(tmp_path: Path, packages: list[object] | None, status: int, words: str) -> None:
    says = (
        f"print({json.dumps({'dependencies': packages})!r})" if packages is not None else "sys.exit('nobody answers')"
    )
    (tmp_path / "pip_audit.py").write_text(f"import sys\n{says}\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == status
    assert words in done.stdout
