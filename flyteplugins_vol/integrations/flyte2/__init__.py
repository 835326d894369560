"""Volumes in tasks of Flyte 2 (the package ``flyte``)."""

from __future__ import annotations


def register() -> None:
    """Teach the type engine of ``flyte`` about volumes, and end the mounts of tasks with them. Idempotent.

    The entry point of the group ``flyte.plugins.types``.
    """
    from flyteplugins_vol.integrations.flyte2.mounts import watch_tasks
    from flyteplugins_vol.integrations.flyte2.transformer import register_transformer

    register_transformer()
    watch_tasks()
