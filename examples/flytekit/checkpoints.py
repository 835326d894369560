"""Checkpoint while you work, fail, and go on from the last checkpoint: every commit is a version that stays.

python examples/flytekit/checkpoints.py
"""

import json

from flytekit import ImageSpec, task

from flyteplugins_vol.integrations.flytekit1.pods import fuse_pod_template, with_volume_deps
from flyteplugins_vol.io import ROVolume, Volume

EPOCHS = 20

image = with_volume_deps(ImageSpec(name="volumes", registry="localhost:30000"))


@task(container_image=image, pod_template=fuse_pod_template())
def train(name: str, fail_at: int | None = None) -> ROVolume:
    volume = Volume.from_name.sync(name, create_if_missing=True)  # where the last commit left it, if there was one
    data = volume.mount.sync()
    state = data / "state.json"
    epoch, loss = json.loads(state.read_text()) if state.exists() else (0, 1.0)
    while epoch < EPOCHS:
        if epoch == fail_at:
            raise RuntimeError("the node is gone")
        epoch, loss = epoch + 1, loss * 0.9
        state.write_text(json.dumps([epoch, loss]))
        if epoch % 5 == 0:
            volume.commit.sync(f"epoch {epoch}")  # durable from here on; the mount stays in use
    return volume.finalize.sync("training complete")


@task(container_image=image, pod_template=fuse_pod_template())
def checkpoints(trained: ROVolume) -> list[str]:
    """The line of versions, the last first."""
    messages = [trained.message or ""]
    while trained.parents:
        trained = Volume.from_locator.sync(trained.parents[0])
        messages.append(trained.message or "")
    return messages


if __name__ == "__main__":
    try:
        train(name="training-run", fail_at=13)
    except RuntimeError:
        pass  # as after a failed run: the next one goes on from "epoch 10"
    print(checkpoints(trained=train(name="training-run")))
