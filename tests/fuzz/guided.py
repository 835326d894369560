"""The same targets led by coverage, with atheris: ``python -m tests.fuzz.guided TARGET [CORPUS] [libFuzzer options]``.

atheris is no dependency of the project, and has wheels for some versions of Python only: ``pip install atheris``. It
ends at the first crash and writes the input to ``crash-…``.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path

import atheris  # pyright: ignore[reportMissingImports]

with atheris.instrument_imports(include=["flyteplugins_vol"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    target = next(target for target in TARGETS if target.name == sys.argv[1])
    options = sys.argv[2:]
    if not options or options[0].startswith("-"):
        corpus = tempfile.mkdtemp(prefix="corpus-")
        for number, seed in enumerate(target.seeds()):
            (Path(corpus) / str(number)).write_bytes(seed)
        options = [corpus, *options]

    def one(data: bytes) -> None:
        try:
            target.run(data)
        except target.allowed:
            pass

    logging.disable(logging.CRITICAL)
    atheris.Setup([sys.argv[0], *options], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
