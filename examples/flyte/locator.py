"""Hand a version to a run that knows nothing of this one: its locator is a string that can be stored anywhere.

python examples/flyte/locator.py
"""

from __future__ import annotations

import flyte

from flyteplugins_vol.io import Volume, with_volume_deps

env = flyte.TaskEnvironment(
    name="volume-locator",
    image=with_volume_deps(flyte.Image.from_debian_base()),
    pod_template=flyte.PodTemplate().allow_fuse(),
)


@env.task
async def publish() -> str:
    volume = Volume.new("published")
    data = await volume.mount()
    (data / "model.bin").write_bytes(bytes(1000))
    version = await volume.finalize("v1")
    assert version.locator is not None
    return version.locator


@env.task
async def consume(locator: str) -> str:
    version = await Volume.from_locator(locator)
    data = await version.mount()
    made_by = version.produced_by or {}
    return f"{(data / 'model.bin').stat().st_size} bytes, {version.message}, made by {made_by.get('task')}"


if __name__ == "__main__":
    flyte.init()
    locator = flyte.with_runcontext(mode="local").run(publish).outputs()[0]
    print(flyte.with_runcontext(mode="local").run(consume, locator).outputs()[0])
