"""Connections that the server closed while nobody called: they are not used again, also where the loop stood still meanwhile."""

from __future__ import annotations

import asyncio
import time
import types
from typing import Any

import aiohttp
import pytest
from wire import Wire, both, one, settles, user_session

import rpcretry.backends.aiohttp
from rpcretry import ConnectionLostError, Delivery, RequestTimeoutError
from rpcretry.backends import aiohttp as backend
from rpcretry.retry import ImmediateBackoff, RetryStrategy
from rpcretry.testing import SILENCE, LoopbackServer

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

RETRIED = RetryStrategy(backoff=ImmediateBackoff(attempts=1))


class Closing(aiohttp.TCPConnector):
    """Before Python 3.12 aiohttp writes a turn of the loop after it took a connection, and may read the server's end in it. Here the connection
    is closed in between, every time.

    :ivar closing: how many of the next ones.
    """

    closing = 0

    def __init__(self) -> None:
        super().__init__()
        self.sockets: list[Any] = []

    async def connect(self, *given: Any, **named: Any) -> aiohttp.connector.Connection:
        connection = await super().connect(*given, **named)
        assert connection.transport is not None
        self.sockets.append(connection.transport.get_extra_info("socket"))
        if self.closing:
            self.closing -= 1
            connection.transport.close()
        return connection

    async def all_closed(self) -> None:
        """Until all are: over TLS a session closes them only some turns after it was closed."""
        async with asyncio.timeout(5):
            while any(each.fileno() >= 0 for each in self.sockets):
                await asyncio.sleep(0.001)


def pays(server: LoopbackServer, tls: Any, strategy: RetryStrategy | None, *middlewares: Any, closing: int = 0, timeout: float = 5) -> Any:
    """What a call comes to after a first one that made the connection."""

    async def run() -> Any:
        connector = Closing()
        async with aiohttp.ClientSession(connector=connector) as session:
            client = rpcretry.backends.aiohttp.Client(server.url, session=session, ssl=tls.context, retry_strategy=strategy)
            assert await client.call("first", 0) == [0]
            connector.closing = closing
            session._middlewares = middlewares
            try:
                return await client.call("pay", 1, _timeout=timeout)
            except rpcretry.RpcRetryError as problem:
                return problem
            finally:
                await session.close()
                await connector.all_closed()

    return asyncio.run(run())


def payments(server: LoopbackServer) -> int:
    return sum(body["method"] == "pay" for body in server.bodies)


def test_one_that_is_closed_before_a_byte_was_written_is_not_sent(server: LoopbackServer, tls: Any) -> None:
    problem = pays(server, tls, None, closing=1)
    assert type(problem) is ConnectionLostError
    assert "broke before the request was sent" in str(problem)
    assert problem.delivery is Delivery.NOT_SENT
    assert payments(server) == 0


def test_and_the_preset_sends_it_again_though_nobody_called_it_idempotent(server: LoopbackServer, tls: Any) -> None:
    assert pays(server, tls, RETRIED, closing=1) == [1]
    assert payments(server) == 1


# --- what a middleware of the user's session may have sent instead ---


async def replaces(request: aiohttp.ClientRequest, handler: Any) -> Any:
    await request.update_body(await request.body.as_bytes())
    return await handler(request)


class Wrapped(aiohttp.payload.Payload):
    """Hands what it wraps to a writer of its own, as those do that count or hold back."""

    _autoclose = True

    def __init__(self, value: Any) -> None:
        super().__init__(value)
        self._size = value.size

    def decode(self, *_: Any) -> str:
        raise NotImplementedError

    async def write(self, writer: Any) -> None:
        async def write(chunk: bytes) -> None:
            await writer.write(chunk)

        await self._value.write(types.SimpleNamespace(write=write))


async def wraps(request: aiohttp.ClientRequest, handler: Any) -> Any:
    await request.update_body(Wrapped(request.body))
    return await handler(request)


async def reads(request: aiohttp.ClientRequest, handler: Any) -> Any:
    await request.update_body(request.body.decode().encode())
    return await handler(request)


@pytest.mark.parametrize("middleware", [replaces, wraps, reads])
@pytest.mark.parametrize("late", [False, True], ids=["hangs up", "keeps silent"])
def test_a_body_that_somebody_else_sent_may_be_executed(middleware: Any, late: bool, tls: Any) -> None:
    def act(request: Any) -> Any:
        if request.json["method"] == "first":
            return one(request)
        return SILENCE if late else None

    with LoopbackServer(act) as server:
        problem = pays(server, tls, RETRIED, middleware, timeout=0.05 if late else 5)
        assert type(problem) is (RequestTimeoutError if late else ConnectionLostError)
        assert problem.delivery is Delivery.MAYBE_EXECUTED
        assert payments(server) == 1


def test_a_body_that_a_middleware_sent_before_may_be_executed_though_the_second_connection_is_closed(server: LoopbackServer, tls: Any) -> None:
    async def twice(request: aiohttp.ClientRequest, handler: Any) -> Any:
        response = await handler(request)
        await response.read()
        request.session.connector.closing = 1
        return await handler(request)

    problem = pays(server, tls, RETRIED, twice)
    assert type(problem) is ConnectionLostError
    assert problem.delivery is Delivery.MAYBE_EXECUTED
    assert payments(server) == 1
