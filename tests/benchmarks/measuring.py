"""How the benchmarks measure: in turns, so that a machine that is slow for a while is slow for all.

Each contestant is a function that makes so many calls and returns the seconds that it took.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from typing import Any, NamedTuple, TypeAlias

Run: TypeAlias = Callable[[int], float]


class Target(NamedTuple):
    """A row of the comparisons that have a target.

    :ivar ours: seconds of a call.
    :ivar peer: seconds of a peer's; ``None`` where the target is a time.
    :ivar found: the ratio; microseconds where the target is a time.
    """

    name: str
    ours: float
    peer: float | None
    found: float
    target: float


Rows: TypeAlias = list[Target]


class Measured(NamedTuple):
    """What one contestant took.

    :ivar median: seconds of a call.
    :ivar ratio: the median of what ours took over what it took in the same round; 1 for ours.
    """

    median: float
    ratio: float


def in_turns(ours: Run, theirs: Run, count: int, rounds: int) -> tuple[float, float, float]:
    """Seconds for each call of ours and of theirs, and the median of the ratios of neighbouring rounds."""
    found = contest({"ours": ours, "theirs": theirs}, count, rounds)
    return found["ours"].median, found["theirs"].median, found["theirs"].ratio


def contest(runs: Mapping[str, Run], count: int, rounds: int, counts: Mapping[str, int] | None = None) -> dict[str, Measured]:
    """The first of *runs* is ours, and the others are compared with it.

    :param counts: of those that make another number of calls than the others.
    """
    each = {name: max(1, (counts or {}).get(name, count)) for name in runs}
    for name, run in runs.items():
        run(each[name] // 10 + 1)
    samples: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    gc.collect()
    for index in range(rounds):
        # Whoever comes later finds warmer caches, so they take turns at it.
        start = index % len(names)
        for name in names[start:] + names[:start]:
            samples[name].append(runs[name](each[name]) / each[name])
    ours = samples[names[0]]
    return {name: Measured(statistics.median(values), statistics.median(a / b for a, b in zip(ours, values, strict=True))) for name, values in samples.items()}


def looped(function: Callable[[], Any]) -> Run:
    def run(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            function()
        return time.perf_counter() - start

    return run


def on(loop: asyncio.AbstractEventLoop, function: Callable[[], Awaitable[Any]], width: int = 1) -> Run:
    """One after the other, or by so many tasks."""

    async def worker(count: int) -> None:
        for _ in range(count):
            await function()

    async def several(count: int) -> None:
        if width == 1:
            await worker(count)
        else:
            await asyncio.gather(*(worker(max(1, count // width)) for _ in range(width)))

    def run(count: int) -> float:
        start = time.perf_counter()
        loop.run_until_complete(several(count))
        return time.perf_counter() - start

    return run


def all_at_once(loop: asyncio.AbstractEventLoop, function: Callable[[], Awaitable[Any]]) -> Run:
    """A task for each call."""

    async def several(count: int) -> None:
        await asyncio.gather(*[function() for _ in range(count)])

    def run(count: int) -> float:
        start = time.perf_counter()
        loop.run_until_complete(several(count))
        return time.perf_counter() - start

    return run


def in_threads(executor: Executor, function: Callable[[], Any]) -> Run:
    """So many calls handed to the threads of *executor*."""

    def run(count: int) -> float:
        start = time.perf_counter()
        for made in [executor.submit(function) for _ in range(count)]:
            made.result()
        return time.perf_counter() - start

    return run
