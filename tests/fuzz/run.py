"""Fuzz for long: ``python -m tests.fuzz.run [--executions 10_000_000] [--seconds N] [--target NAME] [--seed N]``.

Prints executions, time and crashes of each target. An input that crashed is written to ``--crashes`` and is then a
case of `tests/fuzz/test_fuzz.py` (put it into ``tests/fuzz/crashes/<target>/``).
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import random
import time
import traceback
from collections import Counter
from pathlib import Path

from tests.fuzz.mutate import mutated
from tests.fuzz.targets import SLOW, TARGETS, Target

_KEEP = 300  # inputs that were accepted, or failed in a new way: they are mutated further


def crash_of(target: Target, data: bytes) -> str | None:
    """How an input breaks a target; None if it does not."""
    started = time.monotonic()
    try:
        target.run(data)
    except target.allowed:
        pass
    except Exception:
        return traceback.format_exc()
    took = time.monotonic() - started
    return f"took {took:.1f} s" if took > SLOW else None


def fuzz(target: Target, rng: random.Random, executions: int, seconds: float) -> tuple[int, Counter[str], list[bytes]]:
    """``(executions, what came of them, inputs that crashed)``."""
    corpus = list(target.seeds())
    seen: set[str] = set()
    outcomes: Counter[str] = Counter()
    crashed: list[bytes] = []
    until = time.monotonic() + seconds
    done = 0
    while done < executions and (done & 63 or time.monotonic() < until):
        data = target.mutate(rng, rng.choice(corpus), rng.choice(corpus))
        done += 1
        outcome = _outcome(target, data)
        outcomes[outcome.partition(":")[0]] += 1
        if outcome.startswith("CRASH") and outcome not in seen:
            crashed.append(data)
        if outcome not in seen:
            seen.add(outcome)
            if target.mutate is mutated and len(corpus) < _KEEP and len(data) < 1 << 20:
                corpus.append(data)
    return done, outcomes, crashed


def _outcome(target: Target, data: bytes) -> str:
    started = time.monotonic()
    try:
        target.run(data)
        outcome = "accepted"
    except target.allowed as error:
        outcome = f"{type(error).__name__}: {_shape(str(error))}"
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        outcome = f"CRASH {type(error).__name__} at {where.filename}:{where.lineno}"
    return "CRASH slow" if time.monotonic() - started > SLOW else outcome


def _shape(text: str) -> str:
    return "".join(letter for letter in text[:60] if letter.isalpha() or letter == " ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--executions", type=int, default=10_000_000)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="at most, for each target")
    parser.add_argument("--target", choices=[target.name for target in TARGETS])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--crashes", type=Path, default=Path("fuzz-crashes"))
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    targets = [target for target in TARGETS if options.target in (None, target.name)]
    shares = sum(target.share for target in targets)
    total = 0
    for target in targets:
        started = time.monotonic()
        wanted = int(options.executions * target.share / shares)
        done, outcomes, crashed = fuzz(target, random.Random(options.seed), wanted, options.seconds)
        total += done
        took = time.monotonic() - started
        print(f"{target.name:16} {done:>10,} in {took:7.1f} s  {len(crashed)} crashes  {dict(outcomes)}", flush=True)
        for data in crashed:
            place = options.crashes / target.name
            place.mkdir(parents=True, exist_ok=True)
            (place / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    print(f"{'together':16} {total:>10,}", flush=True)


if __name__ == "__main__":
    main()
