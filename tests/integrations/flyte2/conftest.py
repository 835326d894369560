"""Flyte 2, initialised for local runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

flyte = pytest.importorskip("flyte")


@pytest.fixture
def run(scratch: Path) -> Callable[..., Any]:
    """Run a task as `flyte run --local` does, and return its output, or the tuple of its outputs."""
    flyte.init()

    def run(task: Any, *args: Any, **kwargs: Any) -> Any:
        outputs = flyte.with_runcontext(mode="local").run(task, *args, **kwargs).outputs()
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    return run
