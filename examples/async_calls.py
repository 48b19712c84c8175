"""Many calls at once over aiohttp, to a server that drops every fifth connection."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import Any

from rpcretry.backends.aiohttp import Client
from rpcretry.events import Event, RetryScheduled
from rpcretry.retry import ExponentialBackoff, RetryStrategy
from rpcretry.testing import LoopbackServer, Received, rpc

working = rpc({"get_price": lambda symbol: len(symbol) * 10.5})
numbers = itertools.count(1)


def handler(request: Received) -> Any:
    if next(numbers) % 5 == 0:
        return None  # close the connection without an answer
    return [0.02, working(request)]


async def main() -> None:
    retries: list[RetryScheduled] = []

    def count(event: Event) -> None:
        if isinstance(event, RetryScheduled):
            retries.append(event)

    strategy = RetryStrategy(idempotent="get_*", backoff=ExponentialBackoff(attempts=5, base=0.02, jitter=True))
    with LoopbackServer(handler) as server:
        async with Client(server.url, retry_strategy=strategy, deadline=5, on_event=count) as client:
            started = time.perf_counter()
            prices = await asyncio.gather(*[client.call("get_price", "X" * number) for number in range(1, 51)])
            elapsed = time.perf_counter() - started
    print(f"{len(prices)} prices in {elapsed:.2f} s, {len(retries)} attempts retried, the last price is {prices[-1]}")


if __name__ == "__main__":
    asyncio.run(main())
