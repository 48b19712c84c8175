"""No call without an end: a limit for each attempt, and one for the whole call."""

from __future__ import annotations

import time

import rpcretry
from rpcretry import RetryStrategy
from rpcretry.backends.requests import Client
from rpcretry.retry import PeriodicBackoff
from rpcretry.testing import Answer, LoopbackServer

SECONDS = 0.15


def main() -> None:
    strategy = RetryStrategy(idempotent=True, backoff=PeriodicBackoff(attempts=10, interval=0.05))

    # A server that takes 3 s for each answer: attempts are cut after 0.15 s, the call after 0.5 s.
    with LoopbackServer(lambda request: [3.0, Answer(b"")]) as server, Client(server.url, retry_strategy=strategy, timeout=SECONDS) as client:
        started = time.monotonic()
        try:
            client.call("get_report", 2024, _deadline=0.5)
        except rpcretry.DeadlineExceeded as error:
            print(f"slow:  ended after {time.monotonic() - started:.1f} s and {error.attempts} attempts, by {type(error.__cause__).__name__}")

    # A server that asks for 30 s: the deadline leaves no time for that, so the call ends at once.
    come_back = Answer(b"", status=503, headers={"Retry-After": "30"})
    with LoopbackServer(lambda request: come_back) as server, Client(server.url, retry_strategy=strategy) as client:
        patient = client.using(deadline=5)
        started = time.monotonic()
        try:
            patient.call("get_report", 2024)
        except rpcretry.DeadlineExceeded as error:
            print(f"busy:  ended after {time.monotonic() - started:.1f} s and {error.attempts} attempt, by {error.__cause__!r}")


if __name__ == "__main__":
    main()
