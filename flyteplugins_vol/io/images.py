"""What an image needs so that its tasks can mount volumes. Works on images of ``flyte`` without importing it."""

from __future__ import annotations

import re
from typing import Any, TypeVar

from flyteplugins_vol.config import HIGH_THROUGHPUT_VARIABLE
from flyteplugins_vol.errors import UsageError

Image = TypeVar("Image")

PACKAGE = "flyteplugins-vol"
REQUIREMENT = f"{PACKAGE}[flyte]"
APT_PACKAGES = ("fuse3",)
"""fusermount3, setuid root. What pip installs has nothing to compile."""

DOCKERFILE = f"""\
    RUN apt-get update && apt-get install -y --no-install-recommends {" ".join(APT_PACKAGES)} \\
        && pip install '{REQUIREMENT}'"""


def with_volume_deps(image: Image) -> Image:
    """The image with this package and with what a mount needs; one that has them comes back as it is.

    Tasks also need ``pod_template=flyte.PodTemplate().allow_fuse()``. Raises `UsageError` for an image that takes no
    layers, with the lines for its Dockerfile.
    """
    layers = _layers(image)
    missing = [package for package in APT_PACKAGES if not _has(layers, "AptPackages", package)]
    try:
        if missing:
            image = _any(image).with_apt_packages(*missing)
        return image if _has(layers, "PipPackages", PACKAGE) else _any(image).with_pip_packages(REQUIREMENT)
    except ValueError as error:
        raise _refused(error) from error


def with_high_throughput_volume_deps(image: Image) -> Image:
    """As `with_volume_deps`, and volumes are mounted for very many files: more memory, less time for each."""
    image = with_volume_deps(image)
    setting = (HIGH_THROUGHPUT_VARIABLE, "1")
    if any(setting in getattr(layer, "env_vars", ()) for layer in _layers(image)):
        return image
    try:
        return _any(image).with_env_vars(dict([setting]))
    except ValueError as error:
        raise _refused(error, f"\n    ENV {HIGH_THROUGHPUT_VARIABLE}=1") from error


def _any(image: Any) -> Any:
    return image


def _layers(image: Any) -> tuple[Any, ...]:
    return tuple(getattr(image, "_layers", ()))


def _has(layers: tuple[Any, ...], kind: str, package: str) -> bool:
    """Whether a layer of that kind names the package."""
    named = (getattr(layer, "packages", None) or () for layer in layers if type(layer).__name__ == kind)
    return any(package in map(package_name, packages) for packages in named)


def package_name(requirement: str) -> str:
    """The normal name of what a requirement asks for."""
    return re.split(r"[\[=<>!~; ]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def _refused(error: ValueError, more: str = "") -> UsageError:
    return UsageError(
        f"volumes cannot be added to this image: {error}",
        hint=f"put this into its Dockerfile, before a USER line:\n{DOCKERFILE}{more}\n"
        "  or, if it is no Dockerfile's, start from image.clone(name=…, extendable=True)",
    )
