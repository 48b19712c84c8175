"""Two thousand requests as a stream, with numbers on the way: left in the middle, gone on with, and accounted for."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from rpcretry import Request
from rpcretry.backends.requests import Client
from rpcretry.bulk import BulkProgress
from rpcretry.retry import ExponentialBackoff, RetryStrategy
from rpcretry.testing import LoopbackServer, Received, rpc

COUNT = 2_000

working = rpc({"get_price": lambda symbol: len(symbol) * 10.5})
numbers = itertools.count(1)


def handler(request: Received) -> Any:
    if next(numbers) % 50 == 0:
        return None  # close the connection without an answer
    return working(request)


def requests() -> Iterator[Request]:
    """A source may be as long as it likes: a file, a cursor, a queue. Little more is read of it than is consumed."""
    for number in range(COUNT):
        yield Request("get_price", ["X" * (number % 7 + 1)])


def show(progress: BulkProgress) -> None:
    print(f"  {progress.done} done, {progress.failed} failed, {progress.retries} retries, {progress.rate:.0f}/s")


def main() -> None:
    strategy = RetryStrategy(idempotent="get_*", backoff=ExponentialBackoff(attempts=5, base=0.01, jitter=True))
    with LoopbackServer(handler) as server, Client(server.url, retry_strategy=strategy, deadline=5) as client:
        # progress=True draws a bar on a terminal.
        with client.bulk(requests(), concurrency=8, batch_size=10, progress=show) as bulk:
            total = 0.0
            for item in bulk:
                total += item.result
                if bulk.progress.done == 500:
                    break
            print(f"left after {bulk.progress.done}, with prices of {total}")
            result = bulk.run()
        print(f"the other {result.total}: {len(result.successful)} successful, {len(result.failed)} failed")
        print(f"all prices: {total + sum(item.result for item in result.successful)}")


if __name__ == "__main__":
    main()
