"""Connections that the server closed while nobody called: they are not used again, also where the loop stood still meanwhile."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp
import pytest
from wire import Wire, both, one, settles, user_session

import rpcretry.backends.aiohttp
from rpcretry import ConnectionLostError, Delivery
from rpcretry.backends import aiohttp as backend
from rpcretry.retry import ImmediateBackoff, RetryStrategy
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


# --- closed after aiohttp took it from the pool ---


class Closing(aiohttp.TCPConnector):
    """What happens by chance before Python 3.12, every time: the server's end is read between taking the connection and writing to it."""

    taken = 0

    async def connect(self, *given: Any, **named: Any) -> aiohttp.connector.Connection:
        connection = await super().connect(*given, **named)
        self.taken += 1
        if self.taken % 2 == 0:
            assert connection.transport is not None
            connection.transport.close()
        return connection


@pytest.mark.parametrize("strategy", [None, RetryStrategy(backoff=ImmediateBackoff(attempts=1))], ids=["no strategy", "the preset"])
def test_one_that_closes_before_a_byte_was_written_is_not_sent(server: LoopbackServer, tls: Any, strategy: RetryStrategy | None) -> None:
    """So the preset sends it again, though nobody called it idempotent."""

    async def run() -> None:
        async with aiohttp.ClientSession(connector=Closing()) as session:
            client = rpcretry.backends.aiohttp.Client(server.url, session=session, ssl=tls.context, retry_strategy=strategy)
            assert await client.call("pay", 0) == [0]
            if strategy is not None:
                assert await client.call("pay", 1) == [1]
            else:
                with pytest.raises(ConnectionLostError, match="broke before the request was sent") as caught:
                    await client.call("pay", 1)
                assert caught.value.delivery is Delivery.NOT_SENT
        # Over TLS a session of aiohttp's closes its connections only some turns later.
        while server.open_connections:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.001)

    asyncio.run(run())
    assert [body["params"] for body in server.bodies] == ([[0]] if strategy is None else [[0], [1]])
