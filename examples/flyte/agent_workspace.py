"""An agent's memory: a volume that each turn finds as the last one left it, with a version for every turn.

python examples/flyte/agent_workspace.py
"""

from __future__ import annotations

from pathlib import Path

import flyte

from flyteplugins_vol.io import ROVolume, Volume, with_volume_deps

env = flyte.TaskEnvironment(
    name="volume-agent",
    image=with_volume_deps(flyte.Image.from_debian_base()),
    pod_template=flyte.PodTemplate().allow_fuse(),
)


def think(workspace: Path, message: str) -> str:
    """Stands for the agent: it keeps notes, and answers from them."""
    notes = workspace / "notes"
    notes.mkdir(exist_ok=True)
    number = len(list(notes.iterdir()))
    (notes / f"{number:04}.md").write_text(message)
    return f"I remember {number} earlier messages" + (f", the first was {_first(notes)!r}" if number else "")


def _first(notes: Path) -> str:
    return (notes / "0000.md").read_text()


@env.task
async def turn(message: str, memory: ROVolume | None = None) -> tuple[str, ROVolume]:
    volume = await memory.fork() if memory is not None else Volume.new("agent-memory")
    workspace = await volume.mount()
    answer = think(workspace, message)
    return answer, await volume.finalize(message[:60])


@env.task
async def conversation(messages: list[str]) -> str:
    memory: ROVolume | None = None
    answer = ""
    for message in messages:
        answer, memory = await turn(message, memory)
    return answer


if __name__ == "__main__":
    flyte.init()
    said = ["My name is Ada.", "I like engines.", "What is my name?"]
    print(flyte.with_runcontext(mode="local").run(conversation, said).outputs()[0])
