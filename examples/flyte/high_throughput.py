"""Very many small files: the image switches the high-throughput mode on, the task stays as it is.

python examples/flyte/high_throughput.py
"""

from __future__ import annotations

import flyte

from flyteplugins_vol.io import ROVolume, Volume, with_high_throughput_volume_deps

env = flyte.TaskEnvironment(
    name="volume-high-throughput",
    image=with_high_throughput_volume_deps(flyte.Image.from_debian_base()),
    pod_template=flyte.PodTemplate().allow_fuse(),
    resources=flyte.Resources(cpu="2", memory="4Gi"),
)


@env.task
async def generate(directories: int, files: int) -> ROVolume:
    volume = Volume.new("generated-code")
    data = await volume.mount(max_uploads=100)
    for directory in range(directories):
        package = data / f"package_{directory}"
        package.mkdir()
        for file in range(files):
            (package / f"module_{file}.py").write_text(f"VALUE = {directory * files + file}\n")
    return await volume.finalize()


@env.task
async def count(code: ROVolume) -> int:
    data = await code.mount()
    return sum(1 for path in data.rglob("*.py") if path.stat().st_size)


@env.task
async def main(directories: int = 20, files: int = 50) -> int:
    return await count(await generate(directories, files))


if __name__ == "__main__":
    flyte.init()
    print(flyte.with_runcontext(mode="local").run(main).outputs()[0])
