"""Checked by mypy --strict, never run: what a bulk gives, and that wrong options are errors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, assert_type

import rpcretry
from rpcretry.bulk import AsyncBulk, Bulk, BulkItem, BulkProgress, BulkResult
from rpcretry.functions import bulk


def show(progress: BulkProgress) -> None:
    assert_type(progress.total, int | None)
    assert_type(progress.rate, float)


def sync(client: rpcretry.Client, requests: list[rpcretry.Request]) -> None:
    stream = client.bulk(requests, concurrency=4, batch_size=10, partial_success_threshold=0.9, progress=show, _deadline=5)
    assert_type(stream, Bulk[rpcretry.Request, Any])
    assert_type(client.bulk(requests, _result=int), Bulk[rpcretry.Request, int])
    for item in client.bulk(iter(requests), _result=int):
        assert_type(item, BulkItem[rpcretry.Request, int])
        assert_type(item.request, rpcretry.Request)
        assert_type(item.result, int)
        assert_type(item.error, Exception | None)
    with client.bulk(requests, _result=str, progress=True) as open_:
        assert_type(open_, Bulk[rpcretry.Request, str])
        assert_type(open_.run(), BulkResult[rpcretry.Request, str])
    assert_type(stream.run().results(), list[Any])
    assert_type(stream.collected.failed, list[BulkItem[rpcretry.Request, Any]])
    assert_type(stream.progress, BulkProgress)


async def asynchronous(client: rpcretry.AsyncClient, requests: AsyncIterator[rpcretry.Request]) -> None:
    stream = client.bulk(requests, _result=int)
    assert_type(stream, AsyncBulk[rpcretry.Request, int])
    async for item in stream:
        assert_type(item.result, int)
    async with client.bulk(requests) as open_:
        assert_type(await open_.run(), BulkResult[rpcretry.Request, Any])
    assert_type(await stream, BulkResult[rpcretry.Request, int])


def plain(number: int) -> str:
    return str(number)


async def awaited(number: int) -> str:
    return str(number)


async def functions(source: AsyncIterator[int]) -> None:
    assert_type(bulk(plain, [1, 2], concurrency=3, max_attempts=5, on=OSError), Bulk[int, str])
    assert_type(bulk(awaited, [1, 2], timeout=5), AsyncBulk[int, str])
    assert_type(bulk(awaited, source), AsyncBulk[int, str])
    assert_type(bulk(plain, range(3)).run().results(), list[str])
    assert_type(await bulk(awaited, source, partial_success_threshold=0), BulkResult[int, str])


def wrong(client: rpcretry.Client, requests: list[rpcretry.Request], source: AsyncIterator[rpcretry.Request]) -> None:
    # Each of these is a mistake; that mypy says so is what is tested: an ignore that is not needed fails.
    client.bulk(requests, max_workers=3)  # type: ignore[call-overload]
    client.bulk(requests, timeout=3)  # type: ignore[call-overload]
    client.bulk(["sum"])  # type: ignore[list-item]
    client.bulk(source)  # type: ignore[call-overload]
    bulk(plain, ["1"])  # type: ignore[arg-type]
    bulk(plain, [1], retries=3)  # type: ignore[call-overload]
