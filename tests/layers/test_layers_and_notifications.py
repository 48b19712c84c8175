"""What a layer learns of the server from an exchange in which a notification went along: what it learns from the calls."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from rpcretry import AdaptiveDelay, AsyncClient, BatchRequest, CircuitBreaker, CircuitState, Request, RetryBudget, RpcRetryError
from rpcretry.testing import http
from rpcretry.transport import Exchange, Reply
from tests.support import Rig, both_drivers

DOWN = {"code": -32000, "message": "upstream is down"}


def of_each(exchange: Exchange) -> Reply:
    return Reply(json.dumps([{"jsonrpc": "2.0", "id": id, "error": DOWN} for id in exchange.ids]).encode(), 503)


def of_all(exchange: Exchange) -> Reply:
    return Reply(json.dumps({"jsonrpc": "2.0", "id": None, "error": DOWN}).encode(), 503)


def of_none(exchange: Exchange) -> Reply:
    return Reply(b"[]")


def well(exchange: Exchange) -> Reply:
    return Reply(json.dumps([{"jsonrpc": "2.0", "id": id, "result": 1} for id in exchange.ids]).encode() if exchange.ids else b"")


PAY, LOG = Request("pay", [1]), Request("log", [1], id=None)


def tried(rig: Rig, *requests: Request) -> None:
    with contextlib.suppress(RpcRetryError):
        rig.send(BatchRequest(*requests))


@both_drivers
@pytest.mark.parametrize("requests", [(PAY,), (PAY, LOG), (LOG, PAY), (LOG, PAY, LOG, PAY)])
@pytest.mark.parametrize("down", [of_each, of_all, of_none, http(503)])
@pytest.mark.parametrize("key", [None, lambda request: "node"])
def test_a_notification_hides_no_outage(driver: str, requests: tuple[Request, ...], down: Any, key: Callable[[Any], str] | None) -> None:
    breaker, budget, adaptive = CircuitBreaker(failure_threshold=3, key=key), RetryBudget(10, refund=1.0), AdaptiveDelay(alpha=0.5)
    while budget.spend():
        pass
    rig = Rig(driver, *[down] * 3, layers=[adaptive, budget, breaker])
    for _ in range(3):
        tried(rig, *requests)
    stats = (breaker["node"] if key else breaker).stats
    assert (stats.successful, stats.failed, stats.opened_count) == (0, 3, 1)
    assert budget.level == 0.0
    # To this layer a server that answers is well.
    assert adaptive.success_rate == (1.0 if down in (of_each, of_all) else 0.125)


@both_drivers
@pytest.mark.parametrize(("requests", "successes"), [((PAY, LOG), 1), ((PAY, LOG, PAY), 2), ((LOG, LOG), 2), ((LOG,), 1)])
def test_what_is_answered_is_a_success(driver: str, requests: tuple[Request, ...], successes: int) -> None:
    breaker, budget = CircuitBreaker(failure_threshold=1), RetryBudget(10, refund=1.0)
    while budget.spend():
        pass
    rig = Rig(driver, well, layers=[budget, breaker])
    rig.send(BatchRequest(*requests))
    assert (breaker.stats.successful, breaker.stats.failed) == (1, 0)
    # Notifications alone were delivered, which is all that there is to know of them.
    assert budget.level == successes


@pytest.mark.parametrize("notified", [False, True])
def test_where_calls_are_joined_it_hides_none_either(notified: bool) -> None:
    class Backend:
        async def exchange(self, exchange: Exchange, /) -> Reply:
            return of_each(exchange) if len(exchange.requests) > 1 else of_all(exchange)

        async def aclose(self) -> None: ...

    breaker = CircuitBreaker(failure_threshold=3)

    async def act() -> None:
        async with AsyncClient(Backend(), joining=True, layers=breaker) as client:
            for _ in range(3):
                notes = [client.notify("log")] if notified else []
                await asyncio.gather(*notes, client.call("pay"), client.call("ship"), return_exceptions=True)

    asyncio.run(act())
    assert (breaker.state, breaker.stats.successful, breaker.stats.failed) == (CircuitState.OPEN, 0, 3)
