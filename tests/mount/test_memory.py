"""What is freed is used again, and goes back to the machine when nothing is going on."""

from __future__ import annotations

import os
import subprocess
import sys

from flyteplugins_vol.config import daemon_environment

_WORK = """
import resource, sys, threading

def work(times):
    for _ in range(times):
        pieces = [bytearray(b"x") * (8 << 20) for _ in range(3)]

def faults(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    thread = threading.Thread(target=work, args=(times,))
    thread.start()
    thread.join()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults(2)
print(faults(10))
"""

_QUIET = """
import trio, trio.testing
from flyteplugins_vol.mount import memory

def resident():
    with open("/proc/self/statm") as numbers:
        return int(numbers.read().split()[1]) * 4096

pieces = [bytearray(b"x") * (16 << 20) for _ in range(5)]
last = bytearray(10_000)
pieces.clear()
calls = []

async def main():
    with trio.move_on_after(60):
        await memory.give_back_when_quiet(lambda: calls.append(resident()))

before = resident()
trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.01))
print(before, len(calls), resident())
"""


def run(script: str, environment: dict[str, str]) -> list[int]:
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    return [int(word) for word in done.stdout.split()]


def test_a_piece_that_was_freed_is_used_again_without_page_faults() -> None:
    here = {"PATH": os.environ["PATH"]}
    (faults,), (faults_else,) = run(_WORK, daemon_environment(here)), run(_WORK, here)
    pages = (3 * 8 << 20) // 4096
    assert faults < pages  # of ten times as many
    assert faults_else > 5 * pages  # else there is nothing to gain, and it can go


def test_memory_goes_back_once_when_nothing_is_going_on() -> None:
    before, calls, after = run(_QUIET, daemon_environment())
    assert before - after > 64 << 20
    assert calls == 1  # quiet goes on, and there is nothing more to give
