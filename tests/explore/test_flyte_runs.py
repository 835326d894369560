"""Which volume of a run is meant; the ways to Flyte itself are tested where Flyte is installed."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flyteplugins_vol.errors import UsageError
from flyteplugins_vol.explore.flyte_runs import Output, choose, volumes_in

A = f"s3://b/p/volumes/cats-{'0' * 16}/versions/00000001-{'a' * 40}.json"
B = f"s3://b/p/volumes/dogs-{'1' * 16}/versions/00000002-{'b' * 40}.json"


@dataclasses.dataclass
class Model:
    weights: Any
    score: float


class Handle:
    def __init__(self, locator: str) -> None:
        self.locator = locator


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (A, [("o0", A)]),
        ({"locator": A, "parents": [B]}, [("o0", A)]),
        (json.dumps({"locator": A, "parents": [B]}), [("o0", A)]),
        ([Handle(A), 3, None, Handle(B)], [("o0[0]", A), ("o0[3]", B)]),
        (Model(Handle(A), 0.5), [("o0.weights", A)]),
        ({"x": {"y": (A,)}}, [("o0.x.y[0]", A)]),
        ("nothing of the kind", []),
        ("{not json", []),
        (f"{{'a': <object>, 'b': '{A}'}}", [("o0", A)]),
        (3.5, []),
    ],
)
def test_volumes_in_values(value: Any, expected: list[tuple[str, str]]) -> None:
    assert list(volumes_in(value, "o0")) == expected


def test_local_outputs_are_json_in_pythons_notation() -> None:
    written = str({"o0": json.dumps({"locator": A}), "o1": 3, "o2": [json.dumps({"locator": B})]})
    assert list(volumes_in(written, "")) == [("o0", A), ("o2[0]", B)]


def test_a_circle_ends() -> None:
    circle: list[Any] = []
    circle.append(circle)
    assert list(volumes_in(circle, "o0")) == []


def test_choosing() -> None:
    outputs = [Output("a0", "o0", A), Output("a1", "o1[0]", B), Output("a1", "o0", A)]
    assert choose(outputs[:1], "run r", None) == A
    assert choose([outputs[0], outputs[2]], "run r", None) == A  # one volume, handed on
    assert choose(outputs, "run r", "o1") == choose(outputs, "run r", "o1[0]") == B
    with pytest.raises(UsageError, match="2 volumes are outputs of run r") as caught:
        choose(outputs, "run r", None)
    assert A in str(caught.value)
    assert "--op-name" in caught.value.hint
    with pytest.raises(UsageError, match="no volume named 'o7'"):
        choose(outputs, "run r", "o7")
    with pytest.raises(UsageError, match="has no volume among"):
        choose([], "run r", None)


_SCRIPT = """
import sys
import flyte
from flyteplugins_vol.explore.flyte_runs import volume_of_run
from flyteplugins_vol.io import ROVolume, Volume

env = flyte.TaskEnvironment(name="cats")

@env.task
async def make() -> ROVolume:
    return await Volume.new("cats", store=sys.argv[1]).finalize("made")

flyte.init(local_persistence=True)
outputs = flyte.with_runcontext(mode="local", name="a-run").run(make).outputs()
print(volume_of_run(None, "a-run", None, None) == outputs[0].locator)
"""


@pytest.mark.slow
def test_a_local_run(tmp_path: Path) -> None:
    pytest.importorskip("flyte.remote", reason="needs the extra flyte")
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT)
    command = [sys.executable, str(script), f"file://{tmp_path}/store"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=tmp_path)
    assert done.stdout.splitlines()[-1:] == ["True"], done.stderr
