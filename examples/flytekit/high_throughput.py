"""Very many small files: the image switches the high-throughput mode on, the task stays as it is.

python examples/flytekit/high_throughput.py
"""

from flytekit import ImageSpec, Resources, task, workflow

from flyteplugins_vol.integrations.flytekit1.pods import fuse_pod_template, with_high_throughput_volume_deps
from flyteplugins_vol.io import ROVolume, RWVolume, Volume

image = with_high_throughput_volume_deps(ImageSpec(name="many-files", registry="localhost:30000"))


@task(container_image=image, pod_template=fuse_pod_template(), requests=Resources(cpu="2", mem="4Gi"))
def generate(directories: int, files: int) -> RWVolume:
    volume = Volume.new("generated-code")
    data = volume.mount.sync(max_uploads=100)
    for directory in range(directories):
        package = data / f"package_{directory}"
        package.mkdir()
        for file in range(files):
            (package / f"module_{file}.py").write_text(f"VALUE = {directory * files + file}\n")
    return volume


@task(container_image=image, pod_template=fuse_pod_template())
def count(code: ROVolume) -> int:
    with code.mounted() as data:
        return sum(1 for path in data.rglob("*.py") if path.stat().st_size)


@workflow
def main(directories: int = 20, files: int = 50) -> int:
    return count(code=generate(directories=directories, files=files))  # pyright: ignore[reportReturnType]


if __name__ == "__main__":
    print(main())
