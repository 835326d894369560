"""The same for flytekit (Flyte 1): blocking calls in tasks of a workflow.

python examples/flytekit/dataset.py
"""

from flytekit import ImageSpec, task, workflow

from flyteplugins_vol.integrations.flytekit1.pods import fuse_pod_template, with_volume_deps
from flyteplugins_vol.io import ROVolume, RWVolume, Volume

image = with_volume_deps(ImageSpec(name="volumes", registry="localhost:30000"))


@task(container_image=image, pod_template=fuse_pod_template())
def create_dataset(lines: int) -> RWVolume:
    volume = Volume.new("my-dataset")
    data = volume.mount.sync()
    with open(data / "numbers.csv", "w") as file:
        file.writelines(f"{number},{number**2}\n" for number in range(lines))
    return volume  # committed and unmounted; the next task gets an ROVolume


@task(container_image=image, pod_template=fuse_pod_template())
def sum_of_squares(dataset: ROVolume) -> int:
    with dataset.mounted() as data:
        return sum(int(line.split(",")[1]) for line in open(data / "numbers.csv"))


@workflow
def main(lines: int = 1000) -> int:
    return sum_of_squares(dataset=create_dataset(lines=lines))  # pyright: ignore[reportReturnType]


if __name__ == "__main__":
    print(main())
