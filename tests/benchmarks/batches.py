"""Batches, and calls that are joined into batches, beside pjrpc's."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pjrpc.client
import pjrpc.client.backend.aiohttp
import pjrpc.client.retry
from measuring import Rows, Target, in_turns, on

import rpcretry
import rpcretry.backends.aiohttp
from rpcretry.client import Joining
from rpcretry.retry import ExponentialBackoff, RetryStrategy
from rpcretry.transport import Exchange, Reply

STRATEGY = RetryStrategy(backoff=ExponentialBackoff(attempts=3), codes={2001}, exceptions={TimeoutError})
PEER_STRATEGY = pjrpc.client.retry.RetryStrategy(backoff=pjrpc.client.retry.ExponentialBackoff(attempts=3), codes={2001}, exceptions={TimeoutError})


class Null:
    """Answers batches; the text is ready but for the ids."""

    def __init__(self, size: int) -> None:
        self.template = b"[" + b",".join([b'{"jsonrpc":"2.0","id":%d,"result":3}'] * size) + b"]"

    def exchange(self, exchange: Exchange) -> Reply:
        return Reply(self.template % exchange.ids)

    def close(self) -> None:
        pass


class PeerNull(pjrpc.client.AbstractClient):
    """Its batches always have the ids 1, 2, 3 ..., so that the whole text is ready."""

    answer = ""

    def _request(self, request_text: str, is_notification: bool, request_kwargs: Any) -> str:
        return self.answer


def ours(size: int) -> Callable[[int], float]:
    client = rpcretry.Client(Null(size), retry_strategy=STRATEGY)

    def run(count: int) -> float:
        start = time.perf_counter()
        for _ in range(max(1, count // size)):
            with client.batch() as batch:
                for _ in range(size):
                    batch.call("sum", 1, 2)
            batch.results()
        return time.perf_counter() - start

    return run


def theirs(size: int) -> Callable[[int], float]:
    peer = PeerNull(middlewares=[pjrpc.client.retry.RetryMiddleware(PEER_STRATEGY)])
    peer.answer = json.dumps([{"jsonrpc": "2.0", "id": index + 1, "result": 3} for index in range(size)])

    def run(count: int) -> float:
        start = time.perf_counter()
        for _ in range(max(1, count // size)):
            with peer.batch() as batch:
                for _ in range(size):
                    batch.call("sum", 1, 2)
            list(batch.get_results())
        return time.perf_counter() - start

    return run


def batches(rows: Rows, scale: float, rounds: int) -> None:
    """Seconds for each request of a batch."""
    count = int(10_000 * scale) // 100 * 100 or 100
    rows.append(Target("g  batch of 100, per request, vs pjrpc", *in_turns(ours(100), theirs(100), count, rounds), 0.5))
    # As many requests in one batch, or in a thousand of them.
    rows.append(Target("g  100,000 in one batch, vs in 1,000", *in_turns(ours(100_000), ours(100), 100_000, max(5, rounds // 4)), 1.3))


def at_once(loop: asyncio.AbstractEventLoop, call: Callable[[], Awaitable[Any]], width: int) -> Callable[[int], float]:
    async def several() -> None:
        await asyncio.gather(*[call() for _ in range(width)])

    def run(count: int) -> float:
        start = time.perf_counter()
        for _ in range(max(1, count // width)):
            loop.run_until_complete(several())
        return time.perf_counter() - start

    return run


def joined(rows: Rows, url: str, scale: float, rounds: int) -> None:
    """1,000 calls at once over loopback, and one after the other."""
    loop = asyncio.new_event_loop()

    async def opened() -> tuple[Any, Any, Any, aiohttp.ClientSession]:
        joining = rpcretry.backends.aiohttp.Client(url, retry_strategy=STRATEGY, joining=Joining())
        plain = rpcretry.backends.aiohttp.Client(url, retry_strategy=STRATEGY)
        session = aiohttp.ClientSession()
        retrying = [pjrpc.client.retry.AsyncRetryMiddleware(PEER_STRATEGY)]
        return joining, plain, pjrpc.client.backend.aiohttp.Client(url, session=session, middlewares=retrying), session

    joining, plain, peer, session = loop.run_until_complete(opened())
    count = int(2_000 * scale) // 1_000 * 1_000 or 1_000
    fewer = max(5, rounds // 3)
    many = at_once(loop, lambda: joining.proxy.sum(1, 2), 1_000)
    rows.append(Target("h  1,000 at once, joined, vs pjrpc", *in_turns(many, at_once(loop, lambda: peer.proxy.sum(1, 2), 1_000), count, fewer), 1 / 8))
    rows.append(Target("h  1,000 at once, joined, vs not joined", *in_turns(many, at_once(loop, lambda: plain.proxy.sum(1, 2), 1_000), count, fewer), 1 / 6))
    one, alone = on(loop, lambda: joining.proxy.sum(1, 2)), on(loop, lambda: plain.proxy.sum(1, 2))
    rows.append(Target("h  one after the other, joined, vs not", *in_turns(one, alone, int(1_000 * scale), rounds), 1.1))
    for client in (joining, plain):
        loop.run_until_complete(client.aclose())
    loop.run_until_complete(session.close())
    loop.close()
