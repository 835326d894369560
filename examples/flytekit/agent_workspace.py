"""An agent's memory: a volume that each turn finds as the last one left it, with a version for every turn.

python examples/flytekit/agent_workspace.py
"""

import asyncio
from pathlib import Path

from flytekit import ImageSpec, eager, task

from flyteplugins_vol.integrations.flytekit1.pods import fuse_pod_template, with_volume_deps
from flyteplugins_vol.io import ROVolume, Volume

image = with_volume_deps(ImageSpec(name="volumes", registry="localhost:30000"))


def think(workspace: Path, message: str) -> str:
    """Stands for the agent: it keeps notes, and answers from them."""
    notes = workspace / "notes"
    notes.mkdir(exist_ok=True)
    number = len(list(notes.iterdir()))
    (notes / f"{number:04}.md").write_text(message)
    return f"I remember {number} earlier messages" + (f", the first was {_first(notes)!r}" if number else "")


def _first(notes: Path) -> str:
    return (notes / "0000.md").read_text()


@task(container_image=image, pod_template=fuse_pod_template())
async def turn(message: str, memory: ROVolume | None = None) -> tuple[str, ROVolume]:
    volume = await memory.fork() if memory is not None else Volume.new("agent-memory")
    workspace = await volume.mount()
    answer = think(workspace, message)
    return answer, await volume.finalize(message[:60])


@eager(container_image=image)
async def conversation(messages: list[str]) -> str:
    """In flytekit, tasks with ``await`` in them are called from an ``@eager`` function, not from a workflow."""
    memory: ROVolume | None = None
    answer = ""
    for message in messages:
        answer, memory = await turn(message=message, memory=memory)  # pyright: ignore[reportGeneralTypeIssues]
    return answer


if __name__ == "__main__":
    said = ["My name is Ada.", "I like engines.", "What is my name?"]
    print(asyncio.run(conversation(messages=said)))
