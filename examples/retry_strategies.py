"""A strategy for the client, another for one call, and a backoff of one's own."""

from __future__ import annotations

import dataclasses
import logging
import random
from collections.abc import Iterator
from typing import Any

from rpcretry import Request
from rpcretry.backends.requests import Client
from rpcretry.retry import Backoff, ExponentialBackoff, PeriodicBackoff, RetryStrategy
from rpcretry.testing import RESET, Answer, LoopbackServer, Received, rpc


@dataclasses.dataclass(frozen=True)
class RandomBackoff(Backoff):
    """Anything up to a tenth of a second, each time."""

    def __call__(self) -> Iterator[float]:
        return (random.random() / 10 for _ in range(self.attempts))


def failing(request: Received) -> Answer:
    return Answer({"jsonrpc": "2.0", "id": request.json["id"], "error": {"code": 2001, "message": "the table is locked"}})


def main() -> None:
    working = rpc({"sum": lambda a, b: a + b})
    troubles: list[Any] = []

    def handler(request: Received) -> Any:
        trouble = troubles.pop(0) if troubles else working
        return trouble(request) if callable(trouble) else trouble

    usual = RetryStrategy(
        exceptions={TimeoutError, ConnectionError},
        backoff=PeriodicBackoff(attempts=3, interval=0.1, jitter=lambda: random.gauss(mu=0.05, sigma=0.01)),
    )
    on_locks = RetryStrategy(codes={2001}, backoff=ExponentialBackoff(attempts=3, base=0.05, factor=2.0))
    at_random = RetryStrategy(codes={2001}, backoff=RandomBackoff(attempts=5))

    with LoopbackServer(handler) as server, Client(server.url, retry_strategy=usual) as client:
        troubles[:] = [RESET, RESET]
        print("the client's strategy:", client.call("sum", 1, 2))

        troubles[:] = [failing, failing]
        print("one call's strategy:  ", client.call("sum", 1, 2, _retry_strategy=on_locks))

        troubles[:] = [failing, failing, failing]
        response = client.send(Request("sum", params=[1, 2]), _retry_strategy=at_random)
        print(f"a backoff of one's own: {response.result} on attempt {response.attempts}")

        troubles[:] = [failing]
        response = client.send(Request("sum", params=[1, 2]), _retry_strategy=None)
        print("no retries:           ", response.error)


if __name__ == "__main__":
    logging.basicConfig(format="    %(levelname)s %(message)s", level=logging.INFO)
    main()
