"""Which volume of a run is meant; the ways to Flyte itself are tested where Flyte is installed."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flyteplugins_vol.errors import UsageError
from flyteplugins_vol.explore.flyte_runs import Output, choose, volumes_in
from flyteplugins_vol.io import Volume
from tests.explore.conftest import World
from tests.explore.terminal import Terminal

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


ROOT = Path(__file__).parents[2]

_LOCAL_RUN = """
import sys
import flyte
from flyteplugins_vol.explore.flyte_runs import volume_of_run
from flyteplugins_vol.io import ROVolume, Volume

env = flyte.TaskEnvironment(name="cats")

@env.task
async def make() -> ROVolume:
    volume = Volume.new("cats", store=sys.argv[1])
    await volume.write_bytes("README.md", b"made by a task")
    return await volume.finalize("made")

flyte.init(local_persistence=True)
outputs = flyte.with_runcontext(mode="local", name="a-run").run(make).outputs()
print(volume_of_run(None, "a-run", None, None) == outputs[0].locator)
"""

_ASK_CLUSTER = """
import json
import sys
import flyte
from flyteplugins_vol.explore.flyte_runs import volume_of_run

class Config:
    def init(self):
        flyte.init_from_config("config.yaml")

for arguments in json.loads(sys.argv[1]):
    try:
        print(volume_of_run(Config(), *arguments))
    except Exception as error:
        print(type(error).__name__, str(error).replace("\\n", " "))
"""


def python(script: str, *arguments: str, cwd: Path) -> list[str]:
    """Output of a script: what Flyte keeps in a process is then no other test's."""
    environment = {**os.environ, "HOME": str(cwd), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=cwd, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_a_local_run_is_opened_in_a_terminal(world: World, terminal: Terminal) -> None:
    pytest.importorskip("flyte.remote", reason="needs the extra flyte")
    assert python(_LOCAL_RUN, world.url, cwd=world.root)[-1:] == ["True"]
    terminal.run(_flyte("explore", "volume", "a-run"), cwd=world.root)
    terminal.until(lambda text: "README.md" in text and "made" in text and "online" in text)
    terminal.keys("q")
    assert "exit code 0" in terminal.until(lambda text: "exit code" in text)


@pytest.fixture
def cluster(world: World) -> Iterator[list[str]]:
    """A cluster with some runs, and a configuration for it; locators of the volumes ``cats`` and ``dogs``."""
    pytest.importorskip("connectrpc", reason="needs the extra flyte")
    made = [Volume.new(name, world.url) for name in ("cats", "dogs")]
    made[0].write_bytes.sync("README.md", b"made by a task")
    cats, dogs = (str(volume.finalize.sync(f"version of {volume.name}").locator) for volume in made)
    runs = {
        "one": {"a0": {"o0": cats}},
        "several": {"a0": {"o0": 3}, "a1": {"o0": [cats, dogs], "o1": {"model": dogs}}, "a2": None},
        "running": {"a0": None},
    }
    (world.root / "runs.json").write_text(json.dumps(runs))
    port = world.root / "port"
    command = [sys.executable, str(Path(__file__).with_name("cluster.py")), str(world.root / "runs.json"), str(port)]
    with subprocess.Popen(command) as server:
        while not port.exists() and server.poll() is None:
            time.sleep(0.05)
        endpoint = f"admin:\n  endpoint: http://127.0.0.1:{port.read_text()}\n  insecure: true\n"
        task = "task:\n  org: acme\n  project: p\n  domain: development\n"
        (world.root / "config.yaml").write_text(endpoint + task)
        yield [cats, dogs]
        server.terminate()


@pytest.mark.slow
def test_runs_of_a_cluster(world: World, cluster: list[str]) -> None:
    """The SDK talks to services of the same definitions; of a real cluster's storage and log-in nothing is tested."""
    cats, dogs = cluster
    questions = [
        ("one", None, None), ("one", "a0", "o0"), ("several", None, "o0[1]"), ("several", "a1", "o0[0]"),
        ("several", "a1", "o1"), ("several", "a1", None), ("several", "a2", None), ("running", None, None),
        ("nowhere", None, None), ("one", "a9", None),
    ]  # fmt: skip
    answers = python(_ASK_CLUSTER, json.dumps(questions), cwd=world.root)
    assert answers[:5] == [cats, cats, dogs, cats, dogs]
    several, not_ended, running, nowhere, no_action = answers[5:]
    assert "UsageError 2 volumes are outputs of action a1" in several
    assert cats in several
    assert "has no volume among its outputs" in not_ended
    assert "has no volume among its outputs" in running
    assert "the cluster does not tell of it: run nowhere not found" in nowhere
    assert "action a9 not found" in no_action


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_a_run_of_a_cluster_is_opened_in_a_terminal(world: World, terminal: Terminal) -> None:
    terminal.run(_flyte("--config", "config.yaml", "explore", "volume", "one", "a0"), cwd=world.root)
    terminal.until(lambda text: "README.md" in text and "version of cats" in text and "online" in text)
    terminal.keys("q")
    assert "exit code 0" in terminal.until(lambda text: "exit code" in text)


def _flyte(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "import sys; from flyte.cli.main import main; sys.exit(main())", *arguments]
