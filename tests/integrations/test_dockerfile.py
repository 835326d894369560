"""The Dockerfile's steps, run for real without a container engine: in Debian roots made by debootstrap, with chroot.

Two roots stand for the two stages. Debian's own Python stands for the one of the ``python`` images, which is the same
but for its version. In the end a volume is mounted, written and committed by the ordinary user, with no rights but
those that a container gets with ``--device /dev/fuse --cap-add SYS_ADMIN``.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"

pytestmark = [
    pytest.mark.fuse,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        not os.environ.get("FLYTE_VOL_TEST_DOCKERFILE") and not os.environ.get("FLYTE_VOL_TEST_DEBIAN"),
        reason="builds a Debian root for five minutes: set FLYTE_VOL_TEST_DOCKERFILE=1",
    ),
]

USE = """
from flyteplugins_vol.io import Volume
volume = Volume.new("in-a-container", "file:///home/volume/store")
with volume.mounted() as path:
    (path / "file").write_text("by an ordinary user")
    print(path, (path / "file").stat().st_uid)
with Volume.from_locator.sync(volume.locator).mounted() as path:
    print((path / "file").read_text())
"""


@dataclass
class Stage:
    """A root directory in which instructions are run."""

    root: Path
    variables: dict[str, str] = field(default_factory=dict)
    user: str = "root"
    directory: str = "/"

    def run(self, command: str) -> str:
        become = f"setpriv --reuid {self.user} --regid {self.user} --init-groups" if self.user != "root" else ""
        home = "/root" if self.user == "root" else f"/home/{self.user}"
        script = f"cd {self.directory} && exec {become} env HOME={home} sh -ec {shlex.quote(command)}"
        mounts = [f"mount --rbind {place} {self.root}{place}" for place in ("/proc", "/dev")]
        # As on an ordinary host; some make the device root's own.
        mounts.append(f"mount --bind {fuse_device(self.root.parent)} {self.root}/dev/fuse")
        for place in pip_places():
            there = f"{self.root}{place}"
            mounts.append(f"mount --bind {place} {there} && mount -o remount,bind,ro {there}")
        inside = " && ".join([*mounts, f"exec chroot {self.root} sh -c {shlex.quote(script)}"])
        settings = {"PATH": PATH, **pip_settings()}
        done = subprocess.run(
            ["unshare", "--mount", "--propagation", "private", "sh", "-ec", inside],
            env={**settings, **self.variables, "DEBIAN_FRONTEND": "noninteractive"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout


def fuse_device(directory: Path) -> Path:
    """The FUSE device, for everybody."""
    device = directory / "fuse-device"
    if not device.exists():
        os.mknod(device, stat.S_IFCHR, os.stat("/dev/fuse").st_rdev)
        device.chmod(0o666)
    return device


def pip_settings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("PIP_") or name.endswith("_proxy")}


def pip_places() -> list[str]:
    """Local directories that this machine's pip is configured with; they are shown to the roots as well, read-only."""
    text = subprocess.run(["pip", "config", "list"], capture_output=True, text=True).stdout
    named = [Path(path) for path in re.findall(r"(?:file://)?(/[\w./-]+)", text)]
    found = {"/".join(path.parts[:3]).replace("//", "/") for path in named if path.is_dir()}
    return sorted({*found, *(place for place in ("/etc/xdg/pip",) if Path(place).is_dir())})


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A minimal Debian with Python."""
    if os.geteuid() or not shutil.which("debootstrap"):
        pytest.skip("needs root and debootstrap (apt-get install debootstrap)")
    if os.environ.get("FLYTE_VOL_TEST_DEBIAN"):  # a root made before, left as it is
        yield Path(os.environ["FLYTE_VOL_TEST_DEBIAN"])
        return
    root = tmp_path_factory.mktemp("debian") / "root"
    packages = "python3,python3-venv,ca-certificates"
    command = ["debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", str(root)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"debootstrap failed: {done.stdout[-300:]}")
    yield root
    shutil.rmtree(root.parent)


def new_stage(debian: Path, where: Path) -> Stage:
    """What ``FROM python:…`` gives: `python` is there, and names are resolved as on this machine."""
    subprocess.run(["cp", "-a", str(debian), str(where)], check=True)
    (where / "usr/local/bin/python").symlink_to("/usr/bin/python3")
    for place in ("/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt"):
        if Path(place).exists():
            shutil.copy(place, f"{where}{place}")
    for place in pip_places():
        (where / place.lstrip("/")).mkdir(parents=True, exist_ok=True)
    return Stage(where)


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE))
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]  # type: ignore[misc]


@pytest.fixture
def roots(tmp_path: Path) -> Iterator[Path]:
    """Where the stages are; half a gigabyte each, so they do not stay."""
    yield tmp_path
    shutil.rmtree(tmp_path, ignore_errors=True)


def test_the_image_mounts_as_an_ordinary_user(debian: Path, roots: Path) -> None:
    stages: dict[str, Stage] = {}
    stage = Stage(roots)
    command = ""
    for kind, rest in instructions():
        if kind == "FROM":
            name = rest.partition(" AS ")[2] or "last"
            stage = stages[name] = new_stage(debian, roots / name)
        elif kind == "ARG" and stages:
            name, _, value = rest.partition("=")
            stage.variables[name] = value.strip('"')
        elif kind == "ENV":
            name, _, value = rest.partition("=")
            stage.variables[name] = value.replace("$PATH", stage.variables.get("PATH", PATH))
        elif kind == "WORKDIR":
            (stage.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
            stage.directory = rest
        elif kind == "USER":
            stage.user = rest
        elif kind == "COPY":
            copy(rest.split(), stage, stages)
        elif kind == "RUN":
            stage.run(rest)
        elif kind == "CMD":
            command = rest
    assert (stage.user, stage.directory, command) == ("volume", "/home/volume", '["python"]')
    assert not [stage for stage in stages.values() for _ in stage.root.glob("usr/bin/*gcc*")], "nothing is compiled"
    out = stage.run(f"python -c {shlex.quote(USE)}")
    assert out.splitlines() == ["/home/volume/flyte-volume 1000", "by an ordinary user"]


def copy(words: list[str], stage: Stage, stages: dict[str, Stage]) -> None:
    origin = ROOT
    if words[0].startswith("--from="):
        origin = stages[words.pop(0).partition("=")[2]].root
    *sources, target = words
    for source in sources:
        place = Path(f"{stage.root}{os.path.join(stage.directory, target)}")
        here = origin / source.lstrip("/")
        if here.is_dir():
            shutil.copytree(here, place, symlinks=True, dirs_exist_ok=True)
        else:
            shutil.copy(here, place)
