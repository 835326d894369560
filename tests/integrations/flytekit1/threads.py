"""Tasks that use volumes in threads of their own, which know nothing of the task."""

from flytekit import task

from flyteplugins_vol.io import ROVolume, RWVolume, Volume
from tests.integrations.beyond_tasks import LATE, filled, in_a_thread


@task
def stores() -> str:
    return f"{Volume.new('x').store} {in_a_thread(lambda: Volume.new('x').store)}"


@task
def returns() -> RWVolume:
    return in_a_thread(filled)


@task
def commits() -> ROVolume:
    return in_a_thread(lambda: filled().finalize.sync())


@task
def raises() -> RWVolume:
    vol = in_a_thread(lambda: filled(autocommit=3600.0))
    if vol.mount_path:
        raise RuntimeError(f"as users do with {vol.store}")
    return vol


@task
def forgets() -> int:
    in_a_thread(filled)
    return 2


@task
def ends_too_early(fail: bool) -> int:
    LATE[0].begin(filled)
    if fail:
        raise RuntimeError("as users do")
    return 2
