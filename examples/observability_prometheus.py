"""Counters and a histogram of calls, as Prometheus scrapes them."""

from __future__ import annotations

import contextlib

from prometheus_client import CollectorRegistry, generate_latest

from rpcretry import CircuitBreaker, RetryStrategy, RpcRetryError
from rpcretry.backends.requests import Client
from rpcretry.integrations.prometheus import Prometheus
from rpcretry.retry import PeriodicBackoff
from rpcretry.testing import Answer, LoopbackServer, rpc


def main() -> None:
    # Without a registry of its own it is the one that prometheus_client.start_http_server exposes.
    registry = CollectorRegistry()
    troubles = [Answer(b"busy", status=503)] * 8
    working = rpc({"sum": lambda a, b: a + b})

    with LoopbackServer(lambda request: troubles.pop() if troubles and b"load" in request.body else working(request)) as server:
        strategy = RetryStrategy(statuses={503}, backoff=PeriodicBackoff(attempts=2, interval=0.01))
        layers = CircuitBreaker(failure_threshold=6, name="node")
        with Client(server.url, retry_strategy=strategy, layers=layers, on_event=Prometheus(registry)) as client:
            for number in range(20):
                client.call("sum", number, 1)
            for _ in range(5):
                with contextlib.suppress(RpcRetryError):
                    client.call("load")

    for line in generate_latest(registry).decode().splitlines():
        if line.startswith("rpcretry_") and "_created" not in line and "_bucket" not in line:
            print(line)


if __name__ == "__main__":
    main()
