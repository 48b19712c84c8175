"""Checked by mypy --strict, never run: what callers get from batches."""

from __future__ import annotations

from typing import Any, assert_type

import rpcretry
from rpcretry.client import AsyncBatch, Batch, Handle


def sync(client: rpcretry.Client, request: rpcretry.Request) -> None:
    with client.batch(max_batch_size=10, concurrency=2, split_on={413}, _deadline=5) as batch:
        assert_type(batch, Batch)
        number = batch.call("m", 1, _result=int)
        anything = batch("m", a=1)
        listed = batch.send(request, _result=list[str])
        assert_type(number, Handle[int])
        assert_type(anything, Handle[Any])
        assert_type(listed, Handle[list[str]])
        batch.notify("m", 1)
        batch.proxy.a.b(1)
    assert_type(number.result(), int)
    assert_type(number.response, rpcretry.Response[int])
    assert_type(number.error, Exception | None)
    assert_type(batch.results(), list[Any])
    assert_type(batch.responses, rpcretry.BatchResponse)
    assert_type(batch.failed, list[Handle[Any]])
    for handle in batch:
        assert_type(handle, Handle[Any])


async def asynchronous(client: rpcretry.AsyncClient) -> None:
    async with client.batch(max_batch_bytes=None) as batch:
        assert_type(batch, AsyncBatch)
        number = batch.call("m", 1, _result=int)
    assert_type(number.result(), int)
