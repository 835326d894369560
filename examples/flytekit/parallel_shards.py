"""Write in parallel: each task forks the same version, so no two of them ever write to one volume.

python examples/flytekit/parallel_shards.py
"""

import functools
import hashlib

from flytekit import ImageSpec, map_task, task, workflow

from flyteplugins_vol.integrations.flytekit1.pods import fuse_pod_template, with_volume_deps
from flyteplugins_vol.io import ROVolume, RWVolume, Volume

SHARDS = 4

image = with_volume_deps(ImageSpec(name="volumes", registry="localhost:30000"))


@task(container_image=image, pod_template=fuse_pod_template())
def create_base() -> RWVolume:
    volume = Volume.new("words")
    data = volume.mount.sync()
    (data / "words.txt").write_text("\n".join(f"word-{number}" for number in range(800)))
    return volume


@task(container_image=image, pod_template=fuse_pod_template())
def process_shard(base: ROVolume, shard: int) -> ROVolume:
    branch = base.fork.sync(f"words-shard-{shard}")
    data = branch.mount.sync()
    words = (data / "words.txt").read_text().splitlines()[shard::SHARDS]
    digests = (f"{word} {hashlib.sha256(word.encode()).hexdigest()}\n" for word in words)
    (data / f"shard-{shard}.txt").write_text("".join(digests))
    return branch.finalize.sync(f"shard {shard}")


@task(container_image=image, pod_template=fuse_pod_template())
def collect(shards: list[ROVolume]) -> ROVolume:
    """Bring the shards together in one volume: what they wrote is read through their mounts."""
    together = shards[0].fork.sync("words-done")
    data = together.mount.sync()
    for number, shard in enumerate(shards[1:], 1):
        with shard.mounted() as path:
            (data / f"shard-{number}.txt").write_bytes((path / f"shard-{number}.txt").read_bytes())
    return together.finalize.sync("all shards")


@task(container_image=image, pod_template=fuse_pod_template())
def count(words: ROVolume) -> int:
    with words.mounted() as data:
        return sum(len(path.read_text().splitlines()) for path in data.glob("shard-*.txt"))


@workflow
def main(shards: list[int] = list(range(SHARDS))) -> int:  # noqa: B006 - flytekit reads it, nobody changes it
    of_base = functools.partial(process_shard, base=create_base())
    done = map_task(of_base)(shard=shards)  # pyright: ignore[reportArgumentType]
    return count(words=collect(shards=done))  # pyright: ignore[reportReturnType]


if __name__ == "__main__":
    print(main())
