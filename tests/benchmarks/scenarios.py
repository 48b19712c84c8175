"""The scenarios that are measured in turns: calls over a transport that answers at once, and over loopback."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import aiohttp
import requests
from bench_catalog import OURS
from measuring import Measured, Run, all_at_once, contest, in_threads, looped, on
from peers import Settings, null_async, null_sync
from serving import served
from wire import BATCH, JOINED, THREADS, Clients, over_aiohttp, over_requests

# Seconds for each call, by contestant.
Found = dict[str, Measured]


class Size(NamedTuple):
    """How long to measure.

    :ivar scale: how many calls, relative to the usual number.
    :ivar rounds: how many rounds a scenario of short calls takes; those of long ones take a part of them.
    :ivar alone: whether rpcretry is measured without the peers.
    """

    scale: float
    rounds: int
    alone: bool = False

    def calls(self, usual: int) -> int:
        return max(1, round(usual * self.scale))

    def fewer(self, part: float) -> int:
        return max(3, math.ceil(self.rounds * part))


def in_process(failures: int, usual: int, size: Size) -> dict[str, Found]:
    """Calls over a transport that answers, or fails, at once."""
    sync = null_sync(failures, alone=size.alone)
    check({name: call() for name, call in sync.items()}, 3)
    found = {"sync": contest({name: looped(call) for name, call in sync.items()}, size.calls(usual), size.rounds)}
    with contextlib.closing(asyncio.new_event_loop()) as loop:

        async def made() -> tuple[dict[str, Callable[[], Any]], dict[str, Any]]:
            calls = null_async(failures, alone=size.alone)
            return calls, {name: await call() for name, call in calls.items()}

        calls, results = loop.run_until_complete(made())
        check(results, 3)
        found["async"] = contest({name: on(loop, call) for name, call in calls.items()}, size.calls(usual), size.rounds)
    return found


def null(size: Size) -> dict[str, Found]:
    return in_process(0, 1_000, size)


def retried(size: Size) -> dict[str, Found]:
    return in_process(2, 200, size)


def check(results: Mapping[str, Any], expected: Any) -> None:
    """Nobody is measured who does not do the work."""
    wrong = {name: result for name, result in results.items() if result != expected}
    if wrong:
        raise SystemExit(f"wrong results before the measurement: {wrong!r:.200}, expected {expected!r:.60}")


# --- over loopback ---


def chosen(clients: Clients, operation: str) -> dict[str, Callable[..., Any]]:
    return {name: operations[operation] for name, operations in clients.items() if operation in operations}


EXPECTED: dict[str, Callable[[Any], bool]] = {
    "sum": lambda result: result == 3,
    "batch": lambda results: results == [3] * BATCH,
    "large": lambda rows: len(rows) == 8_700 and rows[-1]["id"] == 8_699,
    "typed": lambda accounts: len(accounts) == 1_000 and accounts[999].owner == "customer 999",
}


class Loopback(NamedTuple):
    """What a scenario does over loopback.

    :ivar at_once: how many calls there are under way; all in one row with 1.
    :ivar each: requests in one call.
    """

    operation: str
    sync_calls: int
    async_calls: int
    part: float
    at_once: int = 1
    each: int = 1


LOOPBACK = {
    "sequential": Loopback("sum", 100, 200, 0.5),
    "hundred": Loopback("sum", 100, 100, 0.5, 100),
    "thousand": Loopback("sum", 1_000, 1_000, 0.15, 1_000),
    "batch": Loopback("batch", 20, 20, 0.5, each=BATCH),
    "large": Loopback("large", 2, 2, 0.3),
    "typed": Loopback("typed", 5, 5, 0.5),
}


@contextlib.contextmanager
def contestants(url: str, alone: bool) -> Iterator[tuple[Clients, Clients, asyncio.AbstractEventLoop]]:
    """Sync ones, async ones, and the loop of those."""
    loop = asyncio.new_event_loop()
    opened = over_aiohttp(url, Settings(aiohttp.ClientConnectionError), alone=alone)
    try:
        clients = loop.run_until_complete(opened.__aenter__())
        try:
            with over_requests(url, Settings(requests.ConnectionError), alone=alone) as sync:
                yield sync, clients, loop
        finally:
            loop.run_until_complete(opened.__aexit__(None, None, None))
    finally:
        loop.close()


def over_loopback(names: list[str], size: Size) -> Iterator[tuple[str, dict[str, Found]]]:
    """Each of the scenarios that were chosen, with the same clients."""
    with served() as url, ThreadPoolExecutor(THREADS) as executor, contestants(url, size.alone) as (sync, clients, loop):
        for name in names:
            plan = LOOPBACK[name]
            holds = EXPECTED[plan.operation]
            calls, coroutines = chosen(sync, plan.operation), chosen(clients, plan.operation)
            check({peer: holds(call()) for peer, call in calls.items()}, True)
            check({peer: holds(loop.run_until_complete(call())) for peer, call in coroutines.items()}, True)
            if plan.at_once == 1:
                coroutines.pop(JOINED, None)
                runs: dict[str, Run] = {peer: looped(call) for peer, call in calls.items()}
                tasks: dict[str, Run] = {peer: on(loop, call) for peer, call in coroutines.items()}
            else:
                runs = {peer: in_threads(executor, call) for peer, call in calls.items()}
                tasks = {peer: all_at_once(loop, call) for peer, call in coroutines.items()}
            rounds = size.fewer(plan.part)
            found = {
                "sync": contest(runs, size.calls(plan.sync_calls), rounds),
                "async": contest(tasks, size.calls(plan.async_calls), rounds),
            }
            yield name, {kind: {peer: Measured(one.median / plan.each, one.ratio) for peer, one in row.items()} for kind, row in found.items()}


def joined_apart(found: Found) -> tuple[Found, Found | None]:
    """The calls that were joined compared with the same others, as a row of their own."""
    rest = dict(found)
    joined = rest.pop(JOINED, None)
    if joined is None:
        return rest, None
    ours = rest[OURS]
    # Medians of the same rounds; how ours compare with each other was measured round by round.
    share = 1 / joined.ratio
    return rest, {OURS: Measured(joined.median, 1.0)} | {name: Measured(one.median, one.ratio * share) for name, one in rest.items() if name != OURS} | (
        {"not joined": Measured(ours.median, share)}
    )
