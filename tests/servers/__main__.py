"""``python -m tests.servers moto|radosgw|azurite [--port N] [--bucket NAME]``: run a server until it is interrupted.

Prints the variables that lead to it, to be put into a shell with ``eval``, then waits.
"""

from __future__ import annotations

import argparse
import shlex
import signal
from types import FrameType

from . import azurite_server, moto_server, radosgw_server

SERVERS = {"moto": moto_server, "radosgw": radosgw_server, "azurite": azurite_server}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.servers", description=__doc__)
    parser.add_argument("server", choices=SERVERS)
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--bucket", action="store_true", help="make a bucket and name it in FLYTE_VOL_STORE")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _interrupt)
    with SERVERS[options.server](options.port) as server:
        variables = dict(server.environment)
        if options.bucket and hasattr(server, "new_bucket_url"):
            variables["FLYTE_VOL_STORE"] = server.new_bucket_url("flyte")
        for name, value in variables.items():
            print(f"export {name}={shlex.quote(value)}", flush=True)
        print("# ready", flush=True)
        try:
            signal.pause()
        except KeyboardInterrupt:
            pass


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
