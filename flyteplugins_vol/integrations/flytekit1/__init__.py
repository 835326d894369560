"""Volumes in tasks of Flyte 1 (the package ``flytekit``), which imports this module by itself (``flytekit.plugins``).

An exception here would break ``import flytekit`` for everybody: it is logged, and volumes are then no task types.
"""

from __future__ import annotations

import logging

try:
    from flyteplugins_vol.integrations.flytekit1.mounts import watch_tasks
    from flyteplugins_vol.integrations.flytekit1.transformer import register_transformer

    register_transformer()
    watch_tasks()
except Exception:
    logging.getLogger(__name__).exception("volumes cannot be types of flytekit's tasks")
