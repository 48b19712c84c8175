"""A bulkhead: no more than three exchanges at once, the others queue. One layer for threads and for asyncio."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from rpcretry.backends import aiohttp, requests
from rpcretry.outcome import Attempt, Outcome, Wait
from rpcretry.retry import Layer
from rpcretry.testing import Answer, LoopbackServer, Received, rpc


class Bulkhead(Layer):
    """Lets *limit* exchanges out at once.

    :param limit: how many.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._lock = threading.Lock()
        self._inside: set[Attempt] = set()
        self._waiting: list[Callable[[], None]] = []

    def admit(self, attempt: Attempt, now: float) -> Wait | None:
        with self._lock:
            if len(self._inside) < self.limit:
                self._inside.add(attempt)
                return None
            self._waiting.append(attempt.park())
            return Wait(math.inf, "bulkhead")

    def settle(self, attempt: Attempt, outcomes: Sequence[Outcome], now: float) -> None:
        with self._lock:
            self._inside.discard(attempt)
            waiting, self._waiting = self._waiting, []
        # Outside of the lock. Whoever finds no place parks again.
        for wake in waiting:
            wake()

    def abandon(self, attempt: Attempt, now: float) -> None:
        self.settle(attempt, (), now)


class Gauge:
    """A server's handler that counts how many requests are in it at once."""

    def __init__(self) -> None:
        self.most = self._now = 0
        self._lock = threading.Lock()
        self._work = rpc({"work": lambda number: number * number})

    def __call__(self, request: Received) -> Iterator[float | Answer]:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        yield 0.02
        with self._lock:
            self._now -= 1
        yield self._work(request)


async def at_once(url: str, bulkhead: Bulkhead) -> list[int]:
    async with aiohttp.Client(url, layers=[bulkhead]) as client:
        return await asyncio.gather(*[client.call("work", number, _result=int) for number in range(20)])


def in_threads(url: str, bulkhead: Bulkhead) -> list[int]:
    with requests.Client(url, layers=[bulkhead]) as client, ThreadPoolExecutor(20) as pool:
        return list(pool.map(lambda number: client.call("work", number, _result=int), range(20)))


def main() -> None:
    for name, run in (("threads", in_threads), ("asyncio", lambda url, bulkhead: asyncio.run(at_once(url, bulkhead)))):
        gauge = Gauge()
        with LoopbackServer(gauge) as server:
            squares = run(server.url, Bulkhead(3))
        print(f"{name}: {len(squares)} calls, at most {gauge.most} at once")


if __name__ == "__main__":
    main()
