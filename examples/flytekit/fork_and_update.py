"""Update a dataset without touching it: fork, write, finalize. The fork shares all that it does not change.

python examples/flytekit/fork_and_update.py
"""

from flytekit import ImageSpec, task, workflow

from flyteplugins_vol.integrations.flytekit1.pods import fuse_pod_template, with_volume_deps
from flyteplugins_vol.io import ROVolume, Volume

image = with_volume_deps(ImageSpec(name="volumes", registry="localhost:30000"))


@task(container_image=image, pod_template=fuse_pod_template())
def create() -> ROVolume:
    volume = Volume.new("articles")
    data = volume.mount.sync()
    for number in range(100):
        (data / f"article-{number}.txt").write_text(f"article {number}\n" * 100)
    return volume.finalize.sync("as they came")


@task(container_image=image, pod_template=fuse_pod_template())
def correct(articles: ROVolume) -> ROVolume:
    edited = articles.fork.sync("articles-edited")
    data = edited.mount.sync()
    (data / "article-7.txt").write_text("corrected\n")
    (data / "article-8.txt").unlink()
    return edited.finalize.sync("correct number 7, drop number 8")


@task(container_image=image, pod_template=fuse_pod_template())
def compare(before: ROVolume, after: ROVolume) -> str:
    assert after.parents == (before.locator,)
    with before.mounted() as old, after.mounted() as new:
        gone = {path.name for path in old.iterdir()} - {path.name for path in new.iterdir()}
        changed = [path.name for path in new.iterdir() if path.read_bytes() != (old / path.name).read_bytes()]
    added = after.stats["new_pack_bytes"] + after.stats["new_index_bytes"]
    return f"gone: {sorted(gone)}, changed: {changed}, {added < before.stats['bytes']}"


@workflow
def main() -> str:
    articles = create()
    return compare(before=articles, after=correct(articles=articles))  # pyright: ignore[reportReturnType]


if __name__ == "__main__":
    print(main())
