"""The examples that users of Union Volumes know, word for word but for the import and the package's name.

What they leave to the reader (``compute_shard``, ``train_one_epoch``) is at the end, and the task that tunes a mount
stands around its example. Not formatted: ruff leaves this file alone.
"""

import os
import time

# --- Setup

import flyte
from flyteplugins_vol.io import Volume, ROVolume

image = (
    flyte.Image.from_debian_base()
    .with_pip_packages("flyteplugins-vol")  # volume client (bundles the mount binary)
    .with_apt_packages("fuse3")               # FUSE userspace tools needed to mount
)

env = flyte.TaskEnvironment(
    name="volumes-demo",
    image=image,
    # grant the pod what it needs to mount a Volume
    pod_template=flyte.PodTemplate().allow_fuse(),
    resources=flyte.Resources(cpu="1", memory="2Gi"),
)

# --- Get started

import flyte
from flyteplugins_vol.io import Volume, RWVolume, ROVolume

@env.task
async def create_dataset() -> RWVolume:
    vol = Volume.new(name="my-dataset")   # a fresh writable RWVolume
    data = await vol.mount()              # mount (default: ~/flyte-volume); returns the path

    (data / "greeting.txt").write_text("hello from a volume\n")

    return vol                            # auto-committed; the next task receives an ROVolume

@env.task
async def read_dataset(vol: ROVolume) -> str:
    data = await vol.mount()              # ROVolume always mounts read-only
    return (data / "greeting.txt").read_text()

@env.task
async def main() -> str:
    dataset = await create_dataset()
    return await read_dataset(dataset)

# --- Updating a volume by forking

@env.task
async def add_file(vol: ROVolume) -> ROVolume:
    rw = await vol.fork(name="my-dataset-v2")  # copy-on-write writable branch
    data = await rw.mount()

    (data / "extra.txt").write_text("added in a later run\n")

    return await rw.finalize(message="add extra.txt")

# --- Writing in parallel

import asyncio

@env.task
async def process_shard(base: ROVolume, i: int) -> ROVolume:
    branch = await base.fork(name=f"shard-{i}")   # isolated writable branch
    data = await branch.mount()
    (data / f"shard-{i}.bin").write_bytes(compute_shard(i))
    return await branch.finalize(message=f"shard {i}")

@env.task
async def fan_out(base: ROVolume) -> list[ROVolume]:
    # each shard runs as its own action, writing its own fork concurrently
    return await asyncio.gather(*(process_shard(base, i) for i in range(8)))

# --- Checkpoint while you work

@env.task
async def train(base: ROVolume) -> ROVolume:
    rw = await base.fork(name="training-run")
    data = await rw.mount()

    for epoch in range(100):
        train_one_epoch(data)                   # writes under the mounted volume
        if epoch % 10 == 0:
            await rw.commit(message=f"epoch {epoch}")   # durable checkpoint

    return await rw.finalize(message="training complete")

# --- Reference a volume across runs

@env.task
async def publish() -> str:
    vol = Volume.new(name="my-dataset")
    await vol.mount()
    # ... write data ...
    ro = await vol.finalize(message="v1")
    return ro.locator                       # e.g. persist this string somewhere

# --- ... later, in a different run

@env.task
async def consume(addr: str) -> int:
    ro = await Volume.from_locator(addr)    # -> ROVolume, no task context needed
    data = await ro.mount()                 # read-only
    return len(list(data.glob("**/*")))

# --- High-throughput mode

from flyteplugins_vol.io import with_high_throughput_volume_deps

image = with_high_throughput_volume_deps(
    flyte.Image.from_debian_base().with_pip_packages("flyteplugins-vol")
)

high_throughput_env = flyte.TaskEnvironment(
    name="high-throughput-volumes",
    image=image,
    pod_template=flyte.PodTemplate().allow_fuse(),
)

# --- Tuning the mount

@env.task
async def tuned(mount_path: str) -> RWVolume:
    vol = Volume.new(name="tuned")
    data = await vol.mount(
        mount_path=mount_path,   # a writable mount point (default: ~/flyte-volume)
        max_uploads=100,         # raise upload concurrency for write-heavy bursts (default 50)
        attr_cache=120.0,        # cache file metadata longer (default 60s)
        entry_cache=120.0,       # cache name lookups longer
        dir_entry_cache=120.0,   # cache directory listings longer
    )
    (data / "greeting.txt").write_text("tuned\n")
    return vol

# --- From the notes between the examples

@env.task
async def create_with_a_message() -> ROVolume:
    vol = Volume.new(name="my-dataset")
    data = await vol.mount()
    (data / "greeting.txt").write_text("hello\n")
    return await vol.finalize(message="initial dataset")

# --- What the examples leave to the reader

def compute_shard(i: int) -> bytes:
    return bytes([i]) * 1000

def train_one_epoch(data) -> None:
    time.sleep(float(os.environ.get("FLYTE_VOL_TEST_SLOW_EPOCHS", "0")))
    with open(data / "weights", "a") as weights:
        weights.write("better\n")
