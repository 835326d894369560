"""Update a dataset without touching it: fork, write, finalize. The fork shares all that it does not change.

python examples/flyte/fork_and_update.py
"""

from __future__ import annotations

import flyte

from flyteplugins_vol.io import ROVolume, Volume, with_volume_deps

env = flyte.TaskEnvironment(
    name="volume-fork",
    image=with_volume_deps(flyte.Image.from_debian_base()),
    pod_template=flyte.PodTemplate().allow_fuse(),
)


@env.task
async def create() -> ROVolume:
    volume = Volume.new("articles")
    data = await volume.mount()
    for number in range(100):
        (data / f"article-{number}.txt").write_text(f"article {number}\n" * 100)
    return await volume.finalize("as they came")


@env.task
async def correct(articles: ROVolume) -> ROVolume:
    edited = await articles.fork("articles-edited")
    data = await edited.mount()
    (data / "article-7.txt").write_text("corrected\n")
    (data / "article-8.txt").unlink()
    return await edited.finalize("correct number 7, drop number 8")


@env.task
async def compare(before: ROVolume, after: ROVolume) -> str:
    old, new = await before.mount(), await after.mount()
    gone = {path.name for path in old.iterdir()} - {path.name for path in new.iterdir()}
    changed = [path.name for path in new.iterdir() if path.read_bytes() != (old / path.name).read_bytes()]
    added = after.stats["new_pack_bytes"] + after.stats["new_index_bytes"]
    return f"gone: {sorted(gone)}, changed: {changed}, {added < before.stats['bytes']}"


@env.task
async def main() -> str:
    articles = await create()
    edited = await correct(articles)
    assert edited.parents == (articles.locator,)
    return await compare(articles, edited)


if __name__ == "__main__":
    flyte.init()
    print(flyte.with_runcontext(mode="local").run(main).outputs()[0])
