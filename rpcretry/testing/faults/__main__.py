"""``python -m rpcretry.testing.faults``: a server to try a client in any language against."""

from __future__ import annotations

import argparse
import sys
import threading

from . import FaultServer, bad_day

METHODS = {"echo": lambda *args, **params: params or list(args), "add": lambda a, b: a + b}


def main() -> int:
    """Serve until it is interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m rpcretry.testing.faults",
        description="A JSON-RPC server on 127.0.0.1 that has a bad day, by seed. Its methods are echo and add.",
    )
    parser.add_argument("--seed", type=int, default=0, help="where all that is drawn comes from (default: 0)")
    parser.add_argument("--port", type=int, default=0, help="to listen on (default: one that is free)")
    parser.add_argument("--rate", type=float, default=0.3, help="the share of requests that are hit, from 0 to 1 (default: 0.3)")
    options = parser.parse_args()
    try:
        server = FaultServer(METHODS, bad_day(options.rate), seed=options.seed, port=options.port)
    except (ValueError, OSError) as problem:
        parser.error(str(problem))
    with server:
        print(server.url, flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            met = ", ".join(f"{name} {times}" for name, times in server.met.most_common())
            print(f"\n{sum(server.executed.values())} executed, met: {met or 'nothing'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
