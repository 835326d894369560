"""A sandbox for each session: a clean base, forked, so that what one session breaks no other sees.

python examples/flytekit/sandboxes.py
"""

import subprocess
import sys
from typing import Any

from flytekit import ImageSpec, dynamic, task, workflow

from flyteplugins_vol.integrations.flytekit1.pods import fuse_pod_template, with_volume_deps
from flyteplugins_vol.io import ROVolume, RWVolume, Volume

image = with_volume_deps(ImageSpec(name="volumes", registry="localhost:30000"))


@task(container_image=image, pod_template=fuse_pod_template())
def prepare() -> RWVolume:
    """What every session begins with; usually tools and packages, installed once."""
    volume = Volume.new("sandbox-base")
    data = volume.mount.sync()
    (data / "helpers.py").write_text("def double(number):\n    return 2 * number\n")
    return volume


@task(container_image=image, pod_template=fuse_pod_template())
def session(base: ROVolume, number: int, code: str) -> tuple[str, ROVolume]:
    sandbox = base.fork.sync(f"session-{number}")
    data = sandbox.mount.sync()
    (data / "main.py").write_text(code)
    done = subprocess.run([sys.executable, "main.py"], cwd=data, capture_output=True, text=True, timeout=60)
    output = done.stdout.strip() or done.stderr.strip().splitlines()[-1]
    return output, sandbox.finalize.sync(f"exit {done.returncode}")


@dynamic(container_image=image)
def sessions(base: ROVolume, programs: list[str]) -> list[str]:
    results: Any = [session(base=base, number=number, code=code) for number, code in enumerate(programs)]
    return [output for output, _ in results]


@workflow
def main(programs: list[str]) -> list[str]:
    return sessions(base=prepare(), programs=programs)  # pyright: ignore[reportReturnType]


if __name__ == "__main__":
    broken = "import os; os.remove('helpers.py'); print(os.path.exists('helpers.py'))"
    double = "from helpers import double; print(double({}))"
    print(main(programs=[double.format(21), broken, double.format("'ab'")]))
