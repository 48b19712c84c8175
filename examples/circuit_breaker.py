"""A server goes down and comes back: retries, then an open circuit, answered from the last good result, then from a default."""

from __future__ import annotations

import time

from rpcretry import LAST_GOOD, CircuitBreaker, Fallback, RetryStrategy
from rpcretry.backends.requests import Client
from rpcretry.events import BreakerChanged, Event
from rpcretry.retry import PeriodicBackoff
from rpcretry.testing import Answer, LoopbackServer, Received, rpc


class Server:
    """A handler that can be switched off, and counts."""

    def __init__(self) -> None:
        self.is_up, self.requests = True, 0
        self._work = rpc({"get_price": lambda symbol: 41.5})

    def __call__(self, request: Received) -> Answer | None:
        self.requests += 1
        return self._work(request) if self.is_up else Answer(b"", status=503)


def tell(event: Event) -> None:
    if isinstance(event, BreakerChanged):
        print(f"    {event.name}: {event.previous.value} -> {event.state.value} ({event.reason})")


def main() -> None:
    handler = Server()
    breaker = CircuitBreaker("prices", failure_threshold=3, recovery_timeout=0.5, success_threshold=1, listeners=tell)
    strategy = RetryStrategy(idempotent="get_*", backoff=PeriodicBackoff(attempts=2, interval=0.02))
    with LoopbackServer(handler) as server:
        with Client(server.url, retry_strategy=strategy, layers=breaker, fallback=Fallback(LAST_GOOD, "unknown")) as client:
            print("up:       ", client.call("get_price", "ACME"))
            handler.is_up = False
            print("down:     ", client.call("get_price", "ACME"), "from the last good result")
            sent = handler.requests
            print("open:     ", client.call("get_price", "ACME"), "from the last good result")
            print("open:     ", client.call("get_price", "XYZ"), "by default")
            print(f"           {handler.requests - sent} requests reached the server while the circuit was open")
            handler.is_up = True
            time.sleep(breaker.remaining + 0.01)
            print("up again: ", client.call("get_price", "XYZ"))
    print(f"{breaker.stats.rejected} calls were turned away")


if __name__ == "__main__":
    main()
