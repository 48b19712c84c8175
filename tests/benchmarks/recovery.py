"""A server that turns half of the requests away for a while, and then serves all: how many calls each contestant completes."""

from __future__ import annotations

import asyncio
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import aiohttp
import requests
from peers import Settings
from scenarios import Size
from serving import served
from wire import JOINED, THREADS, over_aiohttp, over_requests

CALLS, WINDOW = 1_000, 0.5


class Recovered(NamedTuple):
    """What came of all calls of one contestant; medians of some runs.

    :ivar wrong: calls that returned another call's result.
    :ivar requests: how many the server saw.
    """

    completed: float
    failed: float
    wrong: float
    requests: float
    seconds: float


def recovery(size: Size) -> dict[str, dict[str, Recovered]]:
    """By kind and contestant. Each run has a server of its own, since the time of its trouble begins with the first request."""
    found: dict[str, dict[str, Recovered]] = {}
    for kind in ("sync", "async"):
        rounds: dict[str, list[Recovered]] = {}
        names = contestants(kind, size)
        for _ in range(size.fewer(0.05)):
            for name in names:
                rounds.setdefault(name, []).append(run(kind, name, size))
        found[kind] = {name: Recovered(*map(statistics.median, zip(*runs, strict=True))) for name, runs in rounds.items()}
    return found


def settings_of(kind: str) -> Settings:
    # A 503 is what is retried; the others see it as their HTTP library's exception.
    return Settings(requests.HTTPError if kind == "sync" else aiohttp.ClientResponseError, "backoff", (503,))


def contestants(kind: str, size: Size) -> list[str]:
    async def of_aiohttp() -> list[str]:
        async with over_aiohttp("http://localhost/", settings_of(kind), alone=size.alone) as clients:
            return [name for name in clients if name != JOINED]

    if kind == "async":
        return asyncio.run(of_aiohttp())
    with over_requests("http://localhost/", settings_of(kind), alone=size.alone) as clients:
        return list(clients)


def run(kind: str, name: str, size: Size) -> Recovered:
    """One run; the clients, too, are new."""
    count = size.calls(CALLS)
    ends: list[object] = []
    with served("--flaky", str(WINDOW if size.scale >= 0.5 else 0.05)) as url:
        seconds = sync_run(url, name, count, ends, size) if kind == "sync" else asyncio.run(async_run(url, name, count, ends, size))
    failed = sum(isinstance(end, Exception) for end in ends)
    wrong = sum(not isinstance(end, Exception) and end is not True for end in ends)
    if len(ends) != count:
        raise SystemExit(f"{name}: {len(ends)} calls ended of {count}")
    return Recovered(count - failed - wrong, failed, wrong, url.counted["requests"], seconds)


def sync_run(url: str, name: str, count: int, ends: list[object], size: Size) -> float:
    with over_requests(url, settings_of("sync"), alone=size.alone) as clients, ThreadPoolExecutor(THREADS) as executor:
        call = clients[name]["echo"]

        def one(number: int) -> None:
            try:
                ends.append(call(number) == number)
            except Exception as problem:
                ends.append(problem)

        start = time.perf_counter()
        list(executor.map(one, range(count)))
        return time.perf_counter() - start


async def async_run(url: str, name: str, count: int, ends: list[object], size: Size) -> float:
    async with over_aiohttp(url, settings_of("async"), alone=size.alone) as clients:
        call: Any = clients[name]["echo"]
        numbers = iter(range(count))

        async def worker() -> None:
            for number in numbers:
                try:
                    ends.append(await call(number) == number)
                except Exception as problem:
                    ends.append(problem)

        start = time.perf_counter()
        await asyncio.gather(*[worker() for _ in range(THREADS)])
        return time.perf_counter() - start
