"""Side by side with peers, in one run: medians, and ratios of what is measured in turns.

Machines are noisy, so nothing here asserts a time: the table names the target beside the measured ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
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
from measuring import Rows, in_turns, looped, on

import rpcretry
import rpcretry.backends.aiohttp
import rpcretry.backends.requests
import rpcretry.functions
from rpcretry.retry import ExponentialBackoff, RetryStrategy
from rpcretry.transport import Exchange, Reply

STRATEGY = RetryStrategy(backoff=ExponentialBackoff(attempts=3), codes={2001}, exceptions={TimeoutError})
PEER_STRATEGY = pjrpc.client.retry.RetryStrategy(backoff=pjrpc.client.retry.ExponentialBackoff(attempts=3), codes={2001}, exceptions={TimeoutError})
ANSWER = b'{"jsonrpc":"2.0","id":1,"result":3}'


class Null:
    def exchange(self, exchange: Exchange) -> Reply:
        return Reply(b'{"jsonrpc":"2.0","id":%d,"result":3}' % exchange.ids[0])

    def close(self) -> None:
        pass


class AsyncNull:
    async def exchange(self, exchange: Exchange) -> Reply:
        return Reply(b'{"jsonrpc":"2.0","id":%d,"result":3}' % exchange.ids[0])

    async def aclose(self) -> None:
        pass


class PeerNull(pjrpc.client.AbstractClient):
    def _request(self, request_text: str, is_notification: bool, request_kwargs: Any) -> str:
        return ANSWER.decode()


class AsyncPeerNull(pjrpc.client.AbstractAsyncClient):
    async def _request(self, request_text: str, is_notification: bool, request_kwargs: Any) -> str:
        return ANSWER.decode()


@contextlib.contextmanager
def served() -> Iterator[str]:
    server = subprocess.Popen([sys.executable, str(Path(__file__).with_name("server.py"))], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert server.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(server.stdout.readline())}/"
    finally:
        server.communicate()


def null_calls(rows: Rows, scale: float, rounds: int) -> None:
    count = int(8_000 * scale)
    client = rpcretry.Client(Null(), retry_strategy=STRATEGY)
    peer = PeerNull(middlewares=[pjrpc.client.retry.RetryMiddleware(PEER_STRATEGY)])
    measured = in_turns(looped(lambda: client.call("sum", 1, 2)), looped(lambda: peer.call("sum", 1, 2)), count, rounds)
    rows.append(("a  null call, sync, vs pjrpc", *measured, 0.4))
    loop = asyncio.new_event_loop()
    aclient = rpcretry.AsyncClient(AsyncNull(), retry_strategy=STRATEGY)
    apeer = AsyncPeerNull(middlewares=[pjrpc.client.retry.AsyncRetryMiddleware(PEER_STRATEGY)])
    measured = in_turns(on(loop, lambda: aclient.call("sum", 1, 2)), on(loop, lambda: apeer.call("sum", 1, 2)), count, rounds)
    rows.append(("a  null call, async, vs pjrpc", *measured, 0.4))
    loop.close()


def layered_calls(rows: Rows, scale: float, rounds: int) -> None:
    client = rpcretry.Client(
        Null(), retry_strategy=STRATEGY, deadline=5, layers=[rpcretry.RetryBudget(), rpcretry.CircuitBreaker()], on_event=rpcretry.RetryMetrics()
    )
    peer = PeerNull(middlewares=[pjrpc.client.retry.RetryMiddleware(PEER_STRATEGY)])
    measured = in_turns(looped(lambda: client.call("sum", 1, 2)), looped(lambda: peer.call("sum", 1, 2)), int(8_000 * scale), rounds)
    rows.append(("f  all layers, sync, vs pjrpc's retry", *measured, 0.7))


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
        "opnieuw": opnieuw.retry_async(retry_on_exceptions=OSError, max_calls_total=3, retry_window_after_first_call_in_seconds=10)(nothing_async),
        "stamina": stamina.retry(on=OSError, attempts=3)(nothing_async),
        "tenacity": tenacity.retry(stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_exponential_jitter())(nothing_async),
    }
    for kind, wrapped, run, most in (("sync", sync, looped, 1.0), ("async", awaited, lambda function: on(loop, function), 1.5)):
        added = overheads({name: run(function) for name, function in wrapped.items()}, count, rounds)
        ours = added.pop("rpcretry")
        print(f"e  @retry on a function that does nothing, {kind}: adds {ours * 1e6:.2f} us (target {most:.1f})")
        for name, theirs in added.items():
            rows.append((f"e  @retry, {kind}, adds, vs {name}", ours, theirs, ours / theirs, 1.0))
    loop.close()


def overheads(runs: dict[str, Callable[[int], float]], count: int, rounds: int) -> dict[str, float]:
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
        rows.append(("b  requests, vs Session.post", *measured, 0.65))


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
        rows.append((f"c  aiohttp, {name}, vs session.post", *measured, 1.0))
    loop.run_until_complete(client.aclose())
    loop.run_until_complete(session.close())
    loop.close()


def imports(rows: Rows, rounds: int) -> None:
    def run(statement: str) -> Callable[[int], float]:
        # A process each, whose own clock leaves the start of the interpreter out.
        program = f"import time; start = time.perf_counter(); {statement}; print(time.perf_counter() - start)"
        return lambda count: sum(float(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout) for _ in range(count))

    measured = in_turns(run("import rpcretry"), run("import pjrpc.client.backend.aiohttp"), 1, max(5, rounds))
    rows.append(("d  import, vs pjrpc's aiohttp backend", *measured, 0.3))
    unwanted = "import sys, rpcretry; print([name for name in ('aiohttp', 'requests', 'pydantic') if name in sys.modules])"
    print("d  imported along with rpcretry:", subprocess.run([sys.executable, "-c", unwanted], capture_output=True, check=True, text=True).stdout.strip())


def show(rows: Rows) -> None:
    print(f"\n{'median of rounds taken in turns':<40}{'ours us':>11}{'peer us':>11}{'ratio':>8}{'target':>8}")
    for name, ours, theirs, ratio, target in rows:
        verdict = "" if ratio <= target else "  missed"
        print(f"{name:<40}{ours * 1e6:>11.2f}{theirs * 1e6:>11.2f}{ratio:>8.2f}{target:>8.2f}{verdict}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="how many calls, relative to the usual number")
    parser.add_argument("--rounds", type=int, default=31, help="how many rounds each comparison takes")
    parser.add_argument("--only", default="abcdefgh", help="which comparisons: letters of the table")
    given = parser.parse_args()
    rows: Rows = []
    if "a" in given.only:
        null_calls(rows, given.scale, given.rounds)
    if "e" in given.only:
        functions(rows, given.scale, given.rounds)
    if "f" in given.only:
        layered_calls(rows, given.scale, given.rounds)
    if "g" in given.only:
        batches(rows, given.scale, given.rounds)
    with served() as url:
        if "b" in given.only:
            over_requests(rows, url, given.scale, given.rounds)
        if "c" in given.only:
            over_aiohttp(rows, url, given.scale, given.rounds)
        if "h" in given.only:
            joined(rows, url, given.scale, given.rounds)
    if "d" in given.only:
        imports(rows, given.rounds)
    show(rows)


if __name__ == "__main__":
    main()
