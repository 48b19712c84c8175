"""The comparisons that have a target: a to f; :mod:`batches` has g and h."""

from __future__ import annotations

import asyncio
import gc
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
import backoff
import opnieuw
import pjrpc.client
import pjrpc.client.retry
import requests
import stamina
import tenacity
from batches import batches, joined
from measuring import Rows, Run, Target, in_turns, looped, on
from serving import served
from transports import TEXT, AsyncNull, Null

import rpcretry
import rpcretry.backends.aiohttp
import rpcretry.backends.requests
import rpcretry.functions
from rpcretry.retry import ExponentialBackoff, RetryStrategy

STRATEGY = RetryStrategy(backoff=ExponentialBackoff(attempts=3), codes={2001}, exceptions={TimeoutError})
PEER_STRATEGY = pjrpc.client.retry.RetryStrategy(backoff=pjrpc.client.retry.ExponentialBackoff(attempts=3), codes={2001}, exceptions={TimeoutError})


class PeerNull(pjrpc.client.AbstractClient):
    def _request(self, request_text: str, is_notification: bool, request_kwargs: Any) -> str:
        return TEXT


class AsyncPeerNull(pjrpc.client.AbstractAsyncClient):
    async def _request(self, request_text: str, is_notification: bool, request_kwargs: Any) -> str:
        return TEXT


def null_calls(rows: Rows, scale: float, rounds: int) -> None:
    count = int(8_000 * scale)
    client = rpcretry.Client(Null(), retry_strategy=STRATEGY)
    peer = PeerNull(middlewares=[pjrpc.client.retry.RetryMiddleware(PEER_STRATEGY)])
    measured = in_turns(looped(lambda: client.call("sum", 1, 2)), looped(lambda: peer.call("sum", 1, 2)), count, rounds)
    rows.append(Target("a  null call, sync, vs pjrpc", *measured, 0.4))
    loop = asyncio.new_event_loop()
    aclient = rpcretry.AsyncClient(AsyncNull(), retry_strategy=STRATEGY)
    apeer = AsyncPeerNull(middlewares=[pjrpc.client.retry.AsyncRetryMiddleware(PEER_STRATEGY)])
    measured = in_turns(on(loop, lambda: aclient.call("sum", 1, 2)), on(loop, lambda: apeer.call("sum", 1, 2)), count, rounds)
    rows.append(Target("a  null call, async, vs pjrpc", *measured, 0.4))
    loop.close()


def layered_calls(rows: Rows, scale: float, rounds: int) -> None:
    client = rpcretry.Client(
        Null(), retry_strategy=STRATEGY, deadline=5, layers=[rpcretry.RetryBudget(), rpcretry.CircuitBreaker()], on_event=rpcretry.RetryMetrics()
    )
    peer = PeerNull(middlewares=[pjrpc.client.retry.RetryMiddleware(PEER_STRATEGY)])
    measured = in_turns(looped(lambda: client.call("sum", 1, 2)), looped(lambda: peer.call("sum", 1, 2)), int(8_000 * scale), rounds)
    rows.append(Target("f  all layers, sync, vs pjrpc's retry", *measured, 0.7))


def nothing() -> None:
    pass


async def nothing_async() -> None:
    pass


def functions(rows: Rows, scale: float, rounds: int) -> None:
    """What a decorator adds to a call of a function that does nothing and succeeds."""
    count = int(50_000 * scale)
    sync: dict[str, Any] = {
        "bare": nothing,
        "rpcretry": rpcretry.functions.retry(nothing),
        "backoff": backoff.on_exception(backoff.expo, OSError, max_tries=3)(nothing),
        "opnieuw": opnieuw.retry(retry_on_exceptions=OSError, max_calls_total=3, retry_window_after_first_call_in_seconds=10)(nothing),
        "stamina": stamina.retry(on=OSError, attempts=3)(nothing),
        "tenacity": tenacity.retry(stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_exponential_jitter())(nothing),
    }
    loop = asyncio.new_event_loop()
    awaited: dict[str, Any] = {
        "bare": nothing_async,
        "rpcretry": rpcretry.functions.retry(nothing_async),
        "backoff": backoff.on_exception(backoff.expo, OSError, max_tries=3)(nothing_async),
        "opnieuw": opnieuw.retry(retry_on_exceptions=OSError, max_calls_total=3, retry_window_after_first_call_in_seconds=10)(nothing_async),
        "stamina": stamina.retry(on=OSError, attempts=3)(nothing_async),
        "tenacity": tenacity.retry(stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_exponential_jitter())(nothing_async),
    }
    for kind, wrapped, run, most in (("sync", sync, looped, 1.0), ("async", awaited, lambda function: on(loop, function), 1.5)):
        added = overheads({name: run(function) for name, function in wrapped.items()}, count, rounds)
        ours = added.pop("rpcretry")
        rows.append(Target(f"e  @retry, {kind}, adds, in µs", ours, None, ours * 1e6, most))
        for name, theirs in added.items():
            rows.append(Target(f"e  @retry, {kind}, adds, vs {name}", ours, theirs, ours / theirs, 1.0))
    loop.close()


def overheads(runs: Mapping[str, Run], count: int, rounds: int) -> dict[str, float]:
    """Median seconds that each adds to a bare call, measured in turns."""
    samples: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run(count // 10 + 1)
    gc.collect()
    for _ in range(rounds):
        bare = runs["bare"](count)
        for name, run in runs.items():
            if name != "bare":
                # Slow ones get fewer calls; all of them are long against the clock.
                some = count if name == "rpcretry" else count // 10 + 1
                samples[name].append(run(some) / some - bare / count)
    return {name: statistics.median(values) for name, values in samples.items() if values}


def over_requests(rows: Rows, url: str, scale: float, rounds: int) -> None:
    with rpcretry.backends.requests.Client(url, retry_strategy=STRATEGY) as client, requests.Session() as session:

        def raw() -> Any:
            request = {"jsonrpc": "2.0", "method": "sum", "params": [1, 2], "id": 1}
            return session.post(url, data=json.dumps(request), headers={"Content-Type": "application/json"}).json()["result"]

        measured = in_turns(looped(lambda: client.call("sum", 1, 2)), looped(raw), int(600 * scale), rounds)
        rows.append(Target("b  requests, vs Session.post", *measured, 0.65))


def over_aiohttp(rows: Rows, url: str, scale: float, rounds: int) -> None:
    loop = asyncio.new_event_loop()

    async def opened() -> tuple[rpcretry.backends.aiohttp.Client, aiohttp.ClientSession]:
        return rpcretry.backends.aiohttp.Client(url, retry_strategy=STRATEGY), aiohttp.ClientSession()

    client, session = loop.run_until_complete(opened())

    async def raw() -> Any:
        request = {"jsonrpc": "2.0", "method": "sum", "params": [1, 2], "id": 1}
        async with session.post(url, json=request) as response:
            return (await response.json())["result"]

    for width, count, name in ((1, 1_000, "sequential"), (100, 2_000, "100 at once")):
        measured = in_turns(on(loop, lambda: client.call("sum", 1, 2), width), on(loop, raw, width), int(count * scale), rounds)
        rows.append(Target(f"c  aiohttp, {name}, vs session.post", *measured, 1.0))
    loop.run_until_complete(client.aclose())
    loop.run_until_complete(session.close())
    loop.close()


def imports(rows: Rows, scale: float, rounds: int) -> None:
    def run(statement: str) -> Callable[[int], float]:
        # A process each, whose own clock leaves the start of the interpreter out.
        program = f"import time; start = time.perf_counter(); {statement}; print(time.perf_counter() - start)"
        return lambda count: sum(float(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout) for _ in range(count))

    measured = in_turns(run("import rpcretry"), run("import pjrpc.client.backend.aiohttp"), 1, max(5, rounds))
    rows.append(Target("d  import, vs pjrpc's aiohttp backend", *measured, 0.3))


# By the letters of the table; those that get a URL go over loopback.
COMPARISONS: dict[str, Callable[[Rows, float, int], None]] = {"a": null_calls, "d": imports, "e": functions, "f": layered_calls, "g": batches}
OVER_LOOPBACK: dict[str, Callable[[Rows, str, float, int], None]] = {"b": over_requests, "c": over_aiohttp, "h": joined}


def compared(letters: str, scale: float, rounds: int) -> Rows:
    """The rows of the comparisons that were chosen, in the order of their letters."""
    rows: Rows = []
    for letter, compare in COMPARISONS.items():
        if letter in letters:
            compare(rows, scale, rounds)
    if set(letters) & OVER_LOOPBACK.keys():
        with served() as url:
            for letter, compare_over in OVER_LOOPBACK.items():
                if letter in letters:
                    compare_over(rows, url, scale, rounds)
    return sorted(rows, key=lambda row: row.name[0])
