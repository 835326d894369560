"""What flytekit's tasks need so that they can mount volumes: an image and a pod template.

Flyte 2 has the second itself: ``flyte.PodTemplate().allow_fuse()``.
"""

from __future__ import annotations

from typing import Any

from flyteplugins_vol.config import HIGH_THROUGHPUT_VARIABLE
from flyteplugins_vol.integrations.values import sdk
from flyteplugins_vol.io.images import APT_PACKAGES, PACKAGE, package_name

REQUIREMENT = f"{PACKAGE}[flytekit]"
_DEVICE = "smarter-devices/fuse"
_ANNOTATION = "flyte.org/capability-fuse"


def with_volume_deps(spec: Any) -> Any:
    """The ``flytekit.ImageSpec`` with this package and what a mount needs; one that has them comes back as it is."""
    missing = [package for package in APT_PACKAGES if package not in (spec.apt_packages or ())]
    if missing:
        spec = spec.with_apt_packages(missing)
    if PACKAGE not in map(package_name, spec.packages or ()):
        spec = spec.with_packages(REQUIREMENT)
    return spec


def with_high_throughput_volume_deps(spec: Any) -> Any:
    """As `with_volume_deps`, and volumes are mounted for very many files: more memory, less time for each."""
    copy = sdk("copy").deepcopy(with_volume_deps(spec))
    copy.env = {**(copy.env or {}), HIGH_THROUGHPUT_VARIABLE: "1"}
    return copy


def fuse_pod_template(*, privileged: bool = False, primary_container_name: str = "primary") -> Any:
    """A ``flytekit.PodTemplate`` that grants the task's container the FUSE device and the right to mount.

    The cluster must run a device plugin that offers ``smarter-devices/fuse``; without one, ``privileged=True`` runs the
    container privileged, with the node's device.
    """
    client = sdk("kubernetes.client")
    security = client.V1SecurityContext(
        capabilities=client.V1Capabilities(add=["SYS_ADMIN"]), privileged=True if privileged else None
    )
    container = client.V1Container(name=primary_container_name, security_context=security)
    volumes: list[Any] | None = None
    if privileged:
        container.volume_mounts = [client.V1VolumeMount(name="dev-fuse", mount_path="/dev/fuse")]
        device = client.V1HostPathVolumeSource(path="/dev/fuse", type="CharDevice")
        volumes = [client.V1Volume(name="dev-fuse", host_path=device)]
    else:
        container.resources = client.V1ResourceRequirements(requests={_DEVICE: "1"}, limits={_DEVICE: "1"})
    return sdk("flytekit").PodTemplate(
        pod_spec=client.V1PodSpec(containers=[container], volumes=volumes),
        primary_container_name=primary_container_name,
        annotations={_ANNOTATION: "true"},
    )
