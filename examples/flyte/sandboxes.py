"""A sandbox for each session: a clean base, forked, so that what one session breaks no other sees.

python examples/flyte/sandboxes.py
"""

from __future__ import annotations

import asyncio
import subprocess
import sys

import flyte

from flyteplugins_vol.io import ROVolume, Volume, with_volume_deps

env = flyte.TaskEnvironment(
    name="volume-sandboxes",
    image=with_volume_deps(flyte.Image.from_debian_base()),
    pod_template=flyte.PodTemplate().allow_fuse(),
)


@env.task
async def prepare() -> ROVolume:
    """What every session begins with; usually tools and packages, installed once."""
    volume = Volume.new("sandbox-base")
    data = await volume.mount()
    (data / "helpers.py").write_text("def double(number):\n    return 2 * number\n")
    return await volume.finalize()


@env.task
async def session(base: ROVolume, number: int, code: str) -> tuple[str, ROVolume]:
    sandbox = await base.fork(f"session-{number}")
    data = await sandbox.mount()
    (data / "main.py").write_text(code)
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "main.py"], cwd=data, capture_output=True, text=True, timeout=60
    )
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1], await sandbox.finalize(
        f"exit {done.returncode}"
    )


@env.task
async def main() -> list[str]:
    base = await prepare()
    programs = [
        "from helpers import double; print(double(21))",
        "import os; os.remove('helpers.py'); print(os.path.exists('helpers.py'))",
        "from helpers import double; print(double('ab'))",
    ]
    results = await asyncio.gather(*(session(base, number, code) for number, code in enumerate(programs)))
    return [output for output, _ in results]


if __name__ == "__main__":
    flyte.init()
    print(flyte.with_runcontext(mode="local").run(main).outputs()[0])
