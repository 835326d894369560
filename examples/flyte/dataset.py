"""Create a dataset in one task, read it in the next: returning a writer commits it, the next task gets that version.

python examples/flyte/dataset.py
"""

from __future__ import annotations

import flyte

from flyteplugins_vol.io import ROVolume, RWVolume, Volume, with_volume_deps

env = flyte.TaskEnvironment(
    name="volume-dataset",
    image=with_volume_deps(flyte.Image.from_debian_base()),
    pod_template=flyte.PodTemplate().allow_fuse(),
    resources=flyte.Resources(cpu="1", memory="2Gi"),
)


@env.task
async def create_dataset(lines: int) -> RWVolume:
    volume = Volume.new("my-dataset")
    data = await volume.mount()
    with open(data / "numbers.csv", "w") as file:
        file.writelines(f"{number},{number**2}\n" for number in range(lines))
    return volume  # committed and unmounted; the next task gets an ROVolume


@env.task
async def sum_of_squares(dataset: ROVolume) -> int:
    data = await dataset.mount()
    return sum(int(line.split(",")[1]) for line in open(data / "numbers.csv"))


@env.task
async def main(lines: int = 1000) -> int:
    dataset = await create_dataset(lines)  # an ROVolume, whatever type checkers conclude from the signature
    return await sum_of_squares(dataset)  # pyright: ignore[reportArgumentType]


if __name__ == "__main__":
    flyte.init()
    print(flyte.with_runcontext(mode="local").run(main).outputs()[0])
