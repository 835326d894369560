"""Write in parallel: each task forks the same version, so no two of them ever write to one volume.

python examples/flyte/parallel_shards.py
"""

from __future__ import annotations

import asyncio
import hashlib

import flyte

from flyteplugins_vol.io import ROVolume, Volume, with_volume_deps

SHARDS = 8

env = flyte.TaskEnvironment(
    name="volume-shards",
    image=with_volume_deps(flyte.Image.from_debian_base()),
    pod_template=flyte.PodTemplate().allow_fuse(),
)


@env.task
async def create_base() -> ROVolume:
    volume = Volume.new("words")
    data = await volume.mount()
    (data / "words.txt").write_text("\n".join(f"word-{number}" for number in range(800)))
    return await volume.finalize()


@env.task
async def process_shard(base: ROVolume, shard: int) -> ROVolume:
    branch = await base.fork(f"words-shard-{shard}")
    data = await branch.mount()
    words = (data / "words.txt").read_text().splitlines()[shard::SHARDS]
    digests = (f"{word} {hashlib.sha256(word.encode()).hexdigest()}\n" for word in words)
    (data / f"shard-{shard}.txt").write_text("".join(digests))
    return await branch.finalize(f"shard {shard}")


@env.task
async def collect(shards: list[ROVolume]) -> ROVolume:
    """Bring the shards together in one volume: what they wrote is read through their mounts."""
    together = await shards[0].fork("words-done")
    data = await together.mount()
    for number, shard in enumerate(shards[1:], 1):
        async with shard.mounted() as path:
            (data / f"shard-{number}.txt").write_bytes((path / f"shard-{number}.txt").read_bytes())
    return await together.finalize("all shards")


@env.task
async def count(words: ROVolume) -> int:
    data = await words.mount()
    return sum(len(path.read_text().splitlines()) for path in data.glob("shard-*.txt"))


@env.task
async def main() -> int:
    base = await create_base()
    shards = await asyncio.gather(*(process_shard(base, shard) for shard in range(SHARDS)))
    return await count(await collect(list(shards)))


if __name__ == "__main__":
    flyte.init()
    print(flyte.with_runcontext(mode="local").run(main).outputs()[0])
