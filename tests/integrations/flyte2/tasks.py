"""Tasks with volumes in every place where Flyte takes a type."""

import asyncio
import dataclasses
from typing import Annotated, Dict, List, Optional, Tuple, Union

import flyte
import pydantic

from flyteplugins_vol.io import ROVolume, RWVolume, Volume
from tests.integrations.breaking import break_store
from tests.integrations.looking import places_of

env = flyte.TaskEnvironment(name="volume-types")


async def filled(name: str, text: str = "text") -> RWVolume:
    """A mounted volume with one file."""
    vol = Volume.new(name)
    data = await vol.mount()
    (data / "file").write_text(text)
    return vol


async def text_of(vol: Volume) -> str:
    data = await vol.mount()
    return (data / "file").read_text()


@dataclasses.dataclass
class Pair:
    left: ROVolume
    right: Optional[RWVolume] = None
    more: List[ROVolume] = dataclasses.field(default_factory=list)
    count: int = 0


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=False)
    vol: ROVolume
    other: Optional[ROVolume] = None
    more: List[ROVolume] = []
    named: Dict[str, ROVolume] = {}


@env.task
async def make(name: str = "made", text: str = "text") -> ROVolume:
    return await filled(name, text)  # annotated ROVolume, returns an RWVolume


@env.task
async def make_rw(text: str = "text") -> RWVolume:
    vol = await filled("made", text)
    return await vol.finalize()  # annotated RWVolume, returns an ROVolume


@env.task
async def read(vol: ROVolume) -> str:
    assert type(vol) is ROVolume
    return await text_of(vol)


@env.task
async def read_rw(vol: RWVolume) -> str:
    return await text_of(vol)


@env.task
async def read_any(vol: Volume) -> str:
    return await text_of(vol)


@env.task
def make_sync(text: str) -> RWVolume:
    vol = Volume.new("sync")
    (vol.mount.sync() / "file").write_text(text)
    return vol


@env.task
def read_sync(vol: ROVolume) -> str:
    with vol.mounted() as data:
        return (data / "file").read_text()


@env.task
def sync_parent(text: str) -> str:
    return read_sync(make_sync(text))


@env.task
async def make_list(count: int) -> List[RWVolume]:
    return list(await asyncio.gather(*(filled(f"item-{i}", f"text {i}") for i in range(count))))


@env.task
async def read_list(vols: List[ROVolume]) -> List[str]:
    return list(await asyncio.gather(*(text_of(vol) for vol in vols)))


@env.task
async def make_dict() -> Dict[str, ROVolume]:
    return {"a": await filled("a", "text a"), "b": await (await filled("b", "text b")).finalize()}


@env.task
async def read_dict(vols: Dict[str, ROVolume]) -> Dict[str, str]:
    return {name: await text_of(vol) for name, vol in vols.items()}


@env.task
async def make_tuple() -> Tuple[RWVolume, int, ROVolume]:
    vol = await filled("twice")
    return vol, 7, vol


@env.task
async def make_optional(there: bool) -> Optional[ROVolume]:
    return await filled("optional") if there else None


@env.task
async def read_optional(vol: Optional[ROVolume] = None) -> str:
    return "nothing" if vol is None else await text_of(vol)


@env.task
async def read_union(vol: Union[ROVolume, int]) -> str:
    return str(vol) if isinstance(vol, int) else await text_of(vol)


@env.task
async def make_annotated() -> Annotated[ROVolume, "a note"]:
    return await filled("annotated")


@env.task
async def make_pair() -> Pair:
    left = await (await filled("left", "left")).finalize()
    return Pair(left, await filled("right", "right"), [await filled("more", "more")], 3)


@env.task
async def read_pair(pair: Pair) -> List[str]:
    assert pair.right is not None
    return [await text_of(vol) for vol in (pair.left, pair.right, *pair.more)]


@env.task
async def make_model() -> Model:
    return Model(
        vol=await filled("model", "live"), more=[await filled("more", "more")], named={"n": await filled("n", "n")}
    )


@env.task
async def read_model(model: Model) -> List[str]:
    return [await text_of(vol) for vol in (model.vol, *model.more, *model.named.values())]


@env.task
async def chain_of_models() -> List[str]:
    return await read_model(await make_model()) + await read_pair(await make_pair())


@env.task
async def argument_stays_mounted() -> Tuple[str, str, RWVolume]:
    vol = await filled("argument", "before")
    path = vol.mount_path
    first = await read(vol)
    assert vol.mount_path == path
    (path / "file").write_text("after")
    second = await read_any(vol)
    (path / "file").write_text("at last")
    return first, second, vol


@env.task
async def live_in_a_dataclass_as_argument() -> List[str]:
    left = await filled("left", "left")
    texts = await read_pair(Pair(left, await filled("right", "right")))
    assert left.mount_path is not None
    return texts


@env.task
async def argument_never_mounted() -> str:
    empty = Volume.new("empty")
    fork = await (await make("base", "base")).fork("fork")
    count = await count_files(empty)
    assert fork.locator is None
    text = await read(fork)
    data = await fork.mount()  # and it goes on from there
    (data / "file").write_text("forked")
    return f"{count} {text} {await read(fork)}"


@env.task
async def count_files(vol: ROVolume) -> int:
    return len(list((await vol.mount()).iterdir()))


@flyte.trace
async def traced(vol: RWVolume, text: str) -> str:
    assert vol.mount_path is not None
    (vol.mount_path / "file").write_text(text)
    return text


@flyte.trace
async def traced_result(vol: RWVolume) -> RWVolume:
    return vol


@env.task
async def with_traces() -> RWVolume:
    vol = await filled("traced")
    for number in range(3):
        await traced(vol, f"text {number}")
    same = await traced_result(vol)
    assert same.mount_path is not None
    return vol


CALLS = []


@env.task(cache="auto")
async def cached(vol: ROVolume) -> int:
    CALLS.append(vol.locator)
    return len(CALLS)


@env.task(cache="auto")
async def cached_volume(text: str) -> ROVolume:
    CALLS.append(text)
    return await filled("cached", text)


@env.task
async def cached_parent(vol: ROVolume, again: ROVolume) -> List[int]:
    return [await cached(vol), await cached(again)]


@env.task
async def raises(publish: bool = False) -> RWVolume:
    vol = await filled("raises")
    if publish:
        await vol.commit()
    reader = await (await filled("other")).finalize()
    await reader.mount()
    raise RuntimeError("as users do")


@env.task
async def raises_unmounted() -> RWVolume:
    vol = Volume.new("raises")
    await vol.write_bytes("file", b"text")
    await (await (await filled("other")).finalize()).read_bytes("file")
    raise RuntimeError("as users do")


@env.task
async def waits_for_ever() -> RWVolume:
    vol = await filled("waits")
    await asyncio.sleep(3600)
    return vol


@env.task
async def cancels() -> str:
    try:
        await asyncio.wait_for(waits_for_ever(), 3)
    except (asyncio.TimeoutError, TimeoutError):
        return "cancelled"
    return "not cancelled"


@env.task
async def forgets() -> str:
    await filled("forgotten")
    return "forgot"


@env.task
async def parent_of_forgetful() -> str:
    return await forgets()


@env.task
async def wrong() -> ROVolume:
    return 3


@env.task
async def wrong_none() -> ROVolume:
    return None


@env.task
async def eight_at_once() -> List[str]:
    vols = [Volume.new("eight") for _ in range(8)]
    paths = await asyncio.gather(*(vol.mount() for vol in vols))
    return [str(path) for path in paths]


@env.task
async def two_writers(locator: str, store: str) -> str:
    first = await Volume.from_name("made", store)
    await first.mount()
    second = await Volume.from_name("made", store)
    await second.mount()
    return "never"


@env.task
async def commit_fails(store: str) -> ROVolume:
    vol = Volume.new("fails", f"file://{store}")
    data = await vol.mount()
    (data / "file").write_text("text")
    break_store(store)
    return vol


@env.task
async def commit_fails_in_optional(store: str) -> Optional[ROVolume]:
    vol = Volume.new("fails", f"file://{store}")
    (await vol.mount() / "file").write_text("text")
    break_store(store)
    return vol


@env.task
async def commit_fails_in_dataclass(store: str) -> Pair:
    vol = Volume.new("fails", f"file://{store}")
    (await vol.mount() / "file").write_text("text")
    break_store(store)
    return Pair(vol)


@env.task
async def commit_fails_in_model(store: str) -> Model:
    vol = Volume.new("fails", f"file://{store}")
    (await vol.mount() / "file").write_text("text")
    break_store(store)
    return Model(vol=vol)


@env.task
async def where() -> str:
    return Volume.new("where").store


@env.task
async def looks_for(secret: str) -> List[str]:
    """Where the daemon of a live mount shows the secret."""
    vol = await filled("secret")
    await vol.commit()
    places = places_of(secret)
    await vol.finalize()
    return places
