"""What finalizers leave to do is done before the process ends, in a thread or without one."""

from __future__ import annotations

import subprocess
import sys

import pytest

BEGIN = """
import atexit, threading
from flyteplugins_vol.history import closer
"""
MANY = """
def first():
    closer.later(lambda: print("what it gave"))
    print("first")
closer.later(first)
closer.later(lambda: 1 // 0)
closer.later(lambda: print("last"))
"""


def run(script: str) -> tuple[list[str], str]:
    done = subprocess.run([sys.executable, "-c", BEGIN + script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), done.stderr


@pytest.mark.parametrize("begin", ["", "closer.begin_closer()"])
def test_all_is_done_at_the_end(begin: str) -> None:
    out, errors = run(f"{begin}\natexit.register(closer.finish, 30.0)\n{MANY}")
    assert out == ["first", "last", "what it gave"]
    assert "ZeroDivisionError" in errors, "one that fails is told of, and those after it are done"


def test_what_never_ends_holds_up_nobody_for_long() -> None:
    out, _ = run("""
closer.begin_closer()
closer.later(threading.Event().wait)
closer.later(lambda: print("never"))
closer.finish(0.1)
print("over")
""")
    assert out == ["over"]
