"""How the benchmarks measure: in turns, so that a machine that is slow for a while is slow for both."""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

Rows = list[tuple[str, float, float, float, float]]


def in_turns(ours: Callable[[int], float], theirs: Callable[[int], float], count: int, rounds: int) -> tuple[float, float, float]:
    """Seconds for each call of ours and of theirs, and the median of the ratios of neighbouring rounds."""
    ours(count // 10 + 1), theirs(count // 10 + 1)
    mine, others, ratios = [], [], []
    gc.collect()
    for index in range(rounds):
        # Whoever goes second finds warmer caches, so the two take turns at it.
        if index % 2:
            b, a = theirs(count), ours(count)
        else:
            a, b = ours(count), theirs(count)
        mine.append(a / count)
        others.append(b / count)
        ratios.append(a / b)
    return statistics.median(mine), statistics.median(others), statistics.median(ratios)


def looped(function: Callable[[], Any]) -> Callable[[int], float]:
    def run(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            function()
        return time.perf_counter() - start

    return run


def on(loop: asyncio.AbstractEventLoop, function: Callable[[], Awaitable[Any]], width: int = 1) -> Callable[[int], float]:
    async def worker(count: int) -> None:
        for _ in range(count):
            await function()

    async def several(count: int) -> None:
        if width == 1:
            await worker(count)
        else:
            await asyncio.gather(*(worker(count // width) for _ in range(width)))

    def run(count: int) -> float:
        start = time.perf_counter()
        loop.run_until_complete(several(count))
        return time.perf_counter() - start

    return run
