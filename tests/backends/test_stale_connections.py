"""Connections that the server closed while nobody called: they are not used again, also where the loop stood still meanwhile."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from wire import Wire, both, one, settles, user_session

import rpcretry.backends.aiohttp
from rpcretry.backends import aiohttp as backend
from rpcretry.testing import LoopbackServer

STANDSTILL = 0.02


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "QUIET", STANDSTILL / 2)


@pytest.fixture(params=[False, True], ids=["http", "https"])
def server(request: pytest.FixtureRequest, tls: Any) -> Any:
    with LoopbackServer(one, tls=tls.server if request.param else None) as made:
        yield made


def closes_all(server: LoopbackServer) -> None:
    server.drop_connections()
    assert settles(lambda: server.open_connections == 0)


@both
@pytest.mark.parametrize("owned", [True, False], ids=["own session", "user's session"])
def test_a_loop_that_runs_for_each_call_only(kind: str, owned: bool, server: LoopbackServer, tls: Any) -> None:
    """asyncio.Runner.run() for every call: between them nobody reads that the server has hung up."""
    trust = tls.trust(kind) if server.tls is not None and (owned or kind == "aiohttp") else {}
    with Wire(kind, server.url, session=None if owned else user_session(kind), **trust) as client:
        if not owned and kind == "requests":
            client.session.verify = tls.path
        for number in range(2):
            assert client.call("pay", number) == [number]
            closes_all(server)
            time.sleep(STANDSTILL)
    assert [body["params"] for body in server.bodies] == [[0], [1]]
    assert server.connections == 2


def test_a_loop_that_something_else_held_up(server: LoopbackServer, tls: Any) -> None:
    """Several tasks that call as soon as it goes on, and none of them on a dead connection."""

    async def run() -> None:
        async with rpcretry.backends.aiohttp.Client(server.url, ssl=tls.context) as client:
            for turn in range(2):
                assert await asyncio.gather(*(client.call("pay", turn, number) for number in range(8))) == [[turn, number] for number in range(8)]
                closes_all(server)
                time.sleep(STANDSTILL)

    asyncio.run(run())
    assert len(server.bodies) == 16


def test_a_cancel_while_the_loop_catches_up_sends_nothing() -> None:
    async def run() -> None:
        async with rpcretry.backends.aiohttp.Client(server.url) as client:
            await client.call("first")
            client.backend._polled -= 1
            call = asyncio.ensure_future(client.call("second"))
            await asyncio.sleep(0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert await client.call("third", 3) == [3]

    with LoopbackServer(one) as server:
        asyncio.run(run())
    assert [body["method"] for body in server.bodies] == ["first", "third"]
