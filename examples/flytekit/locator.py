"""Hand a version to a run that knows nothing of this one: its locator is a string that can be stored anywhere.

python examples/flytekit/locator.py
"""

from flytekit import ImageSpec, task, workflow

from flyteplugins_vol.integrations.flytekit1.pods import fuse_pod_template, with_volume_deps
from flyteplugins_vol.io import Volume

image = with_volume_deps(ImageSpec(name="volumes", registry="localhost:30000"))


@task(container_image=image, pod_template=fuse_pod_template())
def publish() -> str:
    volume = Volume.new("published")
    data = volume.mount.sync()
    (data / "model.bin").write_bytes(bytes(1000))
    version = volume.finalize.sync("v1")
    assert version.locator is not None
    return version.locator


@task(container_image=image, pod_template=fuse_pod_template())
def consume(locator: str) -> str:
    version = Volume.from_locator.sync(locator)
    made_by = version.produced_by or {}
    with version.mounted() as data:
        return f"{(data / 'model.bin').stat().st_size} bytes, {version.message}, made by {made_by.get('task')}"


@workflow
def publishing() -> str:
    return publish()  # pyright: ignore[reportReturnType]


@workflow
def consuming(locator: str) -> str:
    return consume(locator=locator)  # pyright: ignore[reportReturnType]


if __name__ == "__main__":
    print(consuming(locator=publishing()))  # pyright: ignore[reportArgumentType]
