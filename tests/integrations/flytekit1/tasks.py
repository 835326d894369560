"""The contract's examples for flytekit, and volumes wherever it takes a type."""

import asyncio
import dataclasses
from typing import Dict, List, Optional, Tuple

import pydantic
from flytekit import dynamic, eager, map_task, task, workflow

from flyteplugins_vol.io import ROVolume, RWVolume, Volume
from tests.integrations.looking import places_of


# --- the contract: async tasks under @eager


@task
async def create_dataset() -> RWVolume:
    vol = Volume.new(name="my-dataset")
    data = await vol.mount()
    (data / "greeting.txt").write_text("hello from a volume\n")
    return vol


@task
async def read_dataset(vol: ROVolume) -> str:
    data = await vol.mount()
    text = (data / "greeting.txt").read_text()
    await vol.unmount()
    return text


@eager
async def main() -> str:
    dataset = await create_dataset()
    return await read_dataset(vol=dataset)


@task
async def add_file(vol: ROVolume) -> ROVolume:
    rw = await vol.fork(name="my-dataset-v2")
    data = await rw.mount()
    (data / "extra.txt").write_text("added in a later run\n")
    return await rw.finalize(message="add extra.txt")


@task
async def process_shard(base: ROVolume, i: int) -> ROVolume:
    branch = await base.fork(name=f"shard-{i}")
    data = await branch.mount()
    (data / f"shard-{i}.bin").write_bytes(bytes([i]) * 1000)
    return await branch.finalize(message=f"shard {i}")


@eager
async def fan_out(base: ROVolume) -> List[ROVolume]:
    return list(await asyncio.gather(*(process_shard(base=base, i=i) for i in range(8))))


@task
async def train(base: ROVolume) -> ROVolume:
    rw = await base.fork(name="training-run")
    data = await rw.mount()
    for epoch in range(30):
        with open(data / "weights", "a") as weights:
            weights.write("better\n")
        if epoch % 10 == 0:
            await rw.commit(message=f"epoch {epoch}")
    return await rw.finalize(message="training complete")


@task
async def publish() -> str:
    vol = Volume.new(name="my-dataset")
    await vol.mount()
    ro = await vol.finalize(message="v1")
    return ro.locator


@task
async def consume(addr: str) -> int:
    ro = await Volume.from_locator(addr)
    async with ro.mounted() as data:
        return len(list(data.glob("**/*")))


# --- sync tasks in a workflow


def filled(name: str, text: str) -> RWVolume:
    vol = Volume.new(name)
    (vol.mount.sync() / "file").write_text(text)
    return vol


def text_of(vol: Volume) -> str:
    with vol.mounted() as data:
        return (data / "file").read_text()


@task
def make(text: str) -> RWVolume:
    return filled("made", text)


@task
def make_ro(text: str) -> ROVolume:
    return filled("made", text)


@task
def read(vol: ROVolume) -> str:
    assert type(vol) is ROVolume
    return text_of(vol)


@task
def read_rw(vol: RWVolume) -> str:
    return text_of(vol)


@task
def same_text(text: str) -> str:
    return text


@workflow
def flow(text: str) -> Tuple[str, str, str]:
    vol = make(text=text)
    return read(vol=vol), read_rw(vol=make_ro(text=text)), same_text(text=vol.locator)


@task
def shard(base: ROVolume, i: int) -> ROVolume:
    branch = base.fork.sync(f"shard-{i}")
    (branch.mount.sync() / f"shard-{i}").write_text(str(i))
    return branch.finalize.sync(f"shard {i}")


@dynamic
def dynamic_shards(base: ROVolume) -> List[ROVolume]:
    return [shard(base=base, i=i) for i in range(3)]


@workflow
def dynamic_flow() -> List[ROVolume]:
    return dynamic_shards(base=make(text="base"))


@task
def numbered(i: int) -> ROVolume:
    return filled(f"mapped-{i}", f"text {i}")


@workflow
def map_flow() -> List[ROVolume]:
    return map_task(numbered)(i=[0, 1, 2])


@dataclasses.dataclass
class Pair:
    left: ROVolume
    right: Optional[RWVolume] = None


class Model(pydantic.BaseModel):
    vol: ROVolume
    named: Dict[str, ROVolume] = {}


@task
def make_pair() -> Pair:
    return Pair(filled("left", "left"), filled("right", "right"))


@task
def read_pair(pair: Pair) -> str:
    return text_of(pair.left) + text_of(pair.right)


@task
def make_model() -> Model:
    return Model(vol=filled("model", "live"), named={"n": filled("n", "named")})


@task
def read_model(model: Model) -> str:
    return text_of(model.vol) + text_of(model.named["n"])


@workflow
def models() -> Tuple[str, str, str]:
    pair = make_pair()
    return read_pair(pair=pair), read_model(model=make_model()), read(vol=pair.left)


@task
def logs_a_model() -> Tuple[str, ROVolume]:
    vol = filled("logged", "before")
    model = Model(vol=vol)
    try:
        refused = model.model_dump_json()
    except Exception as error:
        refused = str(error)
    (vol.mount_path / "file").write_text("after")
    return refused, vol


@task
def maybe(there: bool) -> Optional[ROVolume]:
    return filled("maybe", "there") if there else None


CALLS: List[str] = []


@task(cache=True, cache_version="1")
def cached(vol: ROVolume) -> int:
    CALLS.append(vol.locator)
    return len(CALLS)


@workflow
def cached_flow(locator: str) -> Tuple[int, int]:
    vol = load(locator=locator)
    return cached(vol=vol), cached(vol=load(locator=locator))


@task
def load(locator: str) -> ROVolume:
    return Volume.from_locator.sync(locator)


@task
def take(vol: ROVolume) -> str:
    return vol.locator


@workflow
def takes_a_volume(vol: ROVolume) -> str:
    return take(vol=vol)


@task
def fails(store: str) -> ROVolume:
    from tests.integrations.breaking import break_store

    vol = Volume.new("fails", f"file://{store}")
    (vol.mount.sync() / "file").write_text("text")
    break_store(store)
    return vol


@task
def raises() -> ROVolume:
    vol = filled("raises", "text")
    if vol.mount_path:
        raise RuntimeError("as users do")
    return vol


@task
def raises_unmounted() -> ROVolume:
    vol = Volume.new("raises")
    vol.write_bytes.sync("file", b"text")
    raise RuntimeError("as users do")
    return vol


@task
def forgets_unmounted() -> int:
    vol = Volume.new("forgotten")
    vol.write_bytes.sync("file", b"text")
    return 2


@task
def two() -> Tuple[RWVolume, Pair]:
    return filled("first", "first"), Pair(filled("left", "left"), filled("right", "right").finalize.sync())


@task
def wrong() -> ROVolume:
    return 3


@task
def looks_for(secret: str) -> List[str]:
    """Where the daemon of a live mount shows the secret."""
    vol = filled("secret", "text")
    vol.commit.sync()
    places = places_of(secret)
    vol.finalize.sync()
    return places


@task
def forgets(vol: ROVolume) -> int:
    vol.mount.sync()
    filled("forgotten", "text")
    return 2
