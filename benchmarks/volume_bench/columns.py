"""Names of the columns: what is measured beside what."""

from __future__ import annotations

LOCAL = "local disk"
VOLUME = "volume"
FAST = "high-throughput"
PASSED = "passthrough"
