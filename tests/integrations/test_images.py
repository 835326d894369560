"""Images and pod templates of both SDKs: the layers and the specification that come out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flyteplugins_vol.errors import UsageError
from flyteplugins_vol.io import with_high_throughput_volume_deps, with_volume_deps
from flyteplugins_vol.io.images import APT_PACKAGES

pytestmark = pytest.mark.filterwarnings("default")

flyte: Any = pytest.importorskip("flyte", reason="needs the extra flyte")


def added(image: Any, base: Any) -> list[tuple[str, tuple[str, ...]]]:
    """Kind and contents of the layers that the image has on top of its base."""
    layers = [layer for layer in image._layers if layer not in base._layers]
    return [(type(layer).__name__, tuple(getattr(layer, "packages", ()) or layer.env_vars)) for layer in layers]


def test_the_layers() -> None:
    base = flyte.Image.from_debian_base()
    assert added(with_volume_deps(base), base) == [
        ("AptPackages", APT_PACKAGES),
        ("PipPackages", ("flyteplugins-vol[flyte]",)),
    ]
    assert added(with_high_throughput_volume_deps(base), base)[2:] == [
        ("Env", (("FLYTE_VOL_HIGH_THROUGHPUT", "1"),)),
    ]


def test_twice_is_once() -> None:
    image = with_high_throughput_volume_deps(flyte.Image.from_debian_base())
    assert with_volume_deps(image) is image
    assert with_high_throughput_volume_deps(image) is image
    assert image.uri == with_high_throughput_volume_deps(with_volume_deps(image)).uri


def test_what_is_there_stays() -> None:
    """The contract's own recipe is complete: pip has nothing to compile, so it may come before the Debian packages."""
    base = flyte.Image.from_debian_base()
    written = base.with_pip_packages("numpy", "flyteplugins_vol[s3]>=0.1").with_apt_packages("fuse3")
    assert with_volume_deps(written) is written
    without = with_volume_deps(base.with_pip_packages("flyteplugins-vol"))
    assert added(without, base) == [("PipPackages", ("flyteplugins-vol",)), ("AptPackages", ("fuse3",))]


@pytest.mark.parametrize("helper", [with_volume_deps, with_high_throughput_volume_deps])
def test_an_image_that_takes_no_layers(helper: Any, tmp_path: Path) -> None:
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text("FROM debian\n")
    for image in (
        flyte.Image.from_base("debian:12"),
        flyte.Image.from_dockerfile(dockerfile, registry="ghcr.io/x", name="y"),
    ):
        with pytest.raises(UsageError, match="cannot be added to this image") as caught:
            helper(image)
        assert "apt-get install -y --no-install-recommends fuse3" in caught.value.hint
        assert "pip install 'flyteplugins-vol[flyte]'" in caught.value.hint
        assert "extendable=True" in caught.value.hint


def test_an_environment_with_the_rights_to_mount() -> None:
    """The contract's set-up works after installing our extra: it needs kubernetes."""
    template = flyte.PodTemplate().allow_fuse()
    flyte.TaskEnvironment("with-fuse", image=with_volume_deps(flyte.Image.from_debian_base()), pod_template=template)
    (container,) = template.pod_spec.containers
    assert container.resources.limits == {"smarter-devices/fuse": "1"}


@pytest.mark.parametrize("privileged", [False, True])
def test_flytekit_grants_what_flyte_does(privileged: bool) -> None:
    pytest.importorskip("flytekit")
    from flytekit.core.pod_template import serialize_pod_template
    from kubernetes.client import ApiClient

    from flyteplugins_vol.integrations.flytekit1.pods import fuse_pod_template

    ours, theirs = (
        ApiClient().sanitize_for_serialization(template.pod_spec)
        for template in (
            fuse_pod_template(privileged=privileged),
            flyte.PodTemplate().allow_fuse(privileged=privileged),
        )
    )
    (container,), (wanted,) = ours["containers"], theirs["containers"]
    assert container["securityContext"] == wanted["securityContext"]
    assert container.get("resources") == wanted.get("resources")
    assert [m["mountPath"] for m in container.get("volumeMounts", ())] == [
        m["mountPath"] for m in wanted.get("volumeMounts", ())
    ]
    assert [v["hostPath"] for v in ours.get("volumes", ())] == [v["hostPath"] for v in theirs.get("volumes", ())]
    assert fuse_pod_template().annotations.items() <= flyte.PodTemplate().allow_fuse().annotations.items()
    assert serialize_pod_template(fuse_pod_template(privileged=privileged))


def test_images_of_flytekit() -> None:
    flytekit = pytest.importorskip("flytekit")
    from flyteplugins_vol.integrations.flytekit1 import pods

    spec = pods.with_high_throughput_volume_deps(flytekit.ImageSpec(name="x", packages=["numpy"], env={"A": "1"}))
    assert spec.apt_packages == list(APT_PACKAGES)
    assert spec.packages == ["numpy", "flyteplugins-vol[flytekit]"]
    assert spec.env == {"A": "1", "FLYTE_VOL_HIGH_THROUGHPUT": "1"}
    again = pods.with_high_throughput_volume_deps(spec)
    assert (again.apt_packages, again.packages, again.env) == (spec.apt_packages, spec.packages, spec.env)
