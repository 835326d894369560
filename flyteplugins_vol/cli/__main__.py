"""``python -m flyteplugins_vol.cli``: the same as ``flytevol``."""

from __future__ import annotations

from flyteplugins_vol.cli.main import main

if __name__ == "__main__":
    main()
