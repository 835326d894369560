"""Checkpoint while you work, fail, and go on from the last checkpoint: every commit is a version that stays.

python examples/flyte/checkpoints.py
"""

from __future__ import annotations

import json

import flyte

from flyteplugins_vol.errors import VersionNotFoundError
from flyteplugins_vol.io import ROVolume, Volume, with_volume_deps

EPOCHS = 20

env = flyte.TaskEnvironment(
    name="volume-checkpoints",
    image=with_volume_deps(flyte.Image.from_debian_base()),
    pod_template=flyte.PodTemplate().allow_fuse(),
)


@env.task
async def train(name: str, fail_at: int | None = None) -> ROVolume:
    volume = await Volume.from_name(name, create_if_missing=True)  # where the last commit left it, if there was one
    data = await volume.mount()
    state = data / "state.json"
    epoch, loss = json.loads(state.read_text()) if state.exists() else (0, 1.0)
    while epoch < EPOCHS:
        if epoch == fail_at:
            raise RuntimeError("the node is gone")
        epoch, loss = epoch + 1, loss * 0.9
        state.write_text(json.dumps([epoch, loss]))
        if epoch % 5 == 0:
            await volume.commit(f"epoch {epoch}")  # durable from here on; the mount stays in use
    return await volume.finalize("training complete")


@env.task
async def checkpoints(trained: ROVolume) -> list[str]:
    """The line of versions, the last first."""
    messages = [trained.message or ""]
    for _ in range(100):
        if not trained.parents:
            break
        trained = await Volume.from_locator(trained.parents[0])
        messages.append(trained.message or "")
    return messages


@env.task
async def main(name: str = "training-run") -> list[str]:
    try:
        await train(name, fail_at=13)
    except flyte.errors.RuntimeUserError:
        pass  # as after a failed run: the next one goes on from "epoch 10"
    return await checkpoints(await train(name))


if __name__ == "__main__":
    flyte.init()
    try:
        found = Volume.from_name.sync("training-run")
        print(f"going on from {found.message}")
    except VersionNotFoundError:
        pass
    print(flyte.with_runcontext(mode="local").run(main).outputs()[0])
